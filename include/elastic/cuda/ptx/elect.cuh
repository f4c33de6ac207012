// One lane of a warp that is all there (compute capability 9.0): where the compiler sees who was elected it does not
// loop over the lanes to issue what one lane issues.
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
