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
__device__ __forceinline__ void add_piece(uint4 const& bits, float (&to)[piece<T>]) {
  T const* const values = reinterpret_cast<T const*>(&bits);
#pragma unroll
  for (int i = 0; i < piece<T>; ++i) to[i] += static_cast<float>(values[i]);
}

/// Rows that are added to each other before they are added to the rest, and loads that are under way at once.
inline constexpr int short_sum = 64, loads_ahead = 8;

/// total += the pieces at column `column` of rows first, first + step, … below `end`.
template <element T>
__device__ __forceinline__ void add_rows(head_rows<T const> rows, int column, std::int64_t first, int end, int step,
                                         float (&total)[piece<T>]) {
  while (first < end) {
    float part[piece<T>] = {};
    for (int i = 0; i < short_sum && first < end; i += loads_ahead, first += std::int64_t{step} * loads_ahead) {
      uint4 bits[loads_ahead];
#pragma unroll
      for (int j = 0; j < loads_ahead; ++j) {
        std::int64_t const row = first + std::int64_t{step} * j;
        bits[j] = row < end ? *reinterpret_cast<uint4 const*>(rows[row] + column) : uint4{};
      }
#pragma unroll
      for (int j = 0; j < loads_ahead; ++j) add_piece<T>(bits[j], part);
    }
#pragma unroll
    for (int c = 0; c < piece<T>; ++c) total[c] += part[c];
  }
}

}  // namespace elastic::detail
