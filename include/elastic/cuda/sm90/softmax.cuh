// The online softmax of one warpgroup's rows, on a tile of logits in wgmma's accumulator layout: a thread holds
// parts of two rows, 8 apart.
//   P = 2^(c·(S − m)); l += ΣP; where m rises to m': l and O are multiplied by 2^(c·(m − m'))
// Any m will do that keeps P in range, so tiles are not searched for their maximum: m stays, and only where a thread's
// share of ΣP comes out too large is it raised to the maximum, and P taken again. A tile's first exponentials need no
// look at the others.
#pragma once

#include <cstdint>

#include <elastic/cuda/logarithms.hpp>
#include <elastic/cuda/ptx/mma.cuh>
#include <elastic/modes/mode.hpp>

namespace elastic::detail {

struct softmax_rows {
  float highest[2];     // m, of the logits before the factor c
  float total[2];       // l, of this thread's columns
  float correction[2];  // what O still has to be multiplied by, where `corrects`
  bool corrects;
  bool settled;  // all rows of the warp have an m to go by

  /// Rows that are not there never see a key, and never ask for an m: their queries may be anything.
  __device__ __forceinline__ void start(bool first_exists, bool second_exists) {
    highest[0] = first_exists ? minus_infinity : -minus_infinity;
    highest[1] = second_exists ? minus_infinity : -minus_infinity;
    total[0] = total[1] = 0;
    settled = false;
  }

  /// Packs P of a tile as the next product takes it. `begun` is called once, as the first exponentials begin.
  template <class T, int N, class Begun>
  __device__ __forceinline__ void take(float const (&s)[N], std::uint32_t (&p)[N / 2], float factor,
                                       Begun const& begun) {
    constexpr float limit = 1024;  // of a sum, and so of P: far inside half's range
    bool again = false;
    corrects = !settled;
    float sum[2];
    for (;;) {
      if (corrects) [[unlikely]]
        raise(s, factor);
      float const offsets[2] = {offset(highest[0], factor), offset(highest[1], factor)};
      float odd[2] = {0, 0};
      sum[0] = sum[1] = 0;
      if (!again) begun();
#pragma unroll
      for (int j = 0; j < N / 4; ++j)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float const low = ptx::exp2(fmaf(s[4 * j + 2 * r], factor, -offsets[r]));
          float const high = ptx::exp2(fmaf(s[4 * j + 2 * r + 1], factor, -offsets[r]));
          sum[r] += low;
          odd[r] += high;
          p[2 * j + r] = ptx::pack<T>(low, high);
        }
      sum[0] += odd[0];
      sum[1] += odd[1];
      int raised = corrects;
      asm volatile("" : "+r"(raised));  // one copy of the code above: ptxas keeps a second one in the way of the first
      if (raised != 0 || !__any_sync(~0u, fmaxf(sum[0], sum[1]) > limit)) [[likely]]
        break;
      corrects = again = true;
    }
    total[0] += sum[0];
    total[1] += sum[1];
  }

  template <int N>
  __device__ __forceinline__ void correct(float (&output)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) output[i] *= correction[i / 2 % 2];
  }

 private:
  /// m becomes the maximum of all tiles up to this one.
  template <int N>
  __device__ __forceinline__ void raise(float const (&s)[N], float factor) {
    float const tops[2] = {top_of(s, 0, highest[0]), top_of(s, 2, highest[1])};
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      correction[r] = ptx::exp2(highest[r] * factor - offset(tops[r], factor));
      total[r] *= correction[r];
      highest[r] = tops[r];
    }
    settled = __all_sync(~0u, highest[0] > minus_infinity && highest[1] > minus_infinity);
  }

  /// −∞ · c, of a row that has seen no key, must not meet another −∞.
  __device__ __forceinline__ static float offset(float highest, float factor) {
    return highest == minus_infinity ? 0.f : highest * factor;
  }

  /// The larger of `least` and a row's logits, in four chains; the same in the four threads of the row.
  template <int N>
  __device__ __forceinline__ static float top_of(float const (&s)[N], int row, float least) {
    constexpr int chains = 4;
    float top[chains];
#pragma unroll
    for (int j = 0; j < N / 4; ++j) {
      float const pair = fmaxf(s[4 * j + row], s[4 * j + row + 1]);
      top[j % chains] = j >= chains ? fmaxf(top[j % chains], pair) : j == 0 ? fmaxf(least, pair) : pair;
    }
    float most = fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3]));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    return fmaxf(most, __shfl_xor_sync(~0u, most, 2));
  }
};

}  // namespace elastic::detail
