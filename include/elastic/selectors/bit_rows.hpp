// Rows of bits in workspace memory: which blocks a query sees, which columns a head sees.
#pragma once

#include <cstdint>

#include <elastic/core/host_device.hpp>

namespace elastic {

/// Row r lies at words + r·words_per_row; bit i of a row is bit i mod 32 of its word i / 32.
struct bit_rows {
  std::uint32_t* words = nullptr;
  int words_per_row = 0;

  ELASTIC_HOST_DEVICE static constexpr int words_for(int bits) { return ceil_div(bits, 32); }

  ELASTIC_HOST_DEVICE std::uint32_t* row(std::int64_t r) const { return words + r * words_per_row; }

  ELASTIC_HOST_DEVICE bool test(std::int64_t r, int bit) const { return (row(r)[bit / 32] >> (bit % 32) & 1u) != 0; }

  ELASTIC_HOST_DEVICE void set(std::int64_t r, int bit) const { row(r)[bit / 32] |= 1u << (bit % 32); }

  ELASTIC_HOST_DEVICE void clear(std::int64_t r) const {
    for (int i = 0; i < words_per_row; ++i) row(r)[i] = 0;
  }

  /// Bits first … first + count − 1, 64 at most, from the lowest on; above them anything.
  ELASTIC_HOST_DEVICE std::uint64_t bits(std::int64_t r, int first, int count) const {
    std::uint64_t result = 0;
    for (int at = first; at < first + count; at = (at / 32 + 1) * 32) {
      std::uint64_t const word = row(r)[at / 32] >> (at % 32);
      result |= word << (at - first);
    }
    return result;
  }

  /// Is a bit of [begin, end) set?
  ELASTIC_HOST_DEVICE bool any(std::int64_t r, int begin, int end) const {
    for (int at = begin; at < end; at = (at / 32 + 1) * 32)
      if ((row(r)[at / 32] & mask(at, end)) != 0) return true;
    return false;
  }

  /// Is every bit of [begin, end) set?
  ELASTIC_HOST_DEVICE bool all(std::int64_t r, int begin, int end) const {
    for (int at = begin; at < end; at = (at / 32 + 1) * 32)
      if ((~row(r)[at / 32] & mask(at, end)) != 0) return false;
    return true;
  }

 private:
  /// The bits of [at, end) in the word of `at`.
  ELASTIC_HOST_DEVICE static std::uint32_t mask(int at, int end) {
    std::uint32_t const from = ~0u << (at % 32);
    return end - at / 32 * 32 >= 32 ? from : from & ((1u << (end % 32)) - 1u);
  }
};

}  // namespace elastic
