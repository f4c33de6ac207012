#include <elastic/core/view.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

using elastic::heads_view;
using elastic::strided_view;

TEST_CASE("a dense view is row-major") {
  std::vector<float> values(2 * 3 * 4 * 5);
  std::iota(values.begin(), values.end(), 0.0f);
  heads_view<float> const view(values.data(), {2, 3, 4, 5});
  CHECK(view.size() == 120);
  CHECK(view);
  std::size_t next = 0;
  for (int b = 0; b < 2; ++b)
    for (int s = 0; s < 3; ++s)
      for (int h = 0; h < 4; ++h)
        for (int d = 0; d < 5; ++d) CHECK(&view(b, s, h, d) == &values[next++]);
  view(1, 2, 3, 4) = -1.0f;
  CHECK(values.back() == -1.0f);
}

TEST_CASE("strides may permute, repeat and run backwards") {
  std::vector<int> values(12);
  std::iota(values.begin(), values.end(), 0);
  strided_view<int, 2> const transposed(values.data(), {4, 3}, {1, 4});
  strided_view<int, 2> const repeated(values.data(), {5, 4}, {0, 1});
  strided_view<int, 1> const backwards(values.data() + 11, {12}, {-1});
  CHECK(transposed(3, 2) == 11);
  CHECK(transposed(1, 2) == 9);
  CHECK(repeated(4, 3) == 3);
  CHECK(repeated.size() == 20);
  CHECK(backwards(11) == 0);
}

TEST_CASE("offsets are 64-bit, whatever the index type") {
  // One byte stands for all: the strides cancel, while each product alone leaves 32 bits.
  char byte = 'x';
  std::int64_t const far = std::int64_t{1} << 40;
  strided_view<char, 2> const view(&byte, {8, 8}, {far, -far});
  CHECK(view(7, 7) == 'x');
  strided_view<char, 2> const huge(&byte, {std::int64_t{1} << 31, 4});
  CHECK(huge.size() == std::int64_t{1} << 33);
}

TEST_CASE("views convert to views of const, not back, and an absent view is false") {
  std::vector<float> values(6, 2.0f);
  strided_view<float, 2> const view(values.data(), {2, 3}, {1, 2});
  strided_view<float const, 2> const constant = view;
  CHECK(constant.data == values.data());
  CHECK(constant.extents[1] == 3);
  CHECK(constant.strides[1] == 2);
  static_assert(!std::is_convertible_v<strided_view<float const, 2>, strided_view<float, 2>>);
  static_assert(!std::is_convertible_v<strided_view<float, 2>, strided_view<double const, 2>>);
  static_assert(std::is_same_v<strided_view<float const, 2>::value_type, float>);
  CHECK(!elastic::lse_view{});
  CHECK(strided_view<float, 2>(values.data(), {0, 3}).size() == 0);
}

TEST_CASE("extents whose product leaves 64 bits") {
  float x = 0;
  std::int64_t const many = std::int64_t{1} << 28;
  heads_view<float> const view(&x, {2, many, many, 256});  // 2^64 elements: a product that wraps gives 0
  CHECK(view.strides[0] == std::numeric_limits<std::int64_t>::max());
  CHECK(view.strides[1] == many * 256);
  CHECK(view.size() == std::numeric_limits<std::int64_t>::max());
  CHECK(heads_view<float>(&x, {many, many, many, 0}).size() == 0);
}

TEST_CASE("a last extent or stride of 0 after equal ones") {  // which GCC 12 with AVX-512 takes for four equal ones
  float x = 0;                                                // where one loop writes extents and strides
  std::int64_t const n = 7;
  CHECK(heads_view<float>(&x, {n, n, n, 0}).extents[3] == 0);
  CHECK(heads_view<float>(&x, {n, n, n, 0}).strides[2] == 0);
  CHECK(heads_view<float>(&x, {n, n, n, 0}, {n, n, n, 0}).extents[3] == 0);
  CHECK(heads_view<float>(&x, {n, n, n, 0}, {n, n, n, 0}).strides[3] == 0);
  CHECK(strided_view<float, 2>(&x, {n, 0}).extents[1] == 0);
  CHECK(strided_view<float, 3>(&x, {n, n, 0}).extents[2] == 0);
}
