// From a checked problem to the kernel that serves it: device, alignment, workspace and head dim are
// settled here, before anything is launched.
#pragma once

#include <cstdint>
#include <string>

#include <elastic/core/check.hpp>
#include <elastic/cuda/architecture.hpp>
#include <elastic/cuda/portable/decode_launch.cuh>
#include <elastic/cuda/portable/launch.cuh>
#include <elastic/cuda/sm90/launch.cuh>

namespace elastic::detail {

struct cuda_device {
  int number;
  int capability;  // 90 is 9.0
};

/// The current device. Throws elastic::error where there is none, or one that is too old.
inline cuda_device current_device() {
  int count = 0;
  cudaError_t const status = cudaGetDeviceCount(&count);
  bool const absent =
      status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver || (status == cudaSuccess && count == 0);
  if (absent) cudaGetLastError();
  require(!absent, "device", "none", "a CUDA device and its driver");
  cuda_call(status, "cudaGetDeviceCount");
  cuda_device device{};
  cuda_call(cudaGetDevice(&device.number), "cudaGetDevice");
  int const major = device_attribute(cudaDevAttrComputeCapabilityMajor, device.number);
  int const minor = device_attribute(cudaDevAttrComputeCapabilityMinor, device.number);
  device.capability = 10 * major + minor;
  require(device.capability >= oldest_capability, "device",
          "compute capability " + std::to_string(major) + "." + std::to_string(minor), "8.0 or newer");
  return device;
}

/// Rows are copied by 16 bytes.
template <class T, int Rank>
void check_alignment(char const* name, strided_view<T, Rank> const& view) {
  if (view.size() == 0) return;
  bool fits = reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0;
  for (int i = 0; i + 1 < Rank; ++i)
    fits = fits && (view.extents[i] <= 1 || view.strides[i] % (16 / static_cast<std::int64_t>(sizeof(T))) == 0);
  require(fits, name, "an unaligned tensor", "a base and strides that are multiples of 16 bytes");
}

template <class T>
void check_source_alignment(plain_keys<T> const& source) {
  check_alignment("k", source.k);
  check_alignment("v", source.v);
}

template <class T>
void check_source_alignment(paged_cache<T> const& source) {
  check_alignment("cache.k_pages", source.k_pages);
  check_alignment("cache.v_pages", source.v_pages);
}

/// Everything that is refused before a launch; the device that it goes to.
template <int... HeadDims, class Source, class T>
cuda_device check_launch(problem const& p, heads_view<T const> const& q, Source const& source, heads_view<T> const& out,
                         workspace scratch, std::size_t needed) {
  std::string served;
  ((served += (served.empty() ? "" : ", ") + std::to_string(HeadDims)), ...);
  require(((p.head_dim == HeadDims) || ...), "q head_dim", p.head_dim,
          "one that this backend was compiled for: " + served);
  check_alignment("q", q);
  check_source_alignment(source);
  check_alignment("out", out);
  require(scratch.size() >= needed && reinterpret_cast<std::uintptr_t>(scratch.data()) % workspace_alignment == 0,
          "workspace", std::to_string(scratch.size()) + " bytes",
          std::to_string(needed) + " aligned bytes for the pass");
  return current_device();
}

template <int... HeadDims, class M, class Source, class T>
void cuda_forward(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                  heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
                  workspace scratch) {
  cuda_device const device = check_launch<HeadDims...>(p, q, source, out, scratch, portable_scratch_bytes(p));
  if (p.batch == 0 || p.q_begin >= p.q_end) return;
  auto const launch = [&]<int HeadDim>(std::integral_constant<int, HeadDim>) {
    if constexpr (sm90_is_built)
      if (sm90_launch<HeadDim>(mode, p, q, source, out, lse, assignment, scratch, device.number, device.capability))
        return;
    portable_launch<HeadDim>(mode, p, q, source, out, lse, assignment, scratch, device.number);
  };
  ((p.head_dim == HeadDims && (launch(std::integral_constant<int, HeadDims>{}), true)) || ...);
}

/// Bytes for any decode of these shapes, whichever kernel serves it.
inline std::size_t cuda_decode_bytes(problem const& p) {
  return maximum(portable_scratch_bytes(p), decode_scratch_bytes(p));
}

/// Few queries against a cache; what the decode kernel does not serve goes through the forward kernel.
template <int... HeadDims, class M, class Source, class T>
void cuda_decode(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                 heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
                 workspace scratch) {
  if constexpr (decode_serves<M, T>()) {
    if (p.q_len <= decode_queries) {
      cuda_device const device = check_launch<HeadDims...>(p, q, source, out, scratch, decode_scratch_bytes(p));
      if (p.batch == 0 || p.q_begin >= p.q_end) return;
      ((p.head_dim == HeadDims &&
        (decode_launch<HeadDims>(mode, p, q, source, out, lse, assignment, scratch, device.number), true)) ||
       ...);
      return;
    }
  }
  cuda_forward<HeadDims...>(mode, p, q, source, out, lse, assignment, scratch);
}

/// Device memory to the host, after what the stream holds already.
inline void cuda_read(void* to, void const* from, std::size_t bytes, void* stream) {
  cuda_call(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream)),
            "cudaMemcpyAsync");
  cuda_call(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "cudaStreamSynchronize");
}

/// −1 to `count` elements that lie `stride` apart. Every byte of −1 is 255.
inline void cuda_fill_absent(std::int32_t* to, std::int64_t stride, int count, void* stream) {
  if (stride < 0) to += stride * (count - 1), stride = -stride;
  cuda_call(cudaMemset2DAsync(to, static_cast<std::size_t>(maximum<std::int64_t>(stride, 1)) * sizeof(*to), 255,
                              sizeof(*to), static_cast<std::size_t>(count), static_cast<cudaStream_t>(stream)),
            "cudaMemset2DAsync");
}

}  // namespace elastic::detail
