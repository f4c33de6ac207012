// Rows between storage types and floats: every element has its value, and nothing else is read or written.
#include <elastic/cpu/convert.hpp>

#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <support/spaced_rows.hpp>

using namespace elastic;
using namespace elastic::detail;
using elastic::testing::spaced_rows;

constexpr float untouched = -777;

TEST_CASE_TEMPLATE("any number of elements becomes as many floats", T, float, half, bfloat16) {
  for (int const count : {0, 1, 15, 16, 17, 47, 256}) {
    CAPTURE(count);
    spaced_rows<T> from(1, count, 300);
    std::vector<float> to(300, untouched);
    to_floats(from.data.data(), to.data(), count);
    int wrong = 0;
    for (int i = 0; i < 300; ++i) {
      float const expected = i < count ? from.value(0, i) : untouched;
      wrong += to[static_cast<std::size_t>(i)] != expected;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("rows as floats: in place where they are floats, else copied", T, float, half, bfloat16) {
  int const head_dim = 48, count = 5;
  for (int const stride : {head_dim, 2 * head_dim, 2 * head_dim + 1}) {
    CAPTURE(stride);
    spaced_rows<T> from(count, head_dim, stride);
    std::vector<float> buffer(count * head_dim + 1, untouched);
    head_rows<float const> const close = as_floats(from.rows(), count, head_dim, buffer.data());
    CHECK((static_cast<void const*>(close.data) == from.data.data()) ==
          (std::is_same_v<T, float> && stride <= 2 * head_dim));
    int wrong = 0;
    for (int i = 0; i < count; ++i)
      for (int c = 0; c < head_dim; ++c) wrong += close[i][c] != from.value(i, c);
    CHECK(wrong == 0);
    CHECK(buffer.back() == untouched);
  }
}

TEST_CASE_TEMPLATE("rows that run backwards in memory are copied", T, float, half) {
  int const head_dim = 16, count = 3;
  spaced_rows<T> from(count, head_dim, head_dim);
  std::vector<float> buffer(count * head_dim, untouched);
  head_rows<float const> const close =
      as_floats(head_rows<T const>{&from.at(count - 1, 0), -head_dim}, count, head_dim, buffer.data());
  CHECK(close.data == buffer.data());
  for (int i = 0; i < count; ++i) CHECK(close[i][3] == from.value(count - 1 - i, 3));
}

TEST_CASE_TEMPLATE("query rows into a panel and outputs back", T, float, half, bfloat16) {
  int const head_dim = 32, first = 2;
  for (int const rows : {1, panel_rows - 1, panel_rows}) {
    CAPTURE(rows);
    spaced_rows<T> from(first + rows, head_dim, head_dim + 5);
    std::vector<float> panel(static_cast<std::size_t>(head_dim * panel_rows), untouched);
    load_panel(from.rows(), first, rows, head_dim, panel.data());
    int wrong = 0;
    for (int c = 0; c < head_dim; ++c)
      for (int r = 0; r < panel_rows; ++r)
        wrong += panel[static_cast<std::size_t>(c * panel_rows + r)] != (r < rows ? from.value(first + r, c) : 0.f);
    CHECK(wrong == 0);

    std::vector<float> scale;
    for (int r = 0; r < panel_rows; ++r) scale.push_back(std::ldexp(r % 2 == 0 ? 1.f : -1.f, r % 3));
    int const stride = head_dim + 3;
    std::vector<T> out(static_cast<std::size_t>((first + rows + 1) * stride), static_cast<T>(untouched));
    T const poison = out[0];
    store_panel(panel.data(), scale.data(), head_rows<T>{out.data(), stride}, first, rows, head_dim);
    for (int i = 0; i < first + rows + 1; ++i)
      for (int c = 0; c < stride; ++c) {
        bool const inside = i >= first && i < first + rows && c < head_dim;
        float const expected =
            inside ? from.value(i, c) * scale[static_cast<std::size_t>(i - first)] : static_cast<float>(poison);
        wrong += static_cast<float>(out[static_cast<std::size_t>(i * stride + c)]) != expected;
      }
    CHECK(wrong == 0);
  }
}
