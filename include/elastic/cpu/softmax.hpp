// The online softmax on a panel of scores, on Eigen's packets.
// exp(x) = 2^n · e^f with n = round(x·log2 e), |f| ≤ ½ ln 2, e^f by a polynomial of degree 7 (within 2 ulp).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include <elastic/core/dtype.hpp>
#include <elastic/cpu/panel.hpp>

namespace elastic::detail {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"  // packets are the compiler's vector types
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // see cpu/eigen.hpp
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

using packet_bits = Eigen::internal::unpacket_traits<packet>::integer_packet;

/// Rows worked on side by side by loops that the compiler is to vectorise.
inline constexpr int softmax_lanes = 16;

/// exp for x ≤ 0. Below −87.3, where float turns subnormal, it is 0.
inline float exp_of_negative(float x) {
  constexpr float to_integer = 0x1.8p23f;  // adding it rounds to an integer held in the low bits
  constexpr float least = -87.3f;
  float const clamped = x > least ? x : least;
  float const shifted = clamped * 1.44269504088896341f + to_integer;
  float const n = shifted - to_integer;
  float const f = n * 2.12194440e-4f + (n * -0.693359375f + clamped);
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

/// The same on a packet.
EIGEN_STRONG_INLINE packet exp_of_negative(packet const& x) {
  using namespace Eigen::internal;
  packet const to_integer = pset1<packet>(0x1.8p23f);  // adding it rounds to an integer held in the low bits
  packet const least = pset1<packet>(-87.3f);
  packet const clamped = pmax(x, least);
  packet const shifted = pmadd(clamped, pset1<packet>(1.44269504088896341f), to_integer);
  packet const n = psub(shifted, to_integer);
  packet const f = pmadd(n, pset1<packet>(2.12194440e-4f), pmadd(n, pset1<packet>(-0.693359375f), clamped));
  packet y = pset1<packet>(1.9875691500e-4f);
  y = pmadd(y, f, pset1<packet>(1.3981999507e-3f));
  y = pmadd(y, f, pset1<packet>(8.3334519073e-3f));
  y = pmadd(y, f, pset1<packet>(4.1665795894e-2f));
  y = pmadd(y, f, pset1<packet>(1.6666665459e-1f));
  y = pmadd(y, f, pset1<packet>(5.0000001201e-1f));
  y = pmadd(y, pmul(f, f), padd(f, pset1<packet>(1.f)));
  packet_bits const power =
      padd(preinterpret<packet_bits>(y), plogical_shift_left<23>(preinterpret<packet_bits>(shifted)));
  return pand(preinterpret<packet>(power), pcmp_lt(least, x));
}

/// What the running maximum is subtracted as: a row that saw nothing yet has −∞, and takes 0.
EIGEN_STRONG_INLINE packet finite_base(packet const& highest) {
  using namespace Eigen::internal;
  return pandnot(highest, pcmp_eq(highest, pset1<packet>(-std::numeric_limits<float>::infinity())));
}

/// scores (columns, panel_rows) become P; highest and total (panel_rows) are updated; scale (panel_rows) is
/// what earlier output has to be multiplied with.
inline void online_softmax(float* scores, int columns, float* highest, float* total, float* scale) {
  using namespace Eigen::internal;
  packet top[2] = {pload<packet>(highest), pload<packet>(highest + packet_size)};
  for (int c = 0; c < columns; ++c) {
    top[0] = pmax(top[0], pload<packet>(scores + c * panel_rows));
    top[1] = pmax(top[1], pload<packet>(scores + c * panel_rows + packet_size));
  }
  packet const base[2] = {finite_base(top[0]), finite_base(top[1])};
  packet factor[2], sum[2];
  for (int i = 0; i < 2; ++i) {
    factor[i] = exp_of_negative(psub(pload<packet>(highest + i * packet_size), base[i]));
    sum[i] = pset1<packet>(0.f);
    pstore(scale + i * packet_size, factor[i]);
    pstore(highest + i * packet_size, top[i]);
  }
  for (int c = 0; c < columns; ++c) {
    float* const row = scores + c * panel_rows;
    packet const low = exp_of_negative(psub(pload<packet>(row), base[0]));
    packet const high = exp_of_negative(psub(pload<packet>(row + packet_size), base[1]));
    pstore(row, low);
    pstore(row + packet_size, high);
    sum[0] = padd(sum[0], low);
    sum[1] = padd(sum[1], high);
  }
  for (int i = 0; i < 2; ++i)
    pstore(total + i * packet_size, pmadd(pload<packet>(total + i * packet_size), factor[i], sum[i]));
}

#pragma GCC diagnostic pop

}  // namespace elastic::detail
