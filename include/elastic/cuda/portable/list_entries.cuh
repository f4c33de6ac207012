// A list of key blocks from bits, 32 blocks at a time, by one warp: an entry is the block, or ~block where
// not all rows see it; the highest comes first.
#pragma once

#include <cstdint>

namespace elastic::detail {

/// Appends the blocks first + i whose bit i of `some` is set; bit i of `every`: all rows see it. Returns the
/// entries that there are now.
__device__ __forceinline__ int append_entries(std::int32_t* entries, int count, int first, std::uint32_t some,
                                              std::uint32_t every) {
  int const lane = static_cast<int>(threadIdx.x) % 32, block = first + lane;
  if ((some >> lane & 1u) != 0)
    entries[count + __popc(some & ~((2u << lane) - 1u))] = (every >> lane & 1u) != 0 ? block : ~block;
  return count + __popc(some);
}

}  // namespace elastic::detail
