// Caller-owned scratch memory. A cursor hands out aligned slices; started without memory it only
// counts, so that the bytes asked for and the bytes taken come from the same code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <elastic/core/error.hpp>

namespace elastic {

using workspace = std::span<std::byte>;

/// Where `workspace_bytes` stops growing and work is cut into chunks of query rows.
inline constexpr std::size_t default_workspace_limit = std::size_t{2} << 30;

inline constexpr std::size_t workspace_alignment = 256;

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
