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

/// The sum over a warp. Integers: it is the same in any order.
__device__ inline visited_tiles sum_of_warp(visited_tiles own) {
  for (int step = 16; step > 0; step /= 2)
    own += {__shfl_xor_sync(~0u, own.dense, step), __shfl_xor_sync(~0u, own.listed, step),
            __shfl_xor_sync(~0u, own.partial, step), __shfl_xor_sync(~0u, own.lists, step)};
  return own;
}

template <list_mode M, class T>
__global__ void __launch_bounds__(dense_flag_threads)
    dense_flags(__grid_constant__ M const mode, __grid_constant__ cost_model const costs, std::int32_t* flags,
                __grid_constant__ select_inputs<T> const in) {
  ptx::wait_for_prerequisites();
  constexpr int warps = dense_flag_threads / 32;
  __shared__ __align__(8) unsigned char memory[warps * sizeof(visited_tiles)];  // raw: its members have initialisers
  auto* const parts = reinterpret_cast<visited_tiles*>(memory);
  problem const& p = in.shape;
  int const thread = static_cast<int>(threadIdx.x);
  int const batch = static_cast<int>(blockIdx.x) / p.query_heads, head = static_cast<int>(blockIdx.x) % p.query_heads;
  tile_shape const block = largest_tile_of(mode);
  visited_tiles visited;
  if (in.comes(batch, head)) {
    where const w = head_of(in, batch, head).w;
    int const end = ceil_div(minimum(p.q_end, w.q_len), block.rows);
    for (int i = p.q_begin / block.rows + thread; i < end; i += dense_flag_threads) visited += visited_by(mode, w, i);
  }
  visited = sum_of_warp(visited);
  if (thread % 32 == 0) parts[thread / 32] = visited;
  __syncthreads();
  if (thread != 0) return;
  for (int i = 1; i < warps; ++i) visited += parts[i];
  flags[blockIdx.x] = costs.prefers_dense(visited, block.columns);
}

}  // namespace detail

template <int... HeadDims, class Selector, element T>
void select_on(cuda_for<HeadDims...> const& backend, auto_dense<Selector> const& s,
               typename auto_dense<Selector>::storage const& storage, select_inputs<T> const& in, workspace scratch)
  requires requires { select_on(backend, s.inner, storage.inner, in, scratch); }
{
  if (storage.choice == dense_choice::all) return;
  select_on(backend, s.inner, storage.inner, in, scratch);
  unsigned const heads = static_cast<unsigned>(in.shape.batch) * static_cast<unsigned>(in.shape.query_heads);
  if (storage.choice == dense_choice::none || heads == 0) return;
  detail::launch_dependent(detail::dense_flags<selected_t<Selector>, T>, dim3(heads), detail::dense_flag_threads, 0,
                           static_cast<cudaStream_t>(in.shape.stream), "dense_flags", storage.inner.selected(), s.costs,
                           storage.flags, in);
}

}  // namespace elastic
