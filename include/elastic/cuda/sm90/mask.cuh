// What is done to a tile of logits before the softmax: the mode's hook, then causality, the sequence's end and, in
// the halves of a stage that ask for it, keeps.
#pragma once

#include <cstdint>

#include <elastic/cuda/sm90/memory.cuh>

namespace elastic::detail {

/// What a thread holds of a warpgroup's 64 × columns accumulator: element 4j + 2r + e is row(r), key column + 8j + e.
struct fragment_place {
  int row0;    // in the query tile
  int column;  // in the key stage

  __device__ __forceinline__ fragment_place(int warpgroup, int thread)
      : row0(warpgroup * sm90_consumer_rows + thread / 32 * 16 + thread % 32 / 4), column(thread % 4 * 2) {}
  __device__ __forceinline__ int row(int r) const { return row0 + 8 * r; }
};

/// Queries and keys outside are asked as the last ones inside.
template <class M, class Item, int N>
__device__ __forceinline__ void apply_hook(M const& mode, Item const& item, stage_card const& card,
                                           fragment_place const& at, float softmax_scale, float (&s)[N]) {
  where const w = item.w;
  int const q[2] = {item.first + minimum(at.row(0), item.rows - 1), item.first + minimum(at.row(1), item.rows - 1)};
#pragma unroll
  for (int j = 0; j < N / 4; ++j) {
    int const first = card.first[j / 8] + j % 8 * 8 + at.column;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int const k = maximum(minimum(first + e % 2, w.k_len - 1), 0);
      s[4 * j + e] = score_of(mode, w, s[4 * j + e] * softmax_scale, q[e / 2], k);
    }
  }
}

/// Bits 8j and 8j + 1 of a word, as bits 4j and 4j + 1.
__device__ __forceinline__ std::uint32_t by_fours(std::uint64_t bits) {
  auto const half = [](std::uint32_t word) {
    word &= 0x03030303u;
    word = (word | word >> 4) & 0x00330033u;
    return (word | word >> 8) & 0x3333u;
  };
  return half(static_cast<std::uint32_t>(bits)) | half(static_cast<std::uint32_t>(bits >> 32)) << 16;
}

/// Bit 4j + 2r + e: does the mode keep the element, of the row's first seen[r] keys of the half? A quarter of a row's
/// keys is asked by each of the four threads that hold the row.
template <class M, class Item>
__device__ __forceinline__ std::uint32_t kept_in_half(M const& mode, Item const& item, where const& w, int first,
                                                      fragment_place const& at, int const (&seen)[2]) {
  constexpr int quarter = sm90_part_columns / 4;
  int const own = at.column / 2 * quarter;
  std::uint32_t kept = 0;
  // Not unrolled: keeps may be long, and stays small code.
#pragma unroll 1
  for (int r = 0; r < 2; ++r) {
    int const q = item.first + minimum(at.row(r), item.rows - 1),
              count = minimum((r == 0 ? seen[0] : seen[1]) - own, quarter);
    unsigned long long bits = count > 0 ? kept_bits_of(mode, w, q, first + own, count) & bit_range(0, count) : 0;
    bits <<= own;
    bits |= __shfl_xor_sync(~0u, bits, 1);
    bits |= __shfl_xor_sync(~0u, bits, 2);
    kept |= by_fours(bits >> at.column) << 2 * r;
  }
  return kept;
}

/// Bits 4j + e, of e = 0 and 1, for the columns 8j + e below `edge`.
__device__ __forceinline__ std::uint32_t below(int edge) {
  std::uint32_t bits = 0;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    int const groups = minimum(maximum((edge - e + 7) >> 3, 0), 8);
    bits |= (groups == 8 ? 0x11111111u : ((1u << 4 * groups) - 1) & 0x11111111u) << e;
  }
  return bits;
}

template <class M, class Item, int N>
__device__ __forceinline__ void apply_mask(M const& mode, Item const& item, stage_card const& card,
                                           fragment_place const& at, float (&s)[N]) {
  where const w = item.w;
  constexpr int halves = N / 32;
  std::uint32_t kept[halves] = {};
  // One piece of code for both halves.
#pragma unroll 1
  for (int half = 0; half < halves; ++half) {
    bool const second = half > 0;
    int const first = second ? card.first[1] : card.first[0], limit = second ? card.limit[1] : card.limit[0];
    int seen[2];  // keys that a row may see
#pragma unroll
    for (int r = 0; r < 2; ++r)
      seen[r] = minimum(limit, w.causal ? w.position(item.first + at.row(r)) + 1 - first : sm90_part_columns);
    std::uint32_t bits = below(seen[0] - at.column) | below(seen[1] - at.column) << 2;
    if constexpr (M::has_partial)
      if (card.flags & stage_asks << half) bits = kept_in_half(mode, item, w, first, at, seen);
    kept[halves - 1] = second || halves == 1 ? bits : kept[halves - 1];
    kept[0] = second ? kept[0] : bits;
  }
#pragma unroll
  for (int half = 0; half < halves; ++half)
#pragma unroll
    for (int i = 0; i < 32; ++i)
      if ((kept[half] >> i & 1u) == 0) s[32 * half + i] = minus_infinity;
}

}  // namespace elastic::detail
