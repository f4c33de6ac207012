#include <elastic/routers/oracle_router.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <elastic/attention.hpp>

using namespace elastic;

namespace {

constexpr int length = 300, kv_heads = 3, group = 2, dim = 32, window = 40;
using mode_type = hybrid<full, sliding_window>;

/// KV head 0 attends to close keys, head 1 to the first key, head 2 to close keys with its first query head only.
struct inputs {
  std::vector<float> q, k, v;
  int rows;

  explicit inputs(int the_rows = length) : rows(the_rows) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    q.resize(static_cast<std::size_t>(rows * kv_heads * group * dim), 0.f);
    k.resize(static_cast<std::size_t>(rows * kv_heads * dim), 0.f);
    v.resize(k.size());
    for (float& x : v) x = normal(random);
    // Keys turn with their position, so that q(i)·k(j) = scale·cos((i − j)·ω) falls off with distance; component 2
    // marks the first key.
    for (int i = 0; i < rows; ++i) {
      for (int h = 0; h < kv_heads; ++h) {
        float* const key = &k[static_cast<std::size_t>((i * kv_heads + h) * dim)];
        key[0] = std::cos(static_cast<float>(i) * 0.01f);
        key[1] = std::sin(static_cast<float>(i) * 0.01f);
        key[2] = i == 0 ? 1.f : 0.f;
      }
      for (int h = 0; h < kv_heads * group; ++h) {
        float* const query = &q[static_cast<std::size_t>((i * kv_heads * group + h) * dim)];
        bool const close = h < 2 || h == 4;
        query[0] = close ? 700.f * std::cos(static_cast<float>(i) * 0.01f) : 0.f;
        query[1] = close ? 700.f * std::sin(static_cast<float>(i) * 0.01f) : 0.f;
        query[2] = close ? 0.f : 100.f;
      }
    }
  }
  heads_view<float const> queries() const { return {q.data(), {1, rows, kv_heads * group, dim}}; }
  heads_view<float const> keys() const { return {k.data(), {1, rows, kv_heads, dim}}; }
  heads_view<float const> values() const { return {v.data(), {1, rows, kv_heads, dim}}; }
  route_inputs<float> all() const { return {.k_pre_rope = {}, .q = queries(), .k = keys(), .v = values()}; }
};

template <class Backend, class Mode>
std::vector<std::int32_t> route(Mode const& mode, oracle_router const& router, route_inputs<float> const& in,
                                int batch = 1, options const& o = {}) {
  std::vector<std::int32_t> routes(static_cast<std::size_t>(batch * kv_heads * group), -1);
  attention<Mode, oracle_router, Backend>(mode, router)
      .route(in, assignment_view(routes.data(), {batch, kv_heads * group}), {}, o);
  return routes;
}

}  // namespace

TEST_CASE_TEMPLATE("a KV head goes sparse where all its query heads lose no more than the tolerance", Backend, cpu,
                   reference) {
  inputs const in;
  mode_type const mode{full{}, sliding_window{window}};
  CHECK(route<Backend>(mode, {0.05}, in.all()) == std::vector<std::int32_t>{1, 1, 0, 0, 0, 0});
  CHECK(route<Backend>(mode, {0.05, error_measure::relative_maximum}, in.all()) ==
        std::vector<std::int32_t>{1, 1, 0, 0, 0, 0});
  CHECK(route<Backend>(mode, {0.}, in.all()) == std::vector<std::int32_t>{0, 0, 0, 0, 0, 0});
  CHECK(route<Backend>(mode, {1e9}, in.all()) == std::vector<std::int32_t>{1, 1, 1, 1, 1, 1});
}

TEST_CASE_TEMPLATE("the tolerance lies between the heads' errors", Backend, cpu, reference) {
  inputs const in;
  mode_type const mode{full{}, sliding_window{window}};
  auto const errors = detail::route_errors(Backend{}, mode, in.all(), make_problem(in.queries(), in.keys()));
  REQUIRE(errors.size() == 6);
  // Against what the front door computes in two calls.
  std::vector<float> dense(in.q.size()), sparse(in.q.size());
  heads_view<float> const a(dense.data(), {1, length, 6, dim}), b(sparse.data(), {1, length, 6, dim});
  attention<full, fixed_router, Backend>{}(in.queries(), in.keys(), in.values(), a);
  attention<sliding_window, fixed_router, Backend>{sliding_window{window}}(in.queries(), in.keys(), in.values(), b);
  auto const expected = output_errors(b, a);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(errors[i].relative_l2 == expected[i].relative_l2);
    CHECK(errors[i].maximum == expected[i].maximum);
  }
  double const worst = std::max(errors[2].relative_l2, errors[3].relative_l2);
  CHECK(route<Backend>(mode, {worst}, in.all())[2] == 1);
  CHECK(route<Backend>(mode, {worst * 0.999}, in.all())[2] == 0);
}

