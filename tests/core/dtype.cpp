// The 16-bit types against two independent references: Eigen's, and rounding done slowly in double.
#include <elastic/core/dtype.hpp>

#include <doctest/doctest.h>

#include <Eigen/Core>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#ifdef __SSE2__
#include <immintrin.h>
#endif

using elastic::bfloat16;
using elastic::half;

namespace {

struct layout {
  int fraction;  // bits
  int lowest;    // exponent of the smallest normal value
  int highest;   // exponent of the largest
};
constexpr layout half_layout{10, -14, 15};
constexpr layout bfloat16_layout{7, -126, 127};

/// The value of a bit pattern, by the definition of the format.
double slow_value(std::uint16_t bits, layout const& format) {
  int const fraction = bits & ((1 << format.fraction) - 1);
  int const exponent = (bits & 0x7fff) >> format.fraction;
  int const special = (1 << (15 - format.fraction)) - 1;
  double magnitude = 0.0;
  if (exponent == special) {
    magnitude = fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, format.lowest - format.fraction);
  } else {
    magnitude = std::ldexp((1 << format.fraction) + fraction, format.lowest + exponent - 1 - format.fraction);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/// Rounds to the nearest value of a format, ties to even; all steps are exact in double.
double slow_round(double value, layout const& format) {
  if (value == 0.0 || !std::isfinite(value)) return value;
  int exponent = std::ilogb(value);
  if (exponent < format.lowest) exponent = format.lowest;
  double const unit = std::ldexp(1.0, exponent - format.fraction);
  double const scaled = value / unit;
  double const below = std::floor(scaled);
  double const rest = scaled - below;
  double rounded = rest > 0.5 ? below + 1.0 : below;
  if (rest == 0.5 && std::fmod(below, 2.0) != 0.0) rounded = below + 1.0;
  double const result = std::copysign(rounded * unit, value);
  if (std::fabs(result) >= std::ldexp(1.0, format.highest + 1)) {
    return std::copysign(std::numeric_limits<double>::infinity(), value);
  }
  return result;
}

bool same(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}

template <class T>
bool is_nan(T value) {
  return std::isnan(static_cast<float>(value));
}

template <class Ours, class Eigens>
bool agrees(std::uint32_t bits, layout const& format) {
  float const value = std::bit_cast<float>(bits);
  Ours const ours(value);
  if (std::isnan(value)) return is_nan(ours) && (ours.bits >> 15) == (bits >> 31);
  std::uint16_t const theirs = Eigen::numext::bit_cast<std::uint16_t>(Eigens(value));
  return ours.bits == theirs && same(slow_value(ours.bits, format), slow_round(double{value}, format));
}

/// Counts, because a CHECK for each of millions takes minutes.
template <class Ours, class Eigens>
int mismatches(std::vector<std::uint32_t> const& patterns, layout const& format) {
  int count = 0;
  for (std::uint32_t const bits : patterns) count += !agrees<Ours, Eigens>(bits, format);
  return count;
}

/// Around every 16-bit value and every midpoint between two of them: itself, and its nearest floats.
std::vector<std::uint32_t> boundaries(layout const& format) {
  std::vector<std::uint32_t> patterns;
  for (std::uint32_t bits = 0; bits < 0x7fff; ++bits) {
    double const here = slow_value(static_cast<std::uint16_t>(bits), format);
    double next = slow_value(static_cast<std::uint16_t>(bits + 1), format);
    if (std::isnan(here) || std::isnan(next)) continue;
    if (std::isinf(next)) next = std::ldexp(1.0, format.highest + 1);
    if (std::isinf(here)) continue;
    for (double const value : {here, (here + next) / 2}) {
      std::uint32_t const centre = std::bit_cast<std::uint32_t>(static_cast<float>(value));
      for (std::uint32_t const sign : {0u, 0x80000000u}) {
        if (centre > 0) patterns.push_back(sign | (centre - 1));
        patterns.push_back(sign | centre);
        patterns.push_back(sign | (centre + 1));
      }
    }
  }
  for (std::uint32_t const bits : {0x00000001u, 0x007fffffu, 0x00800000u, 0x7f7fffffu, 0x7f800000u, 0x7f800001u,
                                   0x7fbfffffu, 0x7fc00000u, 0x7fffffffu}) {
    patterns.push_back(bits);
    patterns.push_back(bits | 0x80000000u);
  }
  return patterns;
}

template <class Ours, class Eigens>
void check_all_patterns(layout const& format) {
  int wrong_value = 0, wrong_round_trip = 0, differs_from_eigen = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    auto const bits = static_cast<std::uint16_t>(i);
    Ours const value = Ours::from_bits(bits);
    float const wide = static_cast<float>(value);
    wrong_value += !same(double{wide}, slow_value(bits, format));
    differs_from_eigen += !same(wide, static_cast<float>(Eigen::numext::bit_cast<Eigens>(bits)));
    Ours const back(wide);
    wrong_round_trip += std::isnan(wide) ? !is_nan(back) || (back.bits >> 15) != (bits >> 15) : back.bits != bits;
  }
  CHECK(wrong_value == 0);
  CHECK(differs_from_eigen == 0);
  CHECK(wrong_round_trip == 0);
}

std::vector<std::uint32_t> random_patterns(std::uint32_t seed, bool near_half) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> patterns(4'000'000);
  for (auto& bits : patterns) {
    bits = static_cast<std::uint32_t>(random());
    // Uniform patterns mostly lie beyond half's range; these have exponents −26 … 17.
    if (near_half) bits = (bits & 0x807fffffu) | ((101u + bits % 44u) << 23);
  }
  return patterns;
}

}  // namespace

