// How the element types of safetensors files become C++ types: which one stands for which, which
// conversions are allowed, and how they round (to nearest, ties to even, once).
// Floating-point types convert among each other; integers only where every value fits; BOOL is
// uint8_t; floating-point and integer types do not mix.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <elastic/core/dtype.hpp>
#include <elastic/io/safetensors_header.hpp>

namespace elastic::detail {

/// Calls `function` with std::type_identity of the C++ type that stands for `dtype` (uint8_t for BOOL).
template <class Function>
decltype(auto) with_type(safetensors_dtype dtype, Function&& function) {
  switch (dtype) {
    case safetensors_dtype::i8:
      return function(std::type_identity<std::int8_t>{});
    case safetensors_dtype::u16:
      return function(std::type_identity<std::uint16_t>{});
    case safetensors_dtype::i16:
      return function(std::type_identity<std::int16_t>{});
    case safetensors_dtype::f16:
      return function(std::type_identity<half>{});
    case safetensors_dtype::bf16:
      return function(std::type_identity<bfloat16>{});
    case safetensors_dtype::u32:
      return function(std::type_identity<std::uint32_t>{});
    case safetensors_dtype::i32:
      return function(std::type_identity<std::int32_t>{});
    case safetensors_dtype::f32:
      return function(std::type_identity<float>{});
    case safetensors_dtype::u64:
      return function(std::type_identity<std::uint64_t>{});
    case safetensors_dtype::i64:
      return function(std::type_identity<std::int64_t>{});
    case safetensors_dtype::f64:
      return function(std::type_identity<double>{});
    case safetensors_dtype::boolean:
    case safetensors_dtype::u8:
      break;
  }
  return function(std::type_identity<std::uint8_t>{});
}

template <safetensors_element T>
constexpr safetensors_dtype dtype_of() {
  if constexpr (std::same_as<T, bool>) return safetensors_dtype::boolean;
  if constexpr (std::same_as<T, std::uint8_t>) return safetensors_dtype::u8;
  if constexpr (std::same_as<T, std::int8_t>) return safetensors_dtype::i8;
  if constexpr (std::same_as<T, std::uint16_t>) return safetensors_dtype::u16;
  if constexpr (std::same_as<T, std::int16_t>) return safetensors_dtype::i16;
  if constexpr (std::same_as<T, half>) return safetensors_dtype::f16;
  if constexpr (std::same_as<T, bfloat16>) return safetensors_dtype::bf16;
  if constexpr (std::same_as<T, std::uint32_t>) return safetensors_dtype::u32;
  if constexpr (std::same_as<T, std::int32_t>) return safetensors_dtype::i32;
  if constexpr (std::same_as<T, float>) return safetensors_dtype::f32;
  if constexpr (std::same_as<T, std::uint64_t>) return safetensors_dtype::u64;
  if constexpr (std::same_as<T, std::int64_t>) return safetensors_dtype::i64;
  if constexpr (std::same_as<T, double>) return safetensors_dtype::f64;
}

template <class From, class To>
constexpr bool converts() {
  if constexpr (std::integral<From> != std::integral<To>) {
    return false;
  } else if constexpr (std::integral<From>) {
    return std::in_range<To>(std::numeric_limits<From>::min()) && std::in_range<To>(std::numeric_limits<From>::max());
  } else {
    return true;
  }
}

/// The names of all dtypes that convert to T, for messages.
template <class T>
std::string names_that_convert() {
  std::string names;
  for (auto const& type : safetensors_types) {
    bool const fits = with_type(type.dtype, []<class From>(std::type_identity<From>) { return converts<From, T>(); });
    if (fits) names += (names.empty() ? "" : ", ") + std::string(type.name);
  }
  return names;
}

/// Rounds to float towards zero and sets the last bit if anything was lost. A second rounding to a
/// 16-bit type is then the same as one rounding of the double: float has more than two spare bits.
inline float round_to_odd(double value) {
  float const nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isnan(value)) return nearest;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;  // from infinity to the largest float, too
  return std::bit_cast<float>(bits | 1u);
}

template <class To, class From>
  requires(converts<From, To>())
To convert(From value) {
  if constexpr (std::same_as<To, From>) {
    return value;
  } else if constexpr (std::integral<From> || std::same_as<To, float> || std::same_as<To, double>) {
    if constexpr (std::integral<From> || std::same_as<From, double>)
      return static_cast<To>(value);
    else
      return static_cast<To>(static_cast<float>(value));
  } else if constexpr (std::same_as<From, double>) {
    return To(round_to_odd(value));
  } else {
    return To(static_cast<float>(value));
  }
}

}  // namespace elastic::detail
