// The online softmax on a block of scores. Query rows lie contiguously and are taken in lanes of a fixed
// number, so that the compiler makes vector code of every loop, at -O2 as well.
// exp(x) = 2^n · e^f with n = round(x·log2 e), |f| ≤ ½ ln 2, e^f by a polynomial of degree 7 (within 2 ulp).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <elastic/core/dtype.hpp>

namespace elastic::detail {

/// Rows worked on side by side; buffers of rows are padded to a multiple.
inline constexpr int softmax_lanes = 16;

/// exp for x ≤ 0. Below −87.3, where float turns subnormal, it is 0.
inline float exp_of_negative(float x) {
  constexpr float log2_e = 1.44269504088896341f;
  constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float to_integer = 0x1.8p23f;  // adding it rounds to an integer held in the low bits
  constexpr float least = -87.3f;
  float const clamped = x > least ? x : least;
  float const shifted = clamped * log2_e + to_integer;
  float const n = shifted - to_integer;
  float const f = (clamped - n * ln2_high) - n * ln2_low;
  float y = 1.9875691500e-4f;
  y = y * f + 1.3981999507e-3f;
  y = y * f + 8.3334519073e-3f;
  y = y * f + 4.1665795894e-2f;
  y = y * f + 1.6666665459e-1f;
  y = y * f + 5.0000001201e-1f;
  y = y * (f * f) + (f + 1.f);
  float const power = bits_as<float>(bits_as<std::int32_t>(y) + (bits_as<std::int32_t>(shifted) << 23));
  return x > least ? power : 0.f;
}

/// scores (columns, stride ≥ rows) become P; highest and total are updated; scale is what earlier output
/// has to be multiplied with. Returns false where every scale is 1. Padding rows hold any finite value.
inline bool online_softmax(float* __restrict scores, int stride, int rows, int columns, float* __restrict highest,
                           float* __restrict total, float* __restrict scale) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  bool rescales = false;
  for (int first = 0; first < rows; first += softmax_lanes) {
    float top[softmax_lanes], base[softmax_lanes], sum[softmax_lanes];
    for (int r = 0; r < softmax_lanes; ++r) top[r] = highest[first + r];
    for (int c = 0; c < columns; ++c) {
      float const* const s = scores + std::int64_t{c} * stride + first;
      for (int r = 0; r < softmax_lanes; ++r) top[r] = top[r] < s[r] ? s[r] : top[r];
    }
    for (int r = 0; r < softmax_lanes; ++r) {
      base[r] = top[r] == none ? 0.f : top[r];
      rescales |= highest[first + r] != top[r];
      scale[first + r] = exp_of_negative(highest[first + r] - base[r]);
      sum[r] = total[first + r] * scale[first + r];
      highest[first + r] = top[r];
    }
    for (int c = 0; c < columns; ++c) {
      float* const s = scores + std::int64_t{c} * stride + first;
      for (int r = 0; r < softmax_lanes; ++r) {
        s[r] = exp_of_negative(s[r] - base[r]);
        sum[r] += s[r];
      }
    }
    for (int r = 0; r < softmax_lanes; ++r) total[first + r] = sum[r];
  }
  return rescales;
}

}  // namespace elastic::detail
