#include <elastic/metrics/kept_mass.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

using namespace elastic;

namespace {

constexpr float none = -std::numeric_limits<float>::infinity();

struct inputs {
  int rows, query_heads, kv_heads;
  std::vector<float> q, k;

  inputs(int the_rows, int the_query_heads, int the_kv_heads)
      : rows(the_rows),
        query_heads(the_query_heads),
        kv_heads(the_kv_heads),
        q(static_cast<std::size_t>(rows * query_heads * 32)),
        k(static_cast<std::size_t>(rows * kv_heads * 32)) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (float& x : q) x = normal(random);
    for (float& x : k) x = normal(random);
  }
  heads_view<float const> queries() const { return {q.data(), {1, rows, query_heads, 32}}; }
  heads_view<float const> keys() const { return {k.data(), {1, rows, kv_heads, 32}}; }
};

/// By the definition, pair for pair.
template <class M>
std::vector<double> brute_force(M const& mode, inputs const& in, std::vector<std::int32_t> const& routes,
                                options const& o) {
  problem const p = make_problem(in.queries(), in.keys(), o);
  std::vector<double> masses;
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, routes[static_cast<std::size_t>(b * p.query_heads + h)]);
      auto const q_rows = rows_of(in.queries(), p.cu_seqlens_q, b, h),
                 k_rows = rows_of(in.keys(), p.cu_seqlens_k, b, w.kv_head);
      double sum = 0;
      for (int q = 0; q < w.q_len; ++q) {
        double kept = 0, all = 0;
        for (int k = 0; k < w.k_len; ++k) {
          if (!w.admits(q, k)) continue;
          double dot = 0;
          for (int d = 0; d < 32; ++d) dot += static_cast<double>(q_rows[q][d]) * static_cast<double>(k_rows[k][d]);
          double const weight = std::exp(score_of(mode, w, dot * static_cast<double>(p.softmax_scale), q, k));
          all += weight;
          if (mode.keeps(w, q, k)) kept += weight;
        }
        sum += kept / all;
      }
      masses.push_back(w.q_len > 0 ? sum / w.q_len : 1);
    }
  return masses;
}

template <class M>
void agrees(M const& mode, inputs const& in, std::vector<std::int32_t> const& routes, options const& o = {}) {
  std::int64_t const batch = static_cast<std::int64_t>(routes.size()) / in.query_heads;
  auto const got = kept_mass(attention(mode), in.queries(), in.keys(),
                             const_assignment_view(routes.data(), {batch, in.query_heads}), o);
  auto const expected = brute_force(mode, in, routes, o);
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(1e-5));
}

}  // namespace

TEST_CASE("from two LSEs") {
  std::vector<float> const kept{std::log(1.f), std::log(2.f), none, none}, all{std::log(4.f), std::log(2.f), 0.f, none};
  lse_view const a(const_cast<float*>(kept.data()), {1, 1, 4}), b(const_cast<float*>(all.data()), {1, 1, 4});
  CHECK(kept_mass(a, b)[0] == doctest::Approx((0.25 + 1 + 0) / 3));  // the last row sees no key
  CHECK(kept_mass(a, b, {}, 0, 2)[0] == doctest::Approx(0.625));
  CHECK(kept_mass(a, b, {}, 3, 4)[0] == 1);
  std::vector<std::int32_t> const starts{0, 1, 1, 4};
  auto const packed = kept_mass(a, b, starts);
  REQUIRE(packed.size() == 3);
  CHECK(packed[0] == doctest::Approx(0.25));
  CHECK(packed[1] == 1);
  CHECK(packed[2] == doctest::Approx(0.5));
  CHECK(mean_kept_mass(packed) == doctest::Approx(1.75 / 3));
  lse_view const shorter(const_cast<float*>(all.data()), {1, 1, 3});
  CHECK_THROWS_AS(kept_mass(a, shorter), error);
  CHECK_THROWS_AS(kept_mass(a, b, {}, -9), error);
  CHECK_THROWS_AS(kept_mass(a, b, std::vector<std::int32_t>{0, 500, 4}), error);
  lse_view const absent(nullptr, {1, 1, 4}), negative(a.data, {-1, 1, 4});
  CHECK_THROWS_AS(kept_mass(absent, absent), error);
  CHECK_THROWS_AS(kept_mass(negative, negative), error);
}

TEST_CASE("of a mode: the softmax's weight on what keeps admits") {
  inputs const in(200, 4, 2);
  std::vector<std::int32_t> const routes{0, 1, 1, 0};
  agrees(hybrid<full, streaming>{full{}, streaming{4, 20, granularity::token}}, in, routes);
  agrees(hybrid<sliding_window, streaming>{sliding_window{30}, streaming{4, 20, granularity::token}}, in, routes);
  agrees(sliding_window{30}, in, {0, 0, 0, 0}, {.causal = false});
  agrees(scored{sliding_window{30}, alibi{}}, in, {0, 0, 0, 0});
  std::vector<std::int32_t> const starts{0, 70, 70, 200};
  agrees(hybrid<full, sliding_window>{full{}, sliding_window{9}}, in, {0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1},
         {.cu_seqlens_q = starts, .cu_seqlens_k = starts});
}

TEST_CASE("of no sequences, and of sequences without rows") {
  heads_view<float const> const none(nullptr, {0, 64, 2, 32}), q(nullptr, {1, 0, 2, 32});
  std::vector<std::int32_t> const routes{0, 0};
  CHECK(kept_mass(attention(moba{}), none, none, const_assignment_view(nullptr, {0, 2})).empty());
  CHECK(kept_mass(attention(moba{}), q, q, const_assignment_view(routes.data(), {1, 2})) == std::vector<double>{1, 1});
}

TEST_CASE("full attention keeps everything") {
  inputs const in(130, 2, 1);
  std::vector<std::int32_t> const routes{0, 0};
  for (double const mass :
       kept_mass(attention(full{}), in.queries(), in.keys(), const_assignment_view(routes.data(), {1, 2})))
    CHECK(mass == doctest::Approx(1).epsilon(1e-12));
}
