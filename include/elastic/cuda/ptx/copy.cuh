// cp.async: 16 bytes from global to shared memory without passing through registers, in groups that are
// waited for in order. Where `bytes` is 0 nothing is read and zeros are written.
#pragma once

#include <cstdint>

namespace elastic::ptx {

__device__ __forceinline__ void copy_16(std::uint32_t to, void const* from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/// A single float.
__device__ __forceinline__ void copy_4(std::uint32_t to, void const* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most `Pending` of this thread's newest groups are under way.
template <int Pending>
__device__ __forceinline__ void wait_copy_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace elastic::ptx
