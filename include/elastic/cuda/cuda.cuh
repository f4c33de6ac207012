// The CUDA backend: tensors, lists, assignments, cu_seqlens and workspace in device memory, everything
// enqueued on options.stream, nothing allocated, nothing waited for. cuda serves every head dim;
// cuda_for<64, 128> compiles kernels for these alone. Compiled by nvcc for sm_80 and newer.
#pragma once

#include <elastic/attention.hpp>
#include <elastic/cuda/costs.hpp>
#include <elastic/cuda/launch.cuh>
#include <elastic/cuda/portable/route.cuh>
#include <elastic/cuda/portable/route_heads.cuh>
#include <elastic/cuda/portable/select_antidiagonal.cuh>
#include <elastic/cuda/portable/select_auto_dense.cuh>
#include <elastic/cuda/portable/select_block_mask.cuh>
#include <elastic/cuda/portable/select_moba.cuh>
#include <elastic/cuda/portable/select_planned.cuh>
#include <elastic/cuda/portable/select_pooled_top_k.cuh>
#include <elastic/cuda/portable/select_vertical_slash.cuh>

namespace elastic {

template <int... HeadDims>
struct cuda_for {
  static_assert((supported_head_dim(HeadDims) && ...), "elastic: head dims are 32, 64, 96, 128, 192 or 256");
  static constexpr bool on_host = false;

  std::size_t scratch_bytes(problem const& p) const { return detail::portable_scratch_bytes(p); }

  template <class M, class Source, class T>
  void forward(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
               heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
               workspace scratch) const {
    detail::cuda_forward<HeadDims...>(mode, p, q, source, out, lse, assignment, scratch);
  }

  std::size_t decode_bytes(problem const& p) const { return detail::cuda_decode_bytes(p); }

  template <class M, class T>
  void decode(M const& mode, problem const& p, heads_view<T const> const& q, paged_cache<T> const& cache,
              heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
              workspace scratch) const {
    detail::cuda_decode<HeadDims...>(mode, p, q, cache, out, lse, assignment, scratch);
  }

  /// For the explicit calls that wait: device memory to the host, and pages marked absent.
  void read(void* to, void const* from, std::size_t bytes, void* stream) const {
    detail::cuda_read(to, from, bytes, stream);
  }
  void fill_absent(std::int32_t* to, std::int64_t stride, int count, void* stream) const {
    detail::cuda_fill_absent(to, stride, count, stream);
  }

  /// The kernel that serves a problem on the current device. Throws elastic::error where there is no device.
  template <element T>
  cuda_kernel kernel(problem const& p) const {
    return cuda_kernel_for(detail::current_device().capability, p.head_dim, sizeof(T));
  }

  /// The same for decode, with the mode that decode uses: decode_mode(attend.mode()).
  template <element T, class M>
  cuda_kernel decode_kernel(M const&, problem const& p) const {
    bool const serves = detail::decode_serves<M, T>() && p.q_len <= decode_queries;
    return cuda_decode_kernel_for(detail::current_device().capability, p.head_dim, sizeof(T), serves);
  }
};

using cuda = cuda_for<32, 64, 96, 128, 192, 256>;

static_assert(backend_with_scratch<cuda>);

}  // namespace elastic
