#include <elastic/routers/ratio_router.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <elastic/attention.hpp>

using namespace elastic;

namespace {

template <class Mode>
std::vector<std::int32_t> route(double sparsity, int kv_heads, int group, int batch = 1) {
  std::vector<float> memory(static_cast<std::size_t>(batch * kv_heads * 32));
  std::vector<std::int32_t> routes(static_cast<std::size_t>(batch * kv_heads * group), -1);
  attention<Mode, ratio_router>({}, ratio_router{sparsity})
      .route(heads_view<float const>(memory.data(), {batch, 1, kv_heads, 32}),
             assignment_view(routes.data(), {batch, kv_heads * group}), {});
  return routes;
}

}  // namespace

TEST_CASE("the fraction is met to the nearest head, evenly, whole groups alike") {
  for (int kv_heads : {1, 2, 3, 4, 5, 8, 32})
    for (int group : {1, 4})
      for (int step = 0; step <= 64; ++step) {
        double const sparsity = step / 64.;
        auto const routes = route<hybrid<full, streaming>>(sparsity, kv_heads, group, 2);
        std::vector<int> sparse;
        for (int h = 0; h < kv_heads; ++h) {
          int const first = routes[static_cast<std::size_t>(h * group)];
          for (int b = 0; b < 2; ++b)
            for (int g = 0; g < group; ++g)
              CHECK(routes[static_cast<std::size_t>((b * kv_heads + h) * group + g)] == first);
          if (first == 1) sparse.push_back(h);
        }
        int const n = static_cast<int>(sparse.size());
        CHECK(std::abs(n - sparsity * kv_heads) <= 0.5);
        for (std::size_t i = 1; i < sparse.size(); ++i) {  // neighbours lie ⌊H/n⌋ or ⌈H/n⌉ apart
          int const gap = sparse[i] - sparse[i - 1];
          CHECK(gap >= kv_heads / n);
          CHECK(gap <= (kv_heads + n - 1) / n);
        }
      }
}

TEST_CASE("sparse is the last route") {
  CHECK(route<hybrid<full, streaming, sliding_window>>(0.5, 4, 1) == std::vector<std::int32_t>{0, 2, 0, 2});
  CHECK(route<full>(1, 2, 2) == std::vector<std::int32_t>(4, 0));
}

TEST_CASE("what is no fraction, and heads without keys, are refused") {
  for (double const bad : {-0.01, 1.01, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS((route<hybrid<full, streaming>>(bad, 4, 1)), error);
  std::vector<std::int32_t> routes(4);
  CHECK_THROWS_WITH_AS((attention<hybrid<full, streaming>, ratio_router>{}.route(
                           route_inputs<float>{}, assignment_view(routes.data(), {1, 4}), {})),
                       "elastic: k_pre_rope, k: got no tensor, expected keys, which tell the number of KV heads",
                       error);
}
