#include <elastic/modes/forgets.hpp>

#include <doctest/doctest.h>

#include "support/modes.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

/// No query at `position` or later, alone or among a few, sees a key that was forgotten.
template <class M>
std::string remembered(M const& mode, dice& r) {
  problem p;
  p.k_len = r.between(1, 900);
  p.query_heads = 4;
  p.kv_heads = 2;
  p.layer = r.below(3);
  p.causal = !r.one_in(3);
  try {
    check_mode(mode, p);
  } catch (error const&) {
    p.causal = true;
  }
  int const position = r.below(p.k_len + 1), head = r.below(4), route = r.below(routes<M>);
  key_range const gone = forgotten_by(mode, locate(p, 0, head, route), position);
  if (gone.size() > 0 && (gone.begin < 0 || gone.end > p.k_len)) return "keys that are not held are forgotten";
  for (int later = position; later < position + 400; later += r.between(1, 40)) {
    problem then = p;
    then.q_len = r.between(1, 300);
    then.k_len = maximum(later + 1 + r.below(then.q_len), p.k_len);  // the query may not be the call's last
    where const w = locate(then, 0, head, route);
    int const q = later - w.shift();
    if (q < 0 || q >= then.q_len) continue;
    for (int k = gone.begin; k < gone.end; ++k)
      if (w.admits(q, k) && mode.keeps(w, q, k))
        return "position " + std::to_string(later) + " sees key " + std::to_string(k) + ", forgotten at " +
               std::to_string(position);
  }
  return {};
}

}  // namespace

TEST_CASE_TEMPLATE("no later query sees what was forgotten", M, full, sliding_window, streaming, triangle,
                   predicate<striped>, intersection_of<sliding_window, streaming>, union_of<streaming, sliding_window>,
                   union_of<predicate<striped>, sliding_window>,
                   union_of<intersection_of<streaming, sliding_window>, full>, hybrid<full, streaming>,
                   scored<hybrid<full, streaming>, alibi>, scored<hybrid<sink_logits<streaming>, full>, soft_cap>) {
  for (std::uint64_t number = 0; number < 2000; ++number) {
    dice r(5, number);
    problem p;
    p.k_len = 900;
    p.query_heads = 4;
    arena memory;
    std::string const broken = remembered(draw<M>{}(r, p, memory), r);
    REQUIRE_MESSAGE(broken.empty(), name_of_mode<M>() << ": " << broken);
  }
}

TEST_CASE("what windows forget") {
  where w;
  w.k_len = 1000;
  auto const same = [](key_range a, int begin, int end) { return a.begin == begin && a.end == end; };
  CHECK(same(forgotten_by(sliding_window{100}, w, 999), 0, 900));
  CHECK(same(forgotten_by(streaming{10, 100, granularity::token}, w, 999), 10, 900));
  CHECK(same(forgotten_by(streaming{1, 2}, w, 999), 128, 768));  // position 999 lies in block 7
  CHECK(same(forgotten_by(streaming{1, 2}, w, 1024), 128, 896));
  CHECK(forgotten_by(full{}, w, 999).size() == 0);
  CHECK(forgotten_by(union_of<sliding_window, full>{{100}, {}}, w, 999).size() == 0);
  CHECK(same(forgotten_by(intersection_of<sliding_window, full>{{100}, {}}, w, 999), 0, 900));
  CHECK(same(forgotten_by(union_of<sliding_window, streaming>{{100}, {1, 2}}, w, 999), 128, 768));
  w.route = 1;
  CHECK(same(forgotten_by(hybrid<full, sliding_window>{{}, {100}}, w, 999), 0, 900));
}