TEST_CASE_TEMPLATE("a sparse mode that selects is selected first, in any dtype", Element, float, half, bfloat16) {
  inputs const in;
  auto const narrow = [](std::vector<float> const& from) {
    std::vector<Element> to;
    for (float const x : from) to.push_back(Element(x));
    return to;
  };
  auto const q = narrow(in.q), k = narrow(in.k), v = narrow(in.v);
  heads_view<Element const> const queries(q.data(), {1, length, 6, dim}), keys(k.data(), {1, length, 3, dim}),
      values(v.data(), {1, length, 3, dim});
  using selecting = hybrid<full, antidiagonal>;
  attention const attend(selecting{}, oracle_router{1e-3});
  std::vector<std::int32_t> routes(6, -1);
  attend.route(route_inputs<Element>{.k_pre_rope = {}, .q = queries, .k = keys, .v = values},
               assignment_view(routes.data(), {1, 6}), {});
  std::vector<Element> dense(q.size()), sparse(q.size());
  heads_view<Element> const a(dense.data(), {1, length, 6, dim}), b(sparse.data(), {1, length, 6, dim});
  attention(full{})(queries, keys, values, a);
  attention(antidiagonal{})(queries, keys, values, b);
  auto const errors = output_errors(b, a);
  for (std::size_t h = 0; h < 6; ++h) {
    bool const within = errors[h / 2 * 2].relative_l2 <= 1e-3 && errors[h / 2 * 2 + 1].relative_l2 <= 1e-3;
    CHECK(routes[h] == within);
  }
  CHECK(std::ranges::count(routes, 0) > 0);
  CHECK(std::ranges::count(routes, 1) > 0);
}

TEST_CASE("packed sequences are judged one by one") {
  inputs const in;
  // A sequence shorter than the window loses nothing.
  std::vector<std::int32_t> const starts{0, 30, 300};
  auto const routes = route<cpu>(mode_type{full{}, sliding_window{window}}, {0.05}, in.all(), 2,
                                 {.cu_seqlens_q = starts, .cu_seqlens_k = starts});
  for (int h = 0; h < 6; ++h) CHECK(routes[static_cast<std::size_t>(h)] == 1);
  CHECK(routes[8] == 0);
}

TEST_CASE("NaN is never within tolerance") {
  inputs in;
  in.v[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK(route<cpu>(mode_type{full{}, sliding_window{window}}, {1e9}, in.all())[0] == 0);
}

TEST_CASE("a mode with one route has nothing to decide") {
  inputs const in;
  CHECK(route<cpu>(full{}, {1.}, in.all()) == std::vector<std::int32_t>(6, 0));
}

TEST_CASE("the oracle names the tensor that it lacks") {
  inputs const in;
  mode_type const mode{full{}, sliding_window{window}};
  auto const message = [&](route_inputs<float> const& given, oracle_router const& router = {}) -> std::string {
    try {
      route<cpu>(mode, router, given);
    } catch (error const& e) {
      return e.what();
    }
    return "nothing thrown";
  };
  CHECK(message({.q = in.queries(), .k = in.keys()}).starts_with("elastic: v: got no tensor"));
  CHECK(message({.k = heads_view<float const>(in.k.data(), {1, length, kv_heads, dim}), .v = in.values()})
            .starts_with("elastic: q: got no tensor"));
  CHECK(
      message({.k_pre_rope = in.keys(), .q = in.queries(), .v = in.values()}).starts_with("elastic: k: got no tensor"));
  CHECK(message(in.all(), {-1.}).starts_with("elastic: oracle_router.tolerance: got -1"));
  CHECK(message(in.all(), {std::numeric_limits<double>::quiet_NaN()})
            .starts_with("elastic: oracle_router.tolerance: got nan"));
  CHECK(message(in.all(), {0.1, static_cast<error_measure>(99)}).starts_with("elastic: oracle_router.measure: got 99"));
}
