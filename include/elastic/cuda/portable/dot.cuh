// Dot products of 16 rows with 8 others by one warp, straight from global memory: the order of the elements
// inside a product is free, so a lane loads 8 neighbours at once and no tile is staged. Products of 16-bit
// elements are exact; floats are cut into two tf32 parts and their products summed, but for the smallest:
//   x = high + low,  x·y ≈ high·high + high·low + low·high      to about 2^-20 of |x·y|
// With g = lane / 4 and t = lane mod 4 a lane holds the rows g and g + 8 of the 16 and row g of the 8, of every
// 32 elements those from 8t on; it receives the sums (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
#pragma once

#include <cstdint>
#include <type_traits>

#include <elastic/cuda/portable/rows.cuh>
#include <elastic/cuda/ptx/mma.cuh>
#include <elastic/cuda/ptx/mma_tf32.cuh>

namespace elastic::detail {

/// Eight neighbouring elements.
template <element T>
struct eight {
  std::uint32_t words[2 * sizeof(T)] = {};

  __device__ __forceinline__ static eight load(T const* from) {
    eight made;
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(T)) / 2; ++i) {
      uint4 const part = reinterpret_cast<uint4 const*>(from)[i];
      made.words[4 * i] = part.x, made.words[4 * i + 1] = part.y;
      made.words[4 * i + 2] = part.z, made.words[4 * i + 3] = part.w;
    }
    return made;
  }

  __device__ __forceinline__ float operator[](int i) const {
    if constexpr (std::is_same_v<T, float>)
      return __uint_as_float(words[i]);
    else
      return static_cast<float>(T::from_bits(static_cast<std::uint16_t>(words[i / 2] >> 16 * (i % 2))));
  }
};

/// An element in two parts, of which mma reads the upper 11 bits; the lower part of a 16-bit element is 0.
template <element T>
struct split {
  std::uint32_t high, low = 0;
  __device__ __forceinline__ explicit split(float x) : high(bits_as<std::uint32_t>(x)) {
    if constexpr (std::is_same_v<T, float>) {
      high &= 0xffffe000u;
      low = bits_as<std::uint32_t>(x - bits_as<float>(high));
    }
  }
};

/// sums += the dot products over 32 elements.
template <element Q, element K>
__device__ __forceinline__ void add_dots(float (&sums)[4], eight<Q> const& upper, eight<Q> const& lower,
                                         eight<K> const& other) {
  if constexpr (std::is_same_v<Q, K> && !std::is_same_v<Q, float>) {
#pragma unroll
    for (int i = 0; i < 4; i += 2)
      ptx::mma<Q>(sums, {upper.words[i], lower.words[i], upper.words[i + 1], lower.words[i + 1]}, other.words[i],
                  other.words[i + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      split<Q> const a0(upper[i]), a1(lower[i]), a2(upper[i + 1]), a3(lower[i + 1]);
      split<K> const b0(other[i]), b1(other[i + 1]);
      if constexpr (std::is_same_v<Q, float>) ptx::mma_tf32(sums, {a0.low, a1.low, a2.low, a3.low}, b0.high, b1.high);
      if constexpr (std::is_same_v<K, float>) ptx::mma_tf32(sums, {a0.high, a1.high, a2.high, a3.high}, b0.low, b1.low);
      ptx::mma_tf32(sums, {a0.high, a1.high, a2.high, a3.high}, b0.high, b1.high);
    }
  }
}

/// Sixteen rows that a warp keeps in registers.
template <element T, int HeadDim>
struct sixteen_rows {
  static constexpr int parts = HeadDim / 32;
  eight<T> upper[parts], lower[parts];

  /// Rows from `limit` on are zeros and are not read.
  __device__ __forceinline__ void load(head_rows<T const> rows, int limit) {
    int const lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4, column = lane % 4 * 8;
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      upper[i] = row < limit ? eight<T>::load(rows[row] + 32 * i + column) : eight<T>{};
      lower[i] = row + 8 < limit ? eight<T>::load(rows[row + 8] + 32 * i + column) : eight<T>{};
    }
  }

  /// sums = the dot products with 8 rows, of which those from `limit` on are not read.
  template <element K>
  __device__ __forceinline__ void dots(head_rows<K const> others, int limit, float (&sums)[4]) const {
    int const lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4, column = lane % 4 * 8;
    float parts_of[2][4] = {};  // two chains of products that need not wait for each other
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      eight<K> const other = row < limit ? eight<K>::load(others[row] + 32 * i + column) : eight<K>{};
      add_dots(parts_of[i % 2], upper[i], lower[i], other);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] = parts_of[0][i] + parts_of[1][i];
  }
};

}  // namespace elastic::detail
