// The online softmax of one warpgroup's rows, on a tile of logits in wgmma's accumulator layout: a thread holds
// parts of two rows, 8 apart.
//   m' = max(m, rowmax S); P = 2^(c·(S − m')); l' = 2^(c·(m − m'))·l + ΣP; O' = 2^(c·(m − m'))·O
// The maximum follows only where it would grow by more than 2^8 in some row of the warp: until then P stays below
// 2^8, and O and l need no rescaling.
#pragma once

#include <cstdint>

#include <elastic/cuda/logarithms.hpp>
#include <elastic/cuda/ptx/mma.cuh>
#include <elastic/modes/mode.hpp>

namespace elastic::detail {

struct softmax_rows {
  float highest[2];     // of the logits before the factor c
  float total[2];       // of this thread's columns
  float correction[2];  // what O still has to be multiplied by, where `corrects`
  bool corrects;

  /// Rows that are not there never see a key, and never ask for a rescaling: their queries may be anything.
  __device__ __forceinline__ void start(bool first_exists, bool second_exists) {
    highest[0] = first_exists ? minus_infinity : -minus_infinity;
    highest[1] = second_exists ? minus_infinity : -minus_infinity;
    total[0] = total[1] = 0;
  }

  /// Packs P of a tile as the next product takes it.
  template <class T, int N>
  __device__ __forceinline__ void take(float const (&s)[N], std::uint32_t (&p)[N / 2], float factor) {
    constexpr float slack = 8;
    float const tops[2] = {top_of(s, 0, highest[0]), top_of(s, 2, highest[1])};
    corrects = __any_sync(~0u, (tops[0] - highest[0]) * factor > slack || (tops[1] - highest[1]) * factor > slack);
    if (corrects) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        correction[r] = ptx::exp2(highest[r] * factor - offset(tops[r], factor));
        total[r] *= correction[r];
        highest[r] = tops[r];
      }
    }
    float const offsets[2] = {offset(highest[0], factor), offset(highest[1], factor)};
    float odd[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < N / 4; ++j)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float const low = ptx::exp2(fmaf(s[4 * j + 2 * r], factor, -offsets[r]));
        float const high = ptx::exp2(fmaf(s[4 * j + 2 * r + 1], factor, -offsets[r]));
        total[r] += low;
        odd[r] += high;
        p[2 * j + r] = ptx::pack<T>(low, high);
      }
    total[0] += odd[0];
    total[1] += odd[1];
    // Never so; but ptxas cannot move the exponentials below a branch that asks for their sum, nor the packing
    // below one that might store it.
    if (total[0] + total[1] < 0) {
#pragma unroll
      for (int i = 0; i < N / 2; ++i) asm volatile("st.shared.b32 [%0], %1;" ::"r"(i * 4), "r"(p[i]) : "memory");
    }
  }

  template <int N>
  __device__ __forceinline__ void correct(float (&output)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) output[i] *= correction[i / 2 % 2];
  }

 private:
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
