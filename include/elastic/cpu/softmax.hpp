// The online softmax on a block of scores, written so that the compiler vectorises over query rows.
// exp(x) = 2^n · 2^f with n = round(x·log2 e), |f| ≤ ½, 2^f by a polynomial of degree 6 (relative error
// below 2 ulp); below −87.3 it is 0.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <elastic/core/dtype.hpp>

namespace elastic::detail {

/// exp for x ≤ 0; −∞ gives 0.
inline float exp_of_negative(float x) {
  constexpr float log2_e = 1.44269504088896341f;
  constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float to_integer = 0x1.8p23f;
  float const clamped = x > -87.3f ? x : -87.3f;
  float const shifted = clamped * log2_e + to_integer;
  float const n = shifted - to_integer;
  float const f = (clamped - n * ln2_high) - n * ln2_low;
  float y = 1.9875691500e-4f;
  y = y * f + 1.3981999507e-3f;
  y = y * f + 8.3334519073e-3f;
  y = y * f + 4.1665795894e-2f;
  y = y * f + 1.6666665459e-1f;
  y = y * f + 5.0000001201e-1f;
  y = y * f * f + f + 1.f;
  std::int32_t const exponent = bits_as<std::int32_t>(shifted) << 23;
  float const power = bits_as<float>(bits_as<std::int32_t>(y) + exponent);
  return x > -87.3f ? power : 0.f;
}

/// scores (columns, rows) become P; highest and total are updated; scale is what earlier output has to
/// be multiplied with. Returns false where every scale is 1.
inline bool online_softmax(float* scores, int rows, int columns, float* highest, float* total, float* scale) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  for (int r = 0; r < rows; ++r) scale[r] = highest[r];
  for (int c = 0; c < columns; ++c) {
    float const* const s = scores + std::int64_t{c} * rows;
    for (int r = 0; r < rows; ++r) highest[r] = highest[r] < s[r] ? s[r] : highest[r];
  }
  bool rescales = false;
  for (int r = 0; r < rows; ++r) {
    float const base = highest[r] == none ? 0.f : highest[r];
    rescales |= scale[r] != highest[r];
    scale[r] = exp_of_negative(scale[r] - base);
    total[r] *= scale[r];
  }
  for (int c = 0; c < columns; ++c) {
    float* const s = scores + std::int64_t{c} * rows;
    for (int r = 0; r < rows; ++r) {
      float const base = highest[r] == none ? 0.f : highest[r];
      s[r] = exp_of_negative(s[r] - base);
      total[r] += s[r];
    }
  }
  return rescales;
}

}  // namespace elastic::detail
