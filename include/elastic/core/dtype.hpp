// Element types: float, and Elastic's own 16-bit storage types half (IEEE binary16) and bfloat16.
// They hold bits and convert; arithmetic is done in float or double. Rounding is to nearest, ties to
// even. Bit layouts equal CUDA's __half and __nv_bfloat16 and Eigen's half and bfloat16.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>

#include <elastic/core/host_device.hpp>

namespace elastic {

namespace detail {

template <class To, class From>
ELASTIC_HOST_DEVICE constexpr To bits_as(From from) {
  return __builtin_bit_cast(To, from);
}

ELASTIC_HOST_DEVICE constexpr std::uint16_t half_bits(float value) {
  std::uint32_t const bits = bits_as<std::uint32_t>(value);
  std::uint32_t const sign = (bits >> 16) & 0x8000u;
  std::uint32_t const magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {                                                    // subnormal: let the adder round
    float const shifted = bits_as<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (bits_as<std::uint32_t>(shifted) - 0x3f000000u));
  }
  std::uint32_t const rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u;
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

ELASTIC_HOST_DEVICE constexpr float half_value(std::uint16_t bits) {
  std::uint32_t const sign = (bits & 0x8000u) << 16;
  std::uint32_t const magnitude = bits & 0x7fffu;
  std::uint32_t const shifted = magnitude << 13;
  // 2^-14 + value - 2^-14: no subnormal float takes part, so that flush-to-zero modes change nothing.
  float const subnormal = bits_as<float>(shifted | 0x38800000u) - 0x1p-14f;
  std::uint32_t const wide = magnitude >= 0x7c00u   ? shifted | 0x7f800000u
                             : magnitude >= 0x0400u ? shifted + 0x38000000u
                                                    : bits_as<std::uint32_t>(subnormal);
  return bits_as<float>(wide | sign);
}

ELASTIC_HOST_DEVICE constexpr std::uint16_t bfloat16_bits(float value) {
  std::uint32_t const bits = bits_as<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace detail

struct half {
  std::uint16_t bits;
  half() = default;
  ELASTIC_HOST_DEVICE constexpr explicit half(float value) : bits(detail::half_bits(value)) {}
  ELASTIC_HOST_DEVICE constexpr explicit operator float() const { return detail::half_value(bits); }
  ELASTIC_HOST_DEVICE static constexpr half from_bits(std::uint16_t bits) {
    half h{};
    h.bits = bits;
    return h;
  }
};

struct bfloat16 {
  std::uint16_t bits;
  bfloat16() = default;
  ELASTIC_HOST_DEVICE constexpr explicit bfloat16(float value) : bits(detail::bfloat16_bits(value)) {}
  ELASTIC_HOST_DEVICE constexpr explicit operator float() const {
    return detail::bits_as<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  ELASTIC_HOST_DEVICE static constexpr bfloat16 from_bits(std::uint16_t bits) {
    bfloat16 b{};
    b.bits = bits;
    return b;
  }
};

template <class T>
concept element = std::same_as<T, float> || std::same_as<T, half> || std::same_as<T, bfloat16>;

static_assert(sizeof(half) == 2 && sizeof(bfloat16) == 2 && element<half> && element<bfloat16>);

/// Distance from 1 to the next larger value.
template <element T>
inline constexpr double epsilon = std::same_as<T, float>  ? 0x1p-23
                                  : std::same_as<T, half> ? 0x1p-10
                                                          : 0x1p-7;

template <element T>
inline constexpr char const* dtype_name = std::same_as<T, float>  ? "float"
                                          : std::same_as<T, half> ? "half"
                                                                  : "bfloat16";

}  // namespace elastic
