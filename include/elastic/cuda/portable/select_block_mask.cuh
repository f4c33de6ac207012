// An explicit block mask in device memory into lists: one CTA for each.
#pragma once

#include <elastic/cuda/call.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/block_mask.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

inline constexpr int mask_threads = 128;

template <class T>
__global__ void __launch_bounds__(mask_threads)
    list_mask(__grid_constant__ block_mask const s, __grid_constant__ block_lists const lists,
              __grid_constant__ select_inputs<T> const in) {
  ptx::let_dependents_start();
  using writer = list_writer<mask_threads>;
  __shared__ typename writer::shared memory;
  list_item const at(lists, blockIdx.x);
  device_head head;
  int kept = 0;
  if (comes_to_list(in, at, s.block_rows, head)) {
    list_extent const extent(head.w, at.query_block, s.block_rows, s.block_columns);
    auto const entry = [&](int i) {
      int const j = extent.visible - 1 - i;
      return s(at.batch, at.query_head, at.query_block, j) ? j : writer::nothing;
    };
    kept = writer(memory).compact(extent.visible, entry, lists.entries_of(at.row));
  }
  if (threadIdx.x == 0) write_extent(lists, at.row, kept);
}

}  // namespace detail

template <int... HeadDims, element T>
void select_on(cuda_for<HeadDims...> const&, block_mask const& s, block_lists const& lists, select_inputs<T> const& in,
               workspace) {
  unsigned const grid = detail::grid_of(lists);
  if (grid == 0) return;
  detail::list_mask<T><<<grid, detail::mask_threads, 0, static_cast<cudaStream_t>(in.shape.stream)>>>(s, lists, in);
  detail::cuda_call(cudaGetLastError(), "list_mask");
}

}  // namespace elastic
