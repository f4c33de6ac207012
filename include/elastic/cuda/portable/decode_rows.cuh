// The end of a decoded row: O / l and LSE = ln 2·(m + log₂ l) with the sink logit, m in powers of two, and
// what combine_decode makes of a row whose keys were shared out: m = max mᵢ, l = Σ 2^(mᵢ−m)·lᵢ, O likewise.
#pragma once

#include <elastic/cuda/portable/decode_work.cuh>
#include <elastic/cuda/ptx/mma.cuh>

namespace elastic::detail {

inline constexpr float decode_log2_e = 1.4426950408889634f;
inline constexpr float decode_ln_2 = 0.6931471805599453f;

struct row_end {
  float weight;  // of the sums of P·V
  float lse;
};

template <class M>
__device__ __forceinline__ row_end end_row(M const& mode, where const& w, float top, float sum) {
  if (!(sum > 0)) top = minus_infinity;
  float weight = sum > 0 ? 1 / sum : 0.f;
  if constexpr (sink_logit_mode<M>) {
    float const sink = mode.sink_logit(w) * decode_log2_e;
    float const now = fmaxf(top, sink);
    if (now > minus_infinity) {
      float const own = sum > 0 ? ptx::exp2(top - now) : 0.f;
      sum = own * sum + ptx::exp2(sink - now);
      weight = own / sum;
      top = now;
    }
  }
  return {weight, top > minus_infinity ? (top + log2f(sum)) * decode_ln_2 : minus_infinity};
}

template <class Arguments>
__device__ __forceinline__ void store_lse(Arguments const& a, where const& w, int query, float lse) {
  if (a.lse) a.lse.data[w.batch * a.lse.strides[0] + w.query_head * a.lse.strides[1] + query * a.lse.strides[2]] = lse;
}

/// Four elements of head_dim from `column` on.
template <class T>
__device__ __forceinline__ void store_four(heads_view<T> const& out, where const& w, int query, int column,
                                           float const (&x)[4], float weight) {
  T* const to = out.data + w.batch * out.strides[0] + query * out.strides[1] + w.query_head * out.strides[2] + column;
  *reinterpret_cast<uint2*>(to) = {ptx::pack<T>(x[0] * weight, x[1] * weight),
                                   ptx::pack<T>(x[2] * weight, x[3] * weight)};
}

inline constexpr int combining_threads = 256;

/// One CTA for each row of each bundle; rows that one part computed alone are ended already. Warps take the
/// parts in turn and are added up in order.
template <int HeadDim, class T, class Arguments>
__global__ void __launch_bounds__(combining_threads) combine_decode(__grid_constant__ Arguments const a) {
  constexpr int warps = combining_threads / 32, quads = HeadDim / 4, each = ceil_div(quads, 32);
  __shared__ float4 gathered[warps][quads];
  __shared__ float2 reduced[warps];
  decode_plan const& plan = a.plan;
  int const number = static_cast<int>(blockIdx.x), row = static_cast<int>(blockIdx.y);
  int const thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  bundle const b(a.shape, plan, number);
  if (row >= b.rows) return;
  ptx::wait_for_prerequisites();
  part_range const parts = plan.tiles[number] > 0 ? plan.parts[number] : part_range{0, -1};
  if (parts.first == parts.last) return;

  auto const sums = [&](int part) { return plan.sums[plan.slot(part, number) * plan.slot_rows + row]; };
  float top = minus_infinity;
  for (int part = parts.first + thread; part <= parts.last; part += combining_threads) top = fmaxf(top, sums(part).x);
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
  if (lane == 0) reduced[warp].x = top;
  __syncthreads();
  for (int i = 0; i < warps; ++i) top = fmaxf(top, reduced[i].x);

  float4 output[each] = {};
  float sum = 0;
#pragma unroll 4
  for (int part = parts.first + warp; part <= parts.last; part += warps) {
    float2 const own = sums(part);
    float const scale = own.x > minus_infinity ? ptx::exp2(own.x - top) : 0.f;
    sum += own.y * scale;
    float4 const* const from =
        reinterpret_cast<float4 const*>(plan.output + (plan.slot(part, number) * plan.slot_rows + row) * HeadDim);
#pragma unroll
    for (int i = 0; i < each; ++i)
      if (lane + 32 * i < quads) {
        float4 const x = from[lane + 32 * i];
        output[i].x += x.x * scale, output[i].y += x.y * scale, output[i].z += x.z * scale, output[i].w += x.w * scale;
      }
  }
#pragma unroll
  for (int i = 0; i < each; ++i)
    if (lane + 32 * i < quads) gathered[warp][lane + 32 * i] = output[i];
  if (lane == 0) reduced[warp].y = sum;
  __syncthreads();
  if (thread >= quads) return;
  float all[4] = {};
  sum = 0;
  for (int i = 0; i < warps; ++i) {
    float4 const x = gathered[i][thread];
    all[0] += x.x, all[1] += x.y, all[2] += x.z, all[3] += x.w;
    sum += reduced[i].y;
  }
  where const w = where_of(a, b, b.head(a.shape, row));
  row_end const end = end_row(a.mode, w, top, sum);
  int const query = b.query(a.shape, row);
  store_four(a.out, w, query, 4 * thread, all, end.weight);
  if (thread == 0) store_lse(a, w, query, end.lse);
}

}  // namespace elastic::detail
