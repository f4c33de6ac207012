// The oracle against sums worked out by hand: everything else is judged by it.
#include <elastic/reference/forward.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <elastic/attention.hpp>

using namespace elastic;

namespace {

constexpr int d = 32;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// Queries are q[i]·e₀, keys k[j]·e₀: the logits are q[i]·k[j]. Values are v[j] + dimension.
struct line {
  std::vector<float> q, k, v;
  std::vector<std::int32_t> routes;
  problem p;

  line(std::vector<float> const& qs, std::vector<float> const& ks, std::vector<float> const& vs, bool causal) {
    for (float x : qs)
      for (int i = 0; i < d; ++i) q.push_back(i == 0 ? x : 0);
    for (float x : ks)
      for (int i = 0; i < d; ++i) k.push_back(i == 0 ? x : 0);
    for (float x : vs)
      for (int i = 0; i < d; ++i) v.push_back(x + static_cast<float>(i));
    options o;
    o.causal = causal;
    o.softmax_scale = 1.f;
    p = make_problem<float>(queries(), {k.data(), {1, n(k), 1, d}}, o);
    routes = {0};
  }
  static std::int64_t n(std::vector<float> const& rows) { return static_cast<std::int64_t>(rows.size()) / d; }
  heads_view<float const> queries() const { return {q.data(), {1, n(q), 1, d}}; }
  plain_keys<float> keys() const { return {{k.data(), {1, n(k), 1, d}}, {v.data(), {1, n(v), 1, d}}}; }

  struct row {
    double out, lse;
  };
  template <class M>
  std::vector<row> attend(M const& mode) const {
    std::vector<row> rows;
    reference_rows<double>(mode, p, queries(), keys(), const_assignment_view(routes.data(), {1, 1}),
                           [&](int, int, int, double const* out, double lse) {
                             // Of the weights, 1 less what a sink took.
                             double const shared =
                                 lse > -infinity ? 1 - std::exp(double(sink_logit_of(mode, {})) - lse) : 0;
                             for (int i = 1; i < d; ++i) CHECK(out[i] - out[0] == doctest::Approx(shared * i));
                             rows.push_back({out[0], lse});
                           });
    return rows;
  }
};

}  // namespace

TEST_CASE("softmax of three logits") {
  auto const rows = line({1}, {0, 1, 2}, {10, 20, 30}, true).attend(full{});
  double const e = std::exp(1.0), total = 1 + e + e * e;
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].out == doctest::Approx((10 + 20 * e + 30 * e * e) / total).epsilon(1e-14));
  CHECK(rows[0].lse == doctest::Approx(std::log(total)).epsilon(1e-14));
}

TEST_CASE("causality cuts at the bottom right; a row without keys is 0 and −∞") {
  auto const rows = line({1, 1, 1}, {5, 7}, {10, 20}, true).attend(full{});
  CHECK(rows[0].out == 0);
  CHECK(rows[0].lse == -infinity);
  CHECK(rows[1].out == doctest::Approx(10));
  CHECK(rows[1].lse == doctest::Approx(5));
  CHECK(rows[2].lse == doctest::Approx(std::log(std::exp(5.) + std::exp(7.))).epsilon(1e-14));
}

TEST_CASE("huge logits neither overflow nor vanish") {
  auto const rows = line({1000}, {1, 1, -1}, {10, 20, 30}, false).attend(full{});
  CHECK(rows[0].out == doctest::Approx(15));
  CHECK(rows[0].lse == doctest::Approx(1000 + std::log(2.)).epsilon(1e-14));
}

TEST_CASE("only kept keys count") {
  auto const rows = line({0, 0, 0}, {9, 9, 9}, {10, 20, 30}, true).attend(sliding_window{2});
  CHECK(rows[0].out == doctest::Approx(10));
  CHECK(rows[1].out == doctest::Approx(15));
  CHECK(rows[2].out == doctest::Approx(25));
  CHECK(rows[2].lse == doctest::Approx(std::log(2.)));
}

TEST_CASE("a hook changes the logits, a sink logit joins the sum") {
  auto const capped = line({1}, {100, 0}, {10, 20}, false).attend(scored{full{}, soft_cap{1.f}});
  CHECK(capped[0].lse == doctest::Approx(std::log(std::exp(1.) + 1)).epsilon(1e-12));
  float const logit = 2;
  auto const sunk = line({1, 1}, {1}, {10}, true).attend(sink_logits{full{}, &logit});
  CHECK(sunk[0].out == 0);  // no key
  CHECK(sunk[0].lse == 2);
  CHECK(sunk[1].out == doctest::Approx(10 * std::exp(1.) / (std::exp(1.) + std::exp(2.))).epsilon(1e-12));
  CHECK(sunk[1].lse == doctest::Approx(std::log(std::exp(1.) + std::exp(2.))).epsilon(1e-12));
}

TEST_CASE("the backend rounds once, and writes what the rows say") {
  line const x({1, 2}, {0.5, 1, 2}, {10, 20, 30}, true);
  std::vector<float> out(2 * d, -1), lse(2, -1);
  attention const attend{full{}, fixed_router{}, reference{}};
  options o;
  o.softmax_scale = 1.f;
  attend(x.queries(), x.keys().k, x.keys().v, {out.data(), {1, 2, 1, d}}, {lse.data(), {1, 1, 2}}, o);
  auto const rows = x.attend(full{});
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(out[i * d] == static_cast<float>(rows[i].out));
    CHECK(lse[i] == static_cast<float>(rows[i].lse));
  }
}

TEST_CASE("rounding to a storage type") {
  detail::round_to<bfloat16> const round;
  CHECK(round(1.001) == 1.0);
  CHECK(round(3.14159f) == 3.140625f);
  CHECK(detail::round_to<float>{}(0.1) == static_cast<double>(0.1f));
  CHECK(detail::exact{}(0.1) == 0.1);
}
