// Bulk conversion between storage types and float rows.
#pragma once

#include <cstdint>

#include <elastic/core/dtype.hpp>

namespace elastic::detail {

template <element T>
inline void to_floats(T const* from, float* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

/// A row of T into a column-strided float matrix, scaled.
template <element T>
inline void load_scaled(T const* from, float* to, std::int64_t stride, int count, float scale) {
  for (int i = 0; i < count; ++i) to[i * stride] = static_cast<float>(from[i]) * scale;
}

template <element T>
inline void store_scaled(float const* from, std::int64_t stride, T* to, int count, float scale) {
  for (int i = 0; i < count; ++i) to[i] = static_cast<T>(from[i * stride] * scale);
}

}  // namespace elastic::detail
