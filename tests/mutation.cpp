// Who watches the watchmen: each kind of mistake, made on purpose, is caught by the laws, by the pictures
// drawn by hand, or by the random problems; and the right modes pass the same checks.
#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>
#include "support/mutants.hpp"
#include "support/random_problem.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

/// The first broken law among many drawn places and shapes, tightness included where asked.
template <class Mutant, class M>
std::string caught_by_laws(M const& original, bool tight = false) {
  for (int n = 0; n < 400; ++n) {
    dice r(3, static_cast<std::uint64_t>(n));
    where const w = place(r.between(1, 200), r.between(1, 200), !r.one_in(3));
    tile_shape const shape = law_shapes[r.below(static_cast<int>(std::size(law_shapes)))];
    Mutant mutant;
    mutant.original = original;
    std::string const broken = tight ? broken_tightness(mutant, w, shape) : broken_law(mutant, w, shape);
    if (!broken.empty()) return broken;
  }
  return {};
}

/// How many of some random problems go wrong when the mutant runs and the original is asked.
template <template <class> class Mutant, class M>
int caught_by_random_problems(int problems) {
  int wrong = 0;
  for (int number = 0; number < problems; ++number) {
    std::string const failure = fails_random_problem<M, float>(5, number, [](M const& original) {
      Mutant<M> mutant;
      mutant.original = original;
      return mutant;
    });
    wrong += failure.empty() ? 0 : 1;
  }
  return wrong;
}

template <template <class> class Mutant>
bool laws_catch(bool tight = false) {
  bool const window = !caught_by_laws<Mutant<sliding_window>>(sliding_window{20}, tight).empty();
  bool const token = !caught_by_laws<Mutant<streaming>>(streaming{6, 20, granularity::token}, tight).empty();
  return window && token;
}

template <template <class> class Mutant>
std::string picture_catches() {
  Mutant<sliding_window> mutant;
  mutant.original = {3};
  return picture_differs(mutant, place(5, 7), {"###....", ".###...", "..###..", "...###.", "....###"});
}

}  // namespace

TEST_CASE("no mutation, no complaint") {
  CHECK(caught_by_laws<mutant_of<sliding_window>>(sliding_window{20}, true) == "");
  CHECK(caught_by_laws<mutant_of<streaming>>(streaming{6, 20, granularity::token}, true) == "");
  CHECK(picture_catches<mutant_of>() == "");
  CHECK(caught_by_random_problems<mutant_of, sliding_window>(60) == 0);
  CHECK(caught_by_random_problems<mutant_of, streaming>(60) == 0);
}

TEST_CASE("a wrong tile count is caught by the laws, and by random problems where tiles are missing") {
  CHECK(laws_catch<fewer_tiles>());
  CHECK(caught_by_random_problems<fewer_tiles, sliding_window>(60) >= 10);
  CHECK(caught_by_random_problems<fewer_tiles, full>(60) >= 10);
  CHECK(laws_catch<more_tiles>(true));
}

TEST_CASE("a wrong coverage is caught by the laws and by random problems") {
  CHECK(laws_catch<careless>());
  CHECK(caught_by_random_problems<careless, sliding_window>(60) >= 10);
  CHECK(caught_by_random_problems<careless, streaming>(60) >= 10);
}

TEST_CASE("a coverage that is right but dear is caught by tightness alone") {
  CHECK(!laws_catch<distrustful>());
  CHECK(laws_catch<distrustful>(true));
}

TEST_CASE("a wrong predicate is caught by pictures and random problems, and by the laws where tiles disagree") {
  CHECK(picture_catches<forgets_itself>() == "query 0: ##....., expected ###....");
  CHECK(laws_catch<forgets_itself>());
  CHECK(caught_by_random_problems<forgets_itself, streaming>(60) >= 10);
}

TEST_CASE("an answer for many keys at once that is not that of keeps is caught by the laws and by random problems") {
  CHECK(laws_catch<greedy_bits>());
  CHECK(caught_by_random_problems<greedy_bits, sliding_window>(60) >= 10);
}

TEST_CASE("a key that is forgotten too early is caught by the laws") { CHECK(laws_catch<eager>()); }

TEST_CASE("a swapped alignment, consistent in tiles and keeps, is caught by pictures and random problems") {
  CHECK(picture_catches<top_left>() == "query 1: ####..., expected .###...");
  CHECK(caught_by_random_problems<top_left, sliding_window>(60) >= 10);
}

TEST_CASE("a backend that writes too much, too little or not at all is told so") {
  dice r(1, 1);
  random_problem<float> x(r, 1);
  auto const judged = [&] {
    return misjudged<float>(full{}, x.p, x.q.view, plain_keys<float>{x.k.view, x.v.view}, x.out.view, x.lse.view,
                            x.assignment);
  };
  REQUIRE(x.out.view.size() > 0);
  CHECK(x.touched() == "");
  CHECK(judged().starts_with("out is not finite or was not written"));
  attention attend{full{}, fixed_router{}, reference{}};
  attend.forward(x.q.view, x.k.view, x.v.view, x.out.view, x.lse.view, x.assignment, {}, x.o);
  CHECK(judged() == "");
  x.out.view(0, x.p.q_begin, 0, 3) += 0.01f;
  CHECK(judged().starts_with("out is off by"));
  for (auto& value : x.out.memory)
    if (poisoned(value)) {
      value = 0;
      break;
    }
  CHECK(x.touched() == "out was written outside the problem's rows");
}
