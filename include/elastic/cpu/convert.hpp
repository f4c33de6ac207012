// Bulk conversion between storage types and float rows.
#pragma once

#include <cstdint>

#include <elastic/core/sequence.hpp>

namespace elastic::detail {

template <element T>
inline void to_floats(T const* from, float* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

/// Rows first … first + rows − 1, scaled, into a column-major float matrix (columns, stride). By groups of
/// rows, so that whole cache lines are written.
template <element T>
inline void load_columns(head_rows<T const> from, int first, int rows, int columns, float scale, float* to, int stride) {
  constexpr int group = 16;
  for (int r = 0; r < rows; r += group) {
    int const n = minimum(group, rows - r);
    for (int c = 0; c < columns; ++c)
      for (int i = 0; i < n; ++i)
        to[std::int64_t{c} * stride + r + i] = static_cast<float>(from[first + r + i][c]) * scale;
  }
}

/// The way back: row r is multiplied by scale[r].
template <element T>
inline void store_columns(float const* from, int stride, float const* scale, head_rows<T> to, int first, int rows,
                          int columns) {
  constexpr int group = 16;
  for (int c = 0; c < columns; c += group) {
    int const n = minimum(group, columns - c);
    for (int r = 0; r < rows; ++r) {
      T* const row = to[first + r] + c;
      for (int i = 0; i < n; ++i) row[i] = static_cast<T>(from[std::int64_t{c + i} * stride + r] * scale[r]);
    }
  }
}

}  // namespace elastic::detail
