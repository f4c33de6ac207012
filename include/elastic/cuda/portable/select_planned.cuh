// A plan on the device: one CTA for each list walks the tiles that the mode itself names, and its warps ask
// the partial ones pair by pair.
#pragma once

#include <elastic/cuda/call.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/planned.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

inline constexpr int plan_threads = 128;

/// planned::entry_of by a whole warp.
template <class Mode>
__device__ std::int32_t entry_by_warp(Mode const& mode, where const& w, int query_block, int key_block,
                                      tile_shape shape, std::int32_t nothing) {
  tile_rows const rows(w, query_block, shape);
  int const lane = static_cast<int>(threadIdx.x) % 32, first = key_block * shape.columns;
  int const end = minimum(first + shape.columns, w.k_len);
  bool some = false, all = true;
  for (int q = rows.first; q <= rows.last; ++q) {
    int const seen = w.causal ? minimum(end, w.position(q) + 1) : end;
    for (int base = first; base < seen; base += 32) {
      bool const asked = base + lane < seen;
      bool const kept = asked && mode.keeps(w, q, base + lane);
      some |= __any_sync(~0u, kept);
      all &= __all_sync(~0u, kept || !asked);
      if (some && !all) return ~key_block;
    }
  }
  return some ? key_block : nothing;
}

template <class Mode, class T>
__global__ void __launch_bounds__(plan_threads)
    list_plan(__grid_constant__ planned<Mode> const s, __grid_constant__ block_lists const lists,
              __grid_constant__ select_inputs<T> const in) {
  ptx::let_dependents_start();
  using writer = list_writer<plan_threads>;
  __shared__ typename writer::shared memory;
  list_item const at(lists, blockIdx.x);
  device_head head;
  int kept = 0;
  if (comes_to_list(in, at, lists.block_rows, head)) {
    where const& w = head.w;
    tile_shape const shape{lists.block_rows, lists.block_columns};
    int const visible = bounds(w, at.query_block, shape).visible;
    auto const tiles = tiles_of(s.inner, w, at.query_block, shape);
    int const count = minimum(tiles.count, lists.capacity), warp = static_cast<int>(threadIdx.x) / 32;
    std::int32_t* const entries = lists.entries_of(at.row);
    for (int i = warp; i < count; i += plan_threads / 32) {
      tile const next = tiles[i];
      std::int32_t entry = next.index;
      if (next.index < 0 || next.index >= visible)  // of a list in device memory
        entry = writer::nothing;
      else if (next.kind == tile_kind::partial)
        entry = entry_by_warp(s.inner, w, at.query_block, next.index, shape, writer::nothing);
      if (threadIdx.x % 32 == 0) entries[i] = entry;
    }
    __syncthreads();
    kept = writer(memory).compact(count, [&](int i) { return entries[i]; }, entries);
  }
  if (threadIdx.x == 0) write_extent(lists, at.row, kept);
}

}  // namespace detail

template <int... HeadDims, class Mode, element T>
void select_on(cuda_for<HeadDims...> const&, planned<Mode> const& s, typename planned<Mode>::storage const& storage,
               select_inputs<T> const& in, workspace) {
  unsigned const grid = detail::grid_of(storage.lists);
  if (grid == 0) return;
  auto const stream = static_cast<cudaStream_t>(in.shape.stream);
  detail::list_plan<Mode, T><<<grid, detail::plan_threads, 0, stream>>>(s, storage.lists, in);
  detail::cuda_call(cudaGetLastError(), "list_plan");
}

}  // namespace elastic
