// Bulk conversion between storage types and float rows.
#pragma once

#include <cstdint>
#include <type_traits>

#include <elastic/core/sequence.hpp>
#include <elastic/cpu/panel.hpp>

namespace elastic::detail {

/// Head dims are multiples of this many; loops over so many vectorise at any optimisation level.
inline constexpr int convert_lanes = 16;

template <element T>
inline void to_floats(T const* __restrict from, float* __restrict to, int count) {
  int i = 0;
  for (; i + convert_lanes <= count; i += convert_lanes)
    for (int j = 0; j < convert_lanes; ++j) to[i + j] = static_cast<float>(from[i + j]);
  for (; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

/// Rows of keys or values as floats that lie close together: in place where they do, else copied into
/// `buffer`. Rows a page apart would share a few sets of the caches and need an entry of the TLB each.
template <element T>
head_rows<float const> as_floats(head_rows<T const> rows, int count, int head_dim, float* buffer) {
  if constexpr (std::is_same_v<T, float>)
    if (rows.stride >= 0 && rows.stride <= 2 * head_dim) return rows;
  for (int i = 0; i < count; ++i) to_floats(rows[i], buffer + std::int64_t{i} * head_dim, head_dim);
  return {buffer, head_dim};
}

/// `rows` query rows from `first` on into a panel (columns, panel_rows); missing rows are 0.
template <element T>
inline void load_panel(head_rows<T const> from, int first, int rows, int columns, float* to) {
  for (int c = 0; c < columns; ++c)
    for (int r = 0; r < panel_rows; ++r)
      to[c * panel_rows + r] = r < rows ? static_cast<float>(from[first + r][c]) : 0.f;
}

/// The way back: row r is multiplied by scale[r].
template <element T>
inline void store_panel(float const* from, float const* scale, head_rows<T> to, int first, int rows, int columns) {
  constexpr int group = 16;  // columns: a cache line of floats
  for (int c = 0; c < columns; c += group)
    for (int r = 0; r < rows; ++r)
      for (int i = c; i < c + group; ++i) to[first + r][i] = static_cast<T>(from[i * panel_rows + r] * scale[r]);
}

}  // namespace elastic::detail
