// The list of kernels and which one serves a problem: by compute capability (90 is 9.0), head dim and
// element type. One folder holds one architecture.
#pragma once

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "elastic: cuda is compiled for compute capability 8.0 or newer: set CMAKE_CUDA_ARCHITECTURES, or nvcc's -arch"
#endif

#include <elastic/cuda/sm90/tuning.hpp>

namespace elastic {

enum class cuda_kernel { none, portable, portable_decode, sm90 };

/// Oldest compute capability that is served: mma.sync on bfloat16 and cp.async.
inline constexpr int oldest_capability = 80;

/// What serves tensors and lists of the ordinary kind. The portable kernel also takes those that another kernel cannot
/// serve (sm90/launch.cuh).
constexpr cuda_kernel cuda_kernel_for(int capability, int head_dim, int element_bytes) {
  if (sm90_is_built && capability == 90 && element_bytes == 2 && sm90_tiling_for(head_dim).serves())
    return cuda_kernel::sm90;
  return capability >= oldest_capability ? cuda_kernel::portable : cuda_kernel::none;
}

/// `serves`: does the decode kernel take this mode, type and number of queries?
constexpr cuda_kernel cuda_decode_kernel_for(int capability, int /*head_dim*/, int /*element_bytes*/, bool serves) {
  if (capability < oldest_capability) return cuda_kernel::none;
  return serves ? cuda_kernel::portable_decode : cuda_kernel::portable;  // a cache is not for TMA
}

constexpr char const* name_of(cuda_kernel kernel) {
  switch (kernel) {
    case cuda_kernel::portable:
      return "portable";
    case cuda_kernel::portable_decode:
      return "portable decode";
    case cuda_kernel::sm90:
      return "sm90";
    case cuda_kernel::none:
      return "none";
  }
  return "none";
}

}  // namespace elastic
