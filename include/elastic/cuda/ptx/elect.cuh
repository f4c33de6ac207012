// Elects one lane of a full warp (compute capability 9.0). Of `lane == 0` the compiler does not know that it is one
// lane alone, and puts a loop over lanes around what it cannot issue for several, such as a bulk copy.
#pragma once

#include <cstdint>

namespace elastic::ptx {

__device__ __forceinline__ bool elect() {
  std::uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected));
  return elected != 0;
}

}  // namespace elastic::ptx
