// Log-sums of the folded product in float, for checking rather than for speed: tiles of 64 × 64, products
// by fused multiply-add in shared memory, 4 × 4 to a thread. The formula is antidiagonal_logsums.cuh's.
#pragma once

#include <elastic/cuda/portable/antidiagonal_work.cuh>
#include <elastic/cuda/portable/forward.cuh>

namespace elastic::detail {

struct float_logsum_kernel {
  static constexpr tile_shape shape{64, 64};
  static constexpr int depth = 16;  // inner elements of a step, a divisor of every head dim
  static constexpr int threads = 256;

  struct shared {
    float rows[depth][shape.rows + 1];
    float columns[depth][shape.columns + 1];
    float logits[shape.rows][shape.columns + 1];
    antidiagonal_item<float> item;
  };

  /// Four inner elements of one fold; tokens from `limit` on are zeros.
  template <int Folds>
  __device__ static void copy(float (&to)[depth][Folds + 1], float const* from, std::int64_t stride, int token,
                              int limit, int offset) {
    int const fold = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4 * 4;
    float4 const x = token < limit ? *reinterpret_cast<float4 const*>(from + token * stride + offset + part) : float4{};
    to[part][fold] = x.x;
    to[part + 1][fold] = x.y;
    to[part + 2][fold] = x.z;
    to[part + 3][fold] = x.w;
  }

  __device__ static void run(antidiagonal_arguments<float> const& a, shared& s) {
    int const thread = static_cast<int>(threadIdx.x), stride = a.selector.stride, fold = thread / 4;
    int const row = thread / 16 * 4, column = thread % 16;
    unsigned number = 0;
    if (thread < 32) number = draw_antidiagonal(a);
    for (;;) {
      if (thread < 32) next_antidiagonal(a, shape, number, s.item);
      __syncthreads();
      antidiagonal_item<float> const item = s.item;
      if (item.rows < 0) return;
      float logit[4][4] = {};
      for (int phase = 0; phase < stride; ++phase)
        for (int offset = 0; offset < a.in.shape.head_dim; offset += depth) {
          copy<shape.rows>(s.rows, item.queries, a.in.q.strides[1], fold * stride + stride - 1 - phase,
                           item.queries_left, offset);
          copy<shape.columns>(s.columns, item.keys, a.in.k.strides[1], fold * stride + phase, item.keys_left, offset);
          __syncthreads();
          for (int d = 0; d < depth; ++d)
            for (int i = 0; i < 4; ++i)
              for (int j = 0; j < 4; ++j) logit[i][j] += s.rows[d][row + i] * s.columns[d][column + 16 * j];
          __syncthreads();
        }
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
          bool const inside = column + 16 * j < minimum(item.columns, item.edge + row + i);
          s.logits[row + i][column + 16 * j] = inside ? logit[i][j] * a.factor : minus_infinity;
        }
      __syncthreads();
      int const pieces = shape.columns / a.piece;
      for (int i = thread; i < item.rows * pieces; i += threads) {
        float const* const x = s.logits[i / pieces] + i % pieces * a.piece;
        float top = minus_infinity, sum = 0;
        for (int c = 0; c < a.piece; ++c) top = fmaxf(top, x[c]);
        for (int c = 0; c < a.piece && top > minus_infinity; ++c) sum += exp2f(x[c] - top);
        item.logsums[std::int64_t{i / pieces} * a.pitch + i % pieces] =
            top > minus_infinity ? top + log2f(sum) : minus_infinity;
      }
      __syncthreads();
    }
  }
};

template <class T>
__global__ void __launch_bounds__(float_logsum_kernel::threads)
    antidiagonal_logsums_float(__grid_constant__ antidiagonal_arguments<T> const a) {
  __shared__ float_logsum_kernel::shared memory;
  float_logsum_kernel::run(a, memory);
}

}  // namespace elastic::detail
