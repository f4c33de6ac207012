// bar.sync with a name: a barrier among some of a CTA's warps. Name 0 is __syncthreads.
#pragma once

namespace elastic::ptx {

__device__ __forceinline__ void sync_named(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

}  // namespace elastic::ptx
