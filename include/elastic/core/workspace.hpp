// Caller-owned scratch memory. A cursor hands out aligned slices; started without memory it only
// counts, so that the bytes asked for and the bytes taken come from the same code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>

#include <elastic/core/error.hpp>

namespace elastic {

using workspace = std::span<std::byte>;

/// Where `workspace_bytes` stops growing and work is cut into chunks of query rows, down to chunk_alignment of them.
inline constexpr std::size_t default_workspace_limit = std::size_t{2} << 30;

inline constexpr std::size_t workspace_alignment = 256;

/// The number of elements of a dense array. Throws elastic::error where it leaves 64 bits.
inline std::int64_t elements_of(std::initializer_list<std::int64_t> extents) {
  std::int64_t product = 1;
  for (std::int64_t extent : extents)
    require(!__builtin_mul_overflow(product, extent, &product), "workspace", "an array of more than 2^63 elements",
            "a number of elements that fits in memory");
  return product;
}

class workspace_cursor {
 public:
  workspace_cursor() = default;
  explicit workspace_cursor(std::byte* base) : base_(base) {}

  /// The next `count` elements, or null while only counting.
  template <class T>
  T* take(std::int64_t count) {
    std::size_t const at = used_;
    std::size_t const n = static_cast<std::size_t>(count);
    std::size_t const room = std::numeric_limits<std::size_t>::max() - at - workspace_alignment;
    require(count >= 0 && n <= room / sizeof(T), "workspace", count, "a number of elements that fits in memory");
    used_ += (n * sizeof(T) + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }

  std::size_t used() const { return used_; }

 private:
  std::byte* base_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace elastic