TEST_CASE("half: all 65536 patterns have their value and round-trip through float") {
  check_all_patterns<half, Eigen::half>(half_layout);
}

TEST_CASE("bfloat16: all 65536 patterns have their value and round-trip through float") {
  check_all_patterns<bfloat16, Eigen::bfloat16>(bfloat16_layout);
}

TEST_CASE("float to half rounds to nearest even: ties, subnormals, overflow, infinities, NaN") {
  CHECK(mismatches<half, Eigen::half>(boundaries(half_layout), half_layout) == 0);
  CHECK(half(65519.996f).bits == 0x7bff);
  CHECK(half(65520.0f).bits == 0x7c00);
  CHECK(half(-0x1p-25f).bits == 0x8000);
  CHECK(half(0x1.000002p-25f).bits == 0x0001);
}

TEST_CASE("float to bfloat16 rounds to nearest even: ties, subnormals, overflow, infinities, NaN") {
  CHECK(mismatches<bfloat16, Eigen::bfloat16>(boundaries(bfloat16_layout), bfloat16_layout) == 0);
  CHECK(bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(bfloat16(1.00390625f).bits == 0x3f80);  // halfway: to even
  // A NaN whose payload lies in the low bits alone must not become infinity.
  CHECK(is_nan(bfloat16(std::bit_cast<float>(0x7f800001u))));
}

TEST_CASE("float to half agrees with both references on random patterns") {
  CHECK(mismatches<half, Eigen::half>(random_patterns(1, false), half_layout) == 0);
  CHECK(mismatches<half, Eigen::half>(random_patterns(2, true), half_layout) == 0);
}

TEST_CASE("float to bfloat16 agrees with both references on random patterns") {
  CHECK(mismatches<bfloat16, Eigen::bfloat16>(random_patterns(3, false), bfloat16_layout) == 0);
}

#ifdef __SSE2__
TEST_CASE("half does not depend on the processor's treatment of subnormal floats") {
  unsigned const before = _mm_getcsr();
  _mm_setcsr(before | 0x8040u);  // flush to zero, denormals are zero
  int wrong = 0;
  for (std::uint32_t i = 0; i < 0x7c00; ++i) {
    std::uint16_t const volatile bits = static_cast<std::uint16_t>(i);
    wrong += half(static_cast<float>(half::from_bits(bits))).bits != i;
  }
  _mm_setcsr(before);
  CHECK(wrong == 0);
}
#endif

TEST_CASE("conversions are constant expressions, and properties are those of the formats") {
  static_assert(half(1.0f).bits == 0x3c00 && static_cast<float>(half::from_bits(0x3c00)) == 1.0f);
  static_assert(bfloat16(1.0f).bits == 0x3f80 && static_cast<float>(bfloat16::from_bits(0x3f80)) == 1.0f);
  static_assert(static_cast<float>(half::from_bits(0x0001)) == 0x1p-24f);
  static_assert(elastic::epsilon<float> == std::numeric_limits<float>::epsilon());
  static_assert(static_cast<float>(half::from_bits(0x3c01)) - 1.0f == elastic::epsilon<half>);
  static_assert(static_cast<float>(bfloat16::from_bits(0x3f81)) - 1.0f == elastic::epsilon<bfloat16>);
  static_assert(!elastic::element<double> && !elastic::element<int> && !elastic::element<float const>);
  CHECK(std::string(elastic::dtype_name<half>) == "half");
  CHECK(std::string(elastic::dtype_name<bfloat16>) == "bfloat16");
  CHECK(std::string(elastic::dtype_name<float>) == "float");
}
