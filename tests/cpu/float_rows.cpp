// Rows as a float matrix: in place where they are floats, else converted.
#include <elastic/cpu/float_rows.hpp>

#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <support/spaced_rows.hpp>

using namespace elastic;
using namespace elastic::detail;

TEST_CASE_TEMPLATE("rows from some on, however far apart", T, float, half, bfloat16) {
  int const head_dim = 48, first = 1, count = 4;
  for (int const stride : {head_dim, 2 * head_dim, 2 * head_dim + 1}) {
    CAPTURE(stride);
    testing::spaced_rows<T> from(first + count, head_dim, stride);
    std::vector<float> buffer(count * head_dim + 1, -777.f);
    float_rows const mapped = map_rows(from.rows(), first, count, head_dim, buffer.data());
    CHECK((static_cast<void const*>(mapped.data()) == &from.at(first, 0)) == std::is_same_v<T, float>);
    CHECK(mapped.rows() == count);
    CHECK(mapped.cols() == head_dim);
    int wrong = 0;
    for (int i = 0; i < count; ++i)
      for (int c = 0; c < head_dim; ++c) wrong += mapped(i, c) != from.value(first + i, c);
    CHECK(wrong == 0);
    CHECK(buffer.back() == -777.f);
  }
}
