// Break-even against numbers worked out by hand.
#include <elastic/selectors/cost_model.hpp>

#include <doctest/doctest.h>

#include <limits>

using namespace elastic;

namespace {

problem shape(int q_len, int k_len, bool causal = true, int query_heads = 1) {
  problem p;
  p.q_len = q_len;
  p.k_len = k_len;
  p.causal = causal;
  p.query_heads = query_heads;
  return p;
}

constexpr cost_model costs{
    .select = .1f, .select_row = .25f, .select_once = 2, .attend_row = .125f, .listed = 1.25f, .partial = 2.5f};

}  // namespace

TEST_CASE("pairs that causality leaves, aligned to the bottom right") {
  CHECK(cost_model::pairs_of(shape(4, 4)) == 1 + 2 + 3 + 4);
  CHECK(cost_model::pairs_of(shape(4, 6)) == 3 + 4 + 5 + 6);
  CHECK(cost_model::pairs_of(shape(4, 2)) == 1 + 2);
  CHECK(cost_model::pairs_of(shape(4, 6, false)) == 24);
  CHECK(cost_model::pairs_of(shape(0, 6)) == 0);
  CHECK(cost_model::pairs_of(shape(6, 0)) == 0);
}

TEST_CASE("before selection: the density at which both cost the same") {
  // 20 pairs and 8 rows: 2 + 8 · 0.25 + 0.1 · 20 + 8 · 0.125 + 1.25 · x · 20 = 20 where x = 0.52.
  CHECK(costs.break_even(shape(4, 4, true, 2), costs.listed) == doctest::Approx(0.52));
  CHECK(costs.break_even(shape(4, 4, true, 2), costs.partial) == doctest::Approx(0.26));
  // 48 pairs: 2 + 8 · 0.25 + 0.1 · 48 + 8 · 0.125 + 1.25 · x · 48 = 48.
  CHECK(costs.break_even(shape(4, 6, false, 2), costs.listed) == doctest::Approx(38.2 / 60));
  // One query: selection by itself costs more than attending to two keys.
  CHECK(costs.break_even(shape(1, 2), costs.listed) < 0);
  CHECK(costs.break_even(shape(0, 0), costs.listed) == 1);
  // Without overheads selection always pays, and lists that cost nothing more break even at every pair.
  CHECK(cost_model{.listed = 1}.break_even(shape(100, 100), 1) == 1);
}

TEST_CASE("longer sequences break even at higher densities") {
  double before = -1e9;
  for (int s = 128; s <= 1 << 20; s *= 2) {
    double const now = costs.break_even(shape(s, s), costs.listed);
    CHECK(now > before);
    before = now;
  }
  CHECK(before < (1 - .1) / 1.25);
}

TEST_CASE("after selection: what is listed against what full attention visits") {
  cost_model const c{.attend_row = 32, .listed = 1.25f, .partial = 2};
  CHECK(!c.prefers_dense({10, 4, 2, 2}, 64));  // 5 + 4 + 2 · 32 / 64 = 10
  CHECK(c.prefers_dense({10, 4, 2, 3}, 64));
  CHECK(c.prefers_dense({10, 5, 2, 2}, 64));
  CHECK(c.prefers_dense({9, 4, 2, 2}, 64));
  CHECK(!c.prefers_dense({10, 4, 2, 3}, 128));
  CHECK(!cost_model{.listed = 1}.prefers_dense({10, 10, 0, 4}, 128));
  CHECK(!cost_model{.listed = 1}.prefers_dense({}, 128));
}

TEST_CASE("costs that are none are refused") {
  CHECK_NOTHROW(costs.check(true));
  CHECK_NOTHROW(cost_model{.listed = 1}.check(false));
  CHECK_THROWS_WITH_AS(cost_model{}.check(false), doctest::Contains("costs_on(cpu{}, selector)"), error);
  CHECK_THROWS_AS(cost_model{.listed = 1}.check(true), error);
  for (float const bad : {-1.f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (auto const cost : {&cost_model::select, &cost_model::select_row, &cost_model::select_once,
                            &cost_model::attend_row, &cost_model::listed, &cost_model::partial}) {
      cost_model spoiled = costs;
      spoiled.*cost = bad;
      CHECK_THROWS_AS(spoiled.check(true), error);
    }
  }
}
