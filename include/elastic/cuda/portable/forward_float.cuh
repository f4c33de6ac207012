// Attention forward in float by plain multiply-adds, for checking: the same items, tiles and cards as the
// tensor-core kernel, four threads to a query row.
#pragma once

#include <elastic/cuda/portable/forward.cuh>

namespace elastic::detail {

template <class M, int HeadDim>
struct float_kernel {
  using element_type = float;
  static constexpr int head_dim = HeadDim;
  static constexpr portable_tiling tiling = portable_tiling_for(compiled_capability, HeadDim, 4);
  static constexpr int rows = tiling.shape.rows;
  static constexpr int columns = tiling.shape.columns;
  static constexpr int threads = tiling.threads();
  static constexpr int tile_bytes = portable_tile_bytes(tiling, HeadDim, 4);
  static constexpr int pitch = HeadDim + 1;
  static_assert(threads == 4 * rows);

  using item_type = work_item<M, float>;
  using card_type = tile_card<float>;

  struct shared_tail {
    card_type card;
    item_type item;
  };

  __device__ __forceinline__ static void load(float* to, float const* from, std::int64_t stride, int count, int limit) {
    for (int i = static_cast<int>(threadIdx.x); i < count * HeadDim; i += threads) {
      int const row = i / HeadDim, d = i % HeadDim;
      to[row * pitch + d] = row < limit ? from[row * stride + d] : 0.f;
    }
  }

  template <class Arguments>
  __device__ __forceinline__ void run(Arguments const& a, unsigned char* memory) {
    auto& tail = *reinterpret_cast<shared_tail*>(memory + tile_bytes);
    item_type& item = tail.item;
    float* const queries = reinterpret_cast<float*>(memory);  // (rows, pitch)
    float* const keys = queries + rows * pitch;               // (columns, pitch): keys, then values
    float* const weights = keys + columns * pitch;            // (rows, columns + 1)
    int const row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;

    int section = 0;
    for (;;) {
      if (threadIdx.x == 0) next_item<float_kernel>(a, atomicAdd(a.plan.next, 1u), section, item);
      __syncthreads();
      if (item.count < 0) return;
      where const w = item.w;
      std::int64_t const slab = a.shape.packed() ? 0 : w.batch;
      std::int64_t const first = std::int64_t{item.q_start} + item.first;
      load(queries, a.q.data + slab * a.q.strides[0] + w.query_head * a.q.strides[2] + first * a.q.strides[1],
           a.q.strides[1], rows, item.rows);

      float output[HeadDim / 4] = {}, highest = minus_infinity, total = 0;
      int const q = item.first + minimum(row, item.rows - 1);
      for (int i = 0; i < item.count; ++i) {
        __syncthreads();
        if (threadIdx.x == 0) write_card<float_kernel>(a, item, i, tail.card);
        __syncthreads();
        card_type const card = tail.card;
        load(keys, card.rows.keys, key_stride(a.source), columns, card.limit);
        __syncthreads();
        float score[columns / 4], top = highest;
        int const edge = w.causal ? minimum(card.limit, w.position(q) + 1 - card.first) : card.limit;
#pragma unroll
        for (int j = 0; j < columns / 4; ++j) {
          int const column = part + 4 * j, k = card.first + column;
          float dot = 0;
          for (int d = 0; d < HeadDim; ++d) dot = fmaf(queries[row * pitch + d], keys[column * pitch + d], dot);
          bool kept = column < edge;
          if constexpr (M::has_partial) kept = kept && (!card.asks || a.mode.keeps(w, q, k));
          score[j] = kept ? score_of(a.mode, w, dot * a.shape.softmax_scale, q, k) : minus_infinity;
          top = fmaxf(top, score[j]);
        }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        float const offset = top == minus_infinity ? 0.f : top;
        float const scale = highest == minus_infinity ? 0.f : expf(highest - top);
        highest = top;
        total *= scale;
#pragma unroll
        for (int d = 0; d < HeadDim / 4; ++d) output[d] *= scale;
#pragma unroll
        for (int j = 0; j < columns / 4; ++j) {
          float const weight = expf(score[j] - offset);
          total += weight;
          weights[row * (columns + 1) + part + 4 * j] = weight;
        }
        __syncthreads();
        load(keys, card.rows.values, value_stride(a.source), columns, card.limit);
        __syncthreads();
        for (int c = 0; c < columns; ++c) {
          float const weight = weights[row * (columns + 1) + c];
#pragma unroll
          for (int d = 0; d < HeadDim / 4; ++d) output[d] = fmaf(weight, keys[c * pitch + part + 4 * d], output[d]);
        }
      }

      total += __shfl_xor_sync(~0u, total, 1);
      total += __shfl_xor_sync(~0u, total, 2);
      float weight = total > 0 ? 1 / total : 0.f;
      float top = total > 0 ? highest : minus_infinity;
      if constexpr (sink_logit_mode<M>) {
        float const sink = a.mode.sink_logit(w), now = fmaxf(top, sink);
        if (now > minus_infinity) {
          float const own = total > 0 ? expf(top - now) : 0.f;
          total = own * total + expf(sink - now);
          weight = own / total;
          top = now;
        }
      }
      if (row < item.rows) {
        if (a.lse && part == 0)
          a.lse.data[slab * a.lse.strides[0] + w.query_head * a.lse.strides[1] + (first + row) * a.lse.strides[2]] =
              top > minus_infinity ? top + logf(total) : minus_infinity;
        float* const out =
            a.out.data + slab * a.out.strides[0] + w.query_head * a.out.strides[2] + (first + row) * a.out.strides[1];
#pragma unroll
        for (int d = 0; d < HeadDim / 4; ++d) out[part + 4 * d] = output[d] * weight;
      }
      __syncthreads();
    }
  }
};

}  // namespace elastic::detail
