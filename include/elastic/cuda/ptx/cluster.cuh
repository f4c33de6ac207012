// Clusters of CTAs (compute capability 9.0): who one is, a barrier in two halves, stores into a neighbour's
// shared memory. Compiled for older GPUs a cluster is one CTA.
#pragma once

#include <cstdint>

namespace elastic::ptx {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

__device__ __forceinline__ int cluster_rank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

/// What was stored before is seen by every thread of the cluster after its wait.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

/// `to` in this CTA's shared memory names the same place in that of CTA `rank`.
__device__ __forceinline__ void cluster_store(float* to, int rank, float value) {
  std::uint32_t const here = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  std::uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(value) : "memory");
}

#else

__device__ __forceinline__ int cluster_rank() { return 0; }
__device__ __forceinline__ void cluster_arrive() {}
__device__ __forceinline__ void cluster_wait() { __syncthreads(); }
__device__ __forceinline__ void cluster_store(float* to, int, float value) { *to = value; }

#endif

}  // namespace elastic::ptx
