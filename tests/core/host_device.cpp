#include <elastic/core/host_device.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <numeric>

using namespace elastic;

TEST_CASE("arithmetic that host and device share") {
  static_assert(minimum(2, 3) == 2 && maximum(2, 3) == 3 && minimum(-1.5, 2.) == -1.5);
  static_assert(ceil_div(0, 7) == 0 && ceil_div(7, 7) == 1 && ceil_div(8, 7) == 2);
  for (int a = -300; a <= 300; ++a)
    for (int b : {1, 2, 7, 128}) CHECK(floor_div(a, b) == static_cast<int>(std::floor(double(a) / b)));
  for (int a = 0; a <= 40; ++a)
    for (int b = 0; b <= 40; ++b) CHECK(elastic::gcd(a, b) == std::gcd(a, b));
}

TEST_CASE("a product stops at 64 bits") {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  static_assert(saturating_product(3, -4) == -12 && saturating_product(most, 1) == most);
  static_assert(saturating_product(most, 2) == most && saturating_product(most, 0) == 0);
}
