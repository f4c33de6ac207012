// From products to log-sums: 64 columns of rows r and r + 8 of R as mma and wgmma leave them, over four lanes, of
// which lane l holds columns 8n + 2l + {0, 1} of row r + 8h as x[4n + 2h + {0, 1}].
#pragma once

#include <elastic/cuda/portable/antidiagonal_work.cuh>
#include <elastic/cuda/ptx/mma.cuh>

namespace elastic::detail {

/// Sums of eight pieces, x[4n], spread over four lanes, to two whole sums in each lane.
__device__ __forceinline__ float2 gather_pieces(float const* x, int lane) {
  bool const upper = (lane & 2) != 0, odd = (lane & 1) != 0;
  float half_way[4], whole[2];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    half_way[i] = (upper ? x[4 * i + 16] : x[4 * i]) + __shfl_xor_sync(~0u, upper ? x[4 * i] : x[4 * i + 16], 2);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    whole[i] = (odd ? half_way[i + 2] : half_way[i]) + __shfl_xor_sync(~0u, odd ? half_way[i] : half_way[i + 2], 1);
  return {whole[0], whole[1]};
}

/// Writes the log-sums of the 64 columns from `column` on, of which a log-sum starts at `column`, and of this lane's
/// rows `row` and row + 8 of a tile, where these exist. `masked`: not every row of the warp sees all columns.
template <class T>
__device__ __forceinline__ void store_logsums(antidiagonal_arguments<T> const& a, antidiagonal_tile const& tile,
                                              float* x, int row, int column, bool masked) {
  int const lane = static_cast<int>(threadIdx.x) % 32, own = lane % 4 * 2;
  float base[2];
#pragma unroll
  for (int i = 0; i < 32; ++i) x[i] *= a.factor;
  if (masked)
#pragma unroll
    for (int i = 0; i < 32; ++i)
      if (i / 4 * 8 + i % 2 + own + column >= minimum(tile.columns, tile.edge + row + i % 4 / 2 * 8))
        x[i] = minus_infinity;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float top = minus_infinity;
#pragma unroll
    for (int n = 0; n < 8; ++n) top = fmaxf(top, fmaxf(x[4 * n + 2 * h], x[4 * n + 2 * h + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    base[h] = top == minus_infinity ? 0.f : top;
  }
#pragma unroll
  for (int i = 0; i < 32; i += 2) {
    x[i] = ptx::exp2(x[i] - base[i % 4 / 2]);
    x[i + 1] = ptx::exp2(x[i + 1] - base[i % 4 / 2]);
    if (a.piece > 1) x[i] += x[i + 1];
  }
  float* const start = tile.logsums + std::int64_t{row} * a.pitch + column / a.piece;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    bool const exists = row + 8 * h < tile.rows;
    float* to = start + h * 8 * a.pitch;
    float* const sums = x + 2 * h;
    if (a.piece == 8) {
      float2 const whole = gather_pieces(sums, lane);
      if (exists) *reinterpret_cast<float2*>(to + own) = {base[h] + __log2f(whole.x), base[h] + __log2f(whole.y)};
    } else {
      int const shift = a.piece / 2;  // log₂ of 1, 2 or 4
      bool const stores = exists && (a.piece < 4 || lane % 2 == 0);
      to += own >> shift;
#pragma unroll
      for (int n = 0; n < 8; ++n, to += 8 >> shift) {
        if (a.piece == 4) sums[4 * n] += __shfl_xor_sync(~0u, sums[4 * n], 1);
        if (stores) to[0] = base[h] + __log2f(sums[4 * n]);
        if (exists && a.piece == 1) to[1] = base[h] + __log2f(sums[4 * n + 1]);
      }
    }
  }
}

}  // namespace elastic::detail
