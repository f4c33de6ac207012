// mbarrier (compute capability 9.0): a counter in shared memory whose phases alternate. A phase ends when every
// expected arrival has come and every expected byte has landed; a waiter names the parity of the phase that it
// waits for, so that a fresh barrier lets a waiter for parity 1 pass.
#pragma once

#include <cstdint>

namespace elastic::ptx {

/// An address in the shared window, as instructions take it.
__device__ __forceinline__ std::uint32_t shared_address(void const* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

struct mbarrier {
  std::uint64_t state;
};

__device__ __forceinline__ void init(mbarrier& b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&b)), "r"(arrivals) : "memory");
}

/// What this thread wrote before is seen by whoever waits for the phase.
__device__ __forceinline__ void arrive(mbarrier& b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&b)) : "memory");
}

/// Arrives, and lets the phase wait for as many bytes of bulk copies too.
__device__ __forceinline__ void arrive_expecting(mbarrier& b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&b)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void wait(mbarrier& b, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra past_%=;\n"
      "bra again_%=;\n"
      "past_%=:\n}" ::"r"(shared_address(&b)),
      "r"(parity)
      : "memory");
}

/// The same for a wait of many microseconds: sleeps between its looks.
__device__ __forceinline__ void wait_long(mbarrier& b, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1, 10000000;\n"
      "@done bra past_%=;\n"
      "nanosleep.u32 200;\n"
      "bra again_%=;\n"
      "past_%=:\n}" ::"r"(shared_address(&b)),
      "r"(parity)
      : "memory");
}

}  // namespace elastic::ptx
