// Fences between what threads do in shared memory and what the asynchronous units (bulk copies, wgmma) do there.
#pragma once

namespace elastic::ptx {

/// Barriers that were initialised before are seen by bulk copies.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// What this thread stored to shared memory before is seen by bulk copies and wgmma after the next barrier.
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace elastic::ptx
