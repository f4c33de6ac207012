// The list of kernels and which one serves a problem: by compute capability (90 is 9.0), head dim and
// element type. One folder holds one architecture.
#pragma once

namespace elastic {

enum class cuda_kernel { none, portable, portable_decode };

/// Oldest compute capability that is served: mma.sync on bfloat16 and cp.async.
inline constexpr int oldest_capability = 80;

constexpr cuda_kernel cuda_kernel_for(int capability, int /*head_dim*/, int /*element_bytes*/) {
  return capability >= oldest_capability ? cuda_kernel::portable : cuda_kernel::none;
}

/// `serves`: does the decode kernel take this mode, type and number of queries?
constexpr cuda_kernel cuda_decode_kernel_for(int capability, int head_dim, int element_bytes, bool serves) {
  cuda_kernel const otherwise = cuda_kernel_for(capability, head_dim, element_bytes);
  return serves && otherwise != cuda_kernel::none ? cuda_kernel::portable_decode : otherwise;
}

constexpr char const* name_of(cuda_kernel kernel) {
  switch (kernel) {
    case cuda_kernel::portable:
      return "portable";
    case cuda_kernel::portable_decode:
      return "portable decode";
    case cuda_kernel::none:
      return "none";
  }
  return "none";
}

}  // namespace elastic
