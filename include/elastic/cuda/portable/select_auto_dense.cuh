// Which heads go dense on the device: after the inner selection, one CTA for each head adds up what its lists visit.
#pragma once

#include <elastic/cuda/call.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/auto_dense.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

inline constexpr int dense_flag_threads = 128;

template <list_mode M, class T>
__global__ void __launch_bounds__(dense_flag_threads)
    dense_flags(__grid_constant__ M const mode, __grid_constant__ cost_model const costs, std::int32_t* flags,
                __grid_constant__ select_inputs<T> const in) {
  __shared__ unsigned long long dense, listed, partial, lists;
  if (threadIdx.x == 0) dense = listed = partial = lists = 0;
  __syncthreads();
  problem const& p = in.shape;
  int const batch = static_cast<int>(blockIdx.x) / p.query_heads, head = static_cast<int>(blockIdx.x) % p.query_heads;
  tile_shape const block = largest_tile_of(mode);
  if (in.comes(batch, head)) {
    where const w = head_of(in, batch, head).w;
    int const end = ceil_div(minimum(p.q_end, w.q_len), block.rows);
    visited_tiles own;
    for (int i = p.q_begin / block.rows + static_cast<int>(threadIdx.x); i < end; i += dense_flag_threads)
      own += visited_by(mode, w, i);
    // Integers: the sums are the same in any order.
    atomicAdd(&dense, static_cast<unsigned long long>(own.dense));
    atomicAdd(&listed, static_cast<unsigned long long>(own.listed));
    atomicAdd(&partial, static_cast<unsigned long long>(own.partial));
    atomicAdd(&lists, static_cast<unsigned long long>(own.lists));
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  visited_tiles const visited{static_cast<std::int64_t>(dense), static_cast<std::int64_t>(listed),
                              static_cast<std::int64_t>(partial), static_cast<std::int64_t>(lists)};
  flags[blockIdx.x] = costs.prefers_dense(visited, block.columns);
}

}  // namespace detail

template <int... HeadDims, class Selector, element T>
void select_on(cuda_for<HeadDims...> const& backend, auto_dense<Selector> const& s,
               typename auto_dense<Selector>::storage const& storage, select_inputs<T> const& in, workspace scratch) {
  if constexpr (!requires { select_on(backend, s.inner, storage.inner, in, scratch); }) {
    static_assert(!std::is_same_v<T, T>, "elastic: this selector has no select_on for this Backend");
  } else if (storage.choice != dense_choice::all) {
    select_on(backend, s.inner, storage.inner, in, scratch);
    if (storage.choice == dense_choice::none) return;
    unsigned const heads = static_cast<unsigned>(in.shape.batch) * static_cast<unsigned>(in.shape.query_heads);
    if (heads == 0) return;
    auto const stream = static_cast<cudaStream_t>(in.shape.stream);
    detail::dense_flags<selected_t<Selector>, T>
        <<<heads, detail::dense_flag_threads, 0, stream>>>(storage.inner.selected(), s.costs, storage.flags, in);
    detail::cuda_call(cudaGetLastError(), "dense_flags");
  }
}

}  // namespace elastic
