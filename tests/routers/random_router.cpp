#include <elastic/routers/random_router.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <elastic/attention.hpp>

using namespace elastic;

namespace {

std::vector<std::int32_t> route(random_router router, int batch, int kv_heads, int group, int layer = 0) {
  std::vector<float> memory(static_cast<std::size_t>(batch * kv_heads * 32));
  std::vector<std::int32_t> routes(static_cast<std::size_t>(batch * kv_heads * group), -1);
  attention<hybrid<full, streaming>, random_router>({}, router)
      .route(heads_view<float const>(memory.data(), {batch, 1, kv_heads, 32}),
             assignment_view(routes.data(), {batch, kv_heads * group}), {}, {.layer = layer});
  return routes;
}

}  // namespace

TEST_CASE("draws are known, and fixed for good") {
  // Computed apart, in Python's integers.
  CHECK(random_router::draw(0, 0, 0, 0) == 0x1.7ecfdc885424fp-1);
  CHECK(random_router::draw(7, 3, 2, 5) == 0x1.14e4d83598f39p-1);
}

TEST_CASE("heads of a group go together, probability is met, layers and sequences differ") {
  constexpr int batch = 500, kv_heads = 8, group = 3;
  for (double const probability : {0.25, 0.7}) {
    auto const routes = route({11, probability}, batch, kv_heads, group);
    int sparse = 0;
    for (std::size_t i = 0; i < routes.size(); i += group) {
      CHECK((routes[i] == routes[i + 1] && routes[i] == routes[i + 2]));
      sparse += routes[i];
    }
    double const n = batch * kv_heads;
    CHECK(std::abs(sparse - n * probability) < 4 * std::sqrt(n * probability * (1 - probability)));
  }
  auto const agreement = [](auto const& a, auto const& b) {
    int same = 0;
    for (std::size_t i = 0; i < a.size(); ++i) same += a[i] == b[i];
    return static_cast<double>(same) / static_cast<double>(a.size());
  };
  auto const routes = route({11}, batch, kv_heads, 1);
  CHECK(agreement(routes, route({11}, batch, kv_heads, 1)) == 1);
  CHECK(agreement(routes, route({12}, batch, kv_heads, 1)) == doctest::Approx(0.5).epsilon(0.08));
  CHECK(agreement(routes, route({11}, batch, kv_heads, 1, 1)) == doctest::Approx(0.5).epsilon(0.08));
  std::vector<std::int32_t> const shifted(routes.begin() + kv_heads, routes.end());
  CHECK(agreement(shifted, routes) == doctest::Approx(0.5).epsilon(0.08));
}

TEST_CASE("0 is never and 1 is always") {
  CHECK(route({3, 0.}, 10, 4, 2) == std::vector<std::int32_t>(80, 0));
  CHECK(route({3, 1.}, 10, 4, 2) == std::vector<std::int32_t>(80, 1));
  for (double const bad : {-0.01, 1.01, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(route({3, bad}, 1, 1, 1), error);
}
