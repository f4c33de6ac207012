// Means of rows, and the dot products of rows with such means, for selectors that rank blocks. Equal rows have equal
// means, however many they are, and equal means have equal products, wherever they stand: every sum has one order,
// which Eigen's matrix product changes at its edges. So what ties by the formula ties here.
#pragma once

#include <algorithm>
#include <cstdint>

#include <elastic/core/workspace.hpp>
#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/panel.hpp>

namespace elastic::detail {

/// The mean of rows [first, end), its elements `step` apart. In double, so that many rows lose nothing.
template <element T>
void mean_of_rows(head_rows<T const> rows, int first, int end, int head_dim, float* mean, int step = 1) {
  constexpr int lanes = 32;  // every head_dim is a multiple
  for (int c = 0; c < head_dim; c += lanes) {
    double sum[lanes] = {};
    for (int j = first; j < end; ++j)
      for (int l = 0; l < lanes; ++l) sum[l] += static_cast<float>(rows[j][c + l]);
    for (int l = 0; l < lanes; ++l) mean[(c + l) * step] = static_cast<float>(sum[l] / (end - first));
  }
}

/// The means of the blocks of one head, side by side in panels.
struct mean_panels {
  float* data;  // (panels, head_dim, panel_rows)
  int head_dim;

  static std::int64_t size(std::int64_t blocks, int head_dim) {
    return elements_of({ceil_div(blocks, std::int64_t{panel_rows}), panel_rows, head_dim});
  }

  float* panel(int number) const { return data + std::int64_t{number} * panel_rows * head_dim; }

  template <element T>
  void write(int block, head_rows<T const> rows, int first, int end) const {
    mean_of_rows(rows, first, end, head_dim, panel(block / panel_rows) + block % panel_rows, panel_rows);
  }
};

/// Products of a tile of rows with means of blocks; holds one thread's scratch.
struct row_dots {
  float* floats;    // (rows, head_dim)
  float* products;  // (panels, rows, panel_rows)
  float* row;       // (panels, panel_rows)

  row_dots(int rows, std::int64_t blocks, int head_dim, workspace_cursor& cursor) {
    std::int64_t const panels = ceil_div(blocks, std::int64_t{panel_rows});
    floats = cursor.take<float>(elements_of({rows, head_dim}));
    products = cursor.take<float>(elements_of({panels, rows, panel_rows}));
    row = cursor.take<float>(elements_of({panels, panel_rows}));
  }

  /// emit(i, products[blocks]) for each of `count` rows.
  template <element T, class Emit>
  void each(head_rows<T const> rows, int count, mean_panels const& means, int blocks, Emit&& emit) const {
    int const panels = ceil_div(blocks, panel_rows);
    std::int64_t const size = std::int64_t{count} * panel_rows;
    head_rows<float const> factors;
    if (panels > 0) factors = as_floats<T>(rows, count, means.head_dim, floats);
    for (int i = 0; i < panels; ++i)
      panel_scores(means.panel(i), factors, count, means.head_dim, 1.f, products + i * size);
    for (int r = 0; r < count; ++r) {
      for (int i = 0; i < panels; ++i)
        std::copy_n(products + i * size + r * panel_rows, panel_rows, row + i * panel_rows);
      emit(r, row);
    }
  }
};

}  // namespace elastic::detail
