// Rows of a tensor in pieces of 16 bytes, as floats, and sums over many rows. Sums of many are taken in two
// steps of at most `short_sum` rows, so that means of a million tokens keep their digits.
#pragma once

#include <cstdint>

#include <elastic/core/dtype.hpp>
#include <elastic/core/sequence.hpp>

namespace elastic::detail {

/// Elements in 16 bytes.
template <element T>
inline constexpr int piece = 16 / sizeof(T);

template <element T>
__device__ __forceinline__ void load_piece(T const* from, float (&to)[piece<T>]) {
  uint4 const bits = *reinterpret_cast<uint4 const*>(from);
  T const* const values = reinterpret_cast<T const*>(&bits);
#pragma unroll
  for (int i = 0; i < piece<T>; ++i) to[i] = static_cast<float>(values[i]);
}

inline constexpr int short_sum = 64;

/// total += the pieces at column `column` of rows first, first + step, … below `end`.
template <element T>
__device__ __forceinline__ void add_rows(head_rows<T const> rows, int column, int first, int end, int step,
                                         float (&total)[piece<T>]) {
  for (; first < end; first += step * short_sum) {
    float part[piece<T>] = {};
    int const part_end = static_cast<int>(minimum<std::int64_t>(end, first + std::int64_t{step} * short_sum));
#pragma unroll 8
    for (int i = first; i < part_end; i += step) {
      float values[piece<T>];
      load_piece(rows[i] + column, values);
#pragma unroll
      for (int c = 0; c < piece<T>; ++c) part[c] += values[c];
    }
#pragma unroll
    for (int c = 0; c < piece<T>; ++c) total[c] += part[c];
  }
}

}  // namespace elastic::detail
