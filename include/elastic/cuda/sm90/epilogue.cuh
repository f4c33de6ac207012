// The end of an item: O / l and LSE, the sink logit included. O leaves through the item's own query slot, which
// wgmma has done with: by one bulk store where all 64 rows of the warpgroup exist, else row by row. Where queries have
// one slot, the next ones lie in it by then, and O leaves from registers.
#pragma once

#include <elastic/cuda/ptx/fence.cuh>
#include <elastic/cuda/ptx/named_barrier.cuh>
#include <elastic/cuda/ptx/stmatrix.cuh>
#include <elastic/cuda/ptx/tma.cuh>
#include <elastic/cuda/sm90/arguments.cuh>
#include <elastic/cuda/sm90/mask.cuh>
#include <elastic/cuda/sm90/softmax.cuh>

namespace elastic::detail {

/// Writes LSE; returns what the two rows of O have to be multiplied by.
template <class Arguments, class Item>
__device__ __forceinline__ float2 finish_rows(Arguments const& a, Item const& item, fragment_place const& at,
                                              softmax_rows const& rows, float factor) {
  where const& w = item.w;
  std::int64_t const slab = a.shape.packed() ? 0 : w.batch;
  float weights[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = rows.total[r];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    float top = sum > 0 ? rows.highest[r] * factor : minus_infinity;  // in powers of two from here on
    weights[r] = sum > 0 ? __fdividef(1, sum) : 0.f;                  // about 1 or more
    if constexpr (sink_logit_mode<std::remove_cvref_t<decltype(a.mode)>>) {
      float const sink = a.mode.sink_logit(w) * log2_e;
      float const now = fmaxf(top, sink);
      if (now > minus_infinity) {
        float const own = sum > 0 ? ptx::exp2(top - now) : 0.f;
        sum = own * sum + ptx::exp2(sink - now);
        weights[r] = __fdividef(own, sum);
        top = now;
      }
    }
    int const row = at.row(r);
    if (a.lse && at.column == 0 && row < item.rows)
      a.lse.data[slab * a.lse.strides[0] + w.query_head * a.lse.strides[1] +
                 (std::int64_t{item.q_start} + item.first + row) * a.lse.strides[2]] =
          top > minus_infinity ? (top + __log2f(sum)) * ln_2 : minus_infinity;
  }
  return {weights[0], weights[1]};
}

/// `slice` is the warpgroup's part of the query slot. The bulk store is under way when this returns.
template <int HeadDim, class T, class Arguments, class Item>
__device__ __forceinline__ void store_output(Arguments const& a, Item const& item, int warpgroup, int thread,
                                             float2 weight, float const (&output)[HeadDim / 2], unsigned char* slice) {
  int const lane = thread % 32, row = thread / 32 * 16 + lane % 16;
  std::uint32_t const base = ptx::shared_address(slice);
  ptx::sync_named(1 + warpgroup, 128);  // all warps are done with the queries
#pragma unroll
  for (int k = 0; k < HeadDim / 16; ++k) {
    float const* const o = output + 8 * k;
    ptx::store_matrices(base + static_cast<std::uint32_t>(chunk_offset(row, 2 * k + lane / 16, sm90_consumer_rows)),
                        ptx::pack<T>(o[0] * weight.x, o[1] * weight.x), ptx::pack<T>(o[2] * weight.y, o[3] * weight.y),
                        ptx::pack<T>(o[4] * weight.x, o[5] * weight.x), ptx::pack<T>(o[6] * weight.y, o[7] * weight.y));
  }
  int const first = item.first + warpgroup * sm90_consumer_rows, rows = item.rows - warpgroup * sm90_consumer_rows;
  std::int64_t const slab = a.shape.packed() ? 0 : item.w.batch;
  ptx::fence_async();
  ptx::sync_named(1 + warpgroup, 128);

  if (rows >= sm90_consumer_rows) {
    if (thread == 0) {
#pragma unroll
      for (int panel = 0; panel < panels_of(HeadDim); ++panel)
        ptx::store_box(&a.outputs, slice + panel * panel_bytes(sm90_consumer_rows), panel * panel_columns,
                       item.q_start + first, item.w.query_head, static_cast<int>(slab));
      ptx::end_store_group();
    }
  } else {
    T* const out = a.out.data + slab * a.out.strides[0] + item.w.query_head * a.out.strides[2] +
                   (std::int64_t{item.q_start} + first) * a.out.strides[1];
    constexpr int chunks = HeadDim / 8;
#pragma unroll 1
    for (int i = thread; i < rows * chunks; i += 128)
      *reinterpret_cast<uint4*>(out + i / chunks * a.out.strides[1] + i % chunks * 8) =
          *reinterpret_cast<uint4 const*>(slice + chunk_offset(i / chunks, i % chunks, sm90_consumer_rows));
  }
}

/// Threads of a row exchange by twos, so that four of them write 32 bytes side by side.
template <int HeadDim, class T, class Arguments, class Item>
__device__ __forceinline__ void store_registers(Arguments const& a, Item const& item, fragment_place const& at,
                                                float2 weight, float const (&output)[HeadDim / 2]) {
  int const rows = item.rows;
  std::int64_t const slab = a.shape.packed() ? 0 : item.w.batch;
  T* const out = a.out.data + slab * a.out.strides[0] + item.w.query_head * a.out.strides[2] +
                 (std::int64_t{item.q_start} + item.first) * a.out.strides[1];
  bool const odd = at.column % 4 != 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float const w = r == 0 ? weight.x : weight.y;
    T* const row = out + at.row(r) * a.out.strides[1] + (odd ? 8 + at.column - 2 : at.column);
#pragma unroll
    for (int k = 0; k < HeadDim / 16; ++k) {
      float const* const o = output + 8 * k + 2 * r;
      std::uint32_t const low = ptx::pack<T>(o[0] * w, o[1] * w), high = ptx::pack<T>(o[4] * w, o[5] * w);
      std::uint32_t const other = __shfl_xor_sync(~0u, odd ? low : high, 1);
      if (at.row(r) < rows) *reinterpret_cast<uint2*>(row + 16 * k) = odd ? uint2{other, high} : uint2{low, other};
    }
  }
}

}  // namespace elastic::detail
