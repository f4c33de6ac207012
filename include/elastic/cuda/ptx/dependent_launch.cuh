// Programmatic dependent launch, sm_90 and newer: a kernel lets the next one start, and the next one waits where
// it needs what the first has written. Before sm_90 a kernel starts when the one before has ended, and both are empty.
#pragma once

namespace elastic::ptx {

/// Every CTA has started: the next kernel may, too.
__device__ __forceinline__ void let_dependents_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Waits until the kernel before has ended and its writes are seen.
__device__ __forceinline__ void wait_for_prerequisites() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace elastic::ptx
