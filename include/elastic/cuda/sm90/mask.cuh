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
  /// Of the warp.
  __device__ __forceinline__ int first_row() const { return row0 / 16 * 16; }
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

/// Bit 4j + 2r + e: does the mode keep the element, of those within edge[r] columns of this thread's first?
template <class M, class Item>
__device__ __forceinline__ std::uint32_t kept_in_half(M const& mode, Item const& item, where const& w, int first,
                                                      fragment_place const& at, int const (&edge)[2]) {
  std::uint32_t kept = 0;
  int const q[2] = {item.first + minimum(at.row(0), item.rows - 1), item.first + minimum(at.row(1), item.rows - 1)};
  // Not unrolled: keeps may be long, and stays small code.
#pragma unroll 1
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int const column = 8 * j + e % 2;
      bool const keeps = column < edge[e / 2] && mode.keeps(w, q[e / 2], first + at.column + column);
      kept |= static_cast<std::uint32_t>(keeps) << (4 * j + e);
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
    int edge[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int const causal = w.causal ? w.position(item.first + at.row(r)) + 1 - first : sm90_part_columns;
      edge[r] = minimum(limit, causal) - at.column;
    }
    std::uint32_t bits = below(edge[0]) | below(edge[1]) << 2;
    if constexpr (M::has_partial)
      if (card.flags & stage_asks << half) bits = kept_in_half(mode, item, w, first, at, edge);
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
