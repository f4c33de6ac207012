// Host side of the Hopper kernel: which problems it serves, tensor maps, launches. It shares plan and scratch
// memory with the portable kernel, which serves the rest: float, head dim 32, scales that are not positive, caches,
// lists whose blocks are no multiples of 64, strides that TMA does not know.
#pragma once

#include <type_traits>

#include <elastic/cuda/call.cuh>
#include <elastic/cuda/sm90/forward.cuh>
#include <elastic/cuda/sm90/tensor_map.cuh>

namespace elastic::detail {

/// Is the code that would run here compiled for sm_90a?
template <class Entry>
bool compiled_for_sm90a(Entry const& entry) {
  return attributes_of(entry).sharedSizeBytes > 0;
}

/// Tiles for the mode's lists; no columns where they ask for smaller ones than this kernel has.
template <int HeadDim, class M>
tile_shape sm90_tile_for(M const& mode) {
  tile_shape tile = sm90_tiling_for(HeadDim).shape;
  if constexpr (lists_bind_tile<M>) {
    tile_shape const largest = largest_tile_of(mode);
    tile = {gcd(largest.rows, tile.rows), gcd(largest.columns, tile.columns)};
  }
  return tile.rows < sm90_consumer_rows || tile.columns < sm90_part_columns ? tile_shape{0, 0} : tile;
}

/// Is there a kernel for these types?
template <int HeadDim, class Source, class T>
inline constexpr bool sm90_takes =
    sm90_tiling_for(HeadDim).serves() && sizeof(T) == 2 && std::is_same_v<Source, plain_keys<T>>;

/// Could the kernel serve this problem, were it compiled for sm_90a? By what the host sees alone.
template <int HeadDim, class M, class Source, class T>
bool sm90_serves(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                 heads_view<T> const& out) {
  if constexpr (sm90_takes<HeadDim, Source, T>)
    return (scoring_mode<M> || p.softmax_scale >= 1e-20f) && sm90_tile_for<HeadDim>(mode).columns > 0 &&
           tensor_map_describes(q) && tensor_map_describes(source.k) && tensor_map_describes(source.v) &&
           tensor_map_describes(out);
  else
    return false;
}

/// Launches on the problem's stream where this kernel serves the problem; false: nothing was done.
template <int HeadDim, class M, class Source, class T>
bool sm90_launch(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                 heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
                 workspace scratch, int device, int capability) {
  if (capability != 90 || !sm90_serves<HeadDim>(mode, p, q, source, out)) return false;
  if constexpr (sm90_takes<HeadDim, Source, T>) {
    using kernel = sm90_kernel<M, T, HeadDim>;
    using arguments = sm90_arguments<M, T>;
    auto const entry = sm90_forward<kernel, arguments>;
    if (!compiled_for_sm90a(entry) || tensor_map_encoder() == nullptr) return false;
    int const bytes = sm90_tile_bytes(kernel::tiling, HeadDim) + 1024;
    cuda_call(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
    tile_shape const tile = sm90_tile_for<HeadDim>(mode);
    arguments a{{mode, p, q, source, out, lse, assignment, {}, tile, 0},
                make_tensor_map(q, sm90_consumer_rows),
                make_tensor_map(source.k, tile.columns),
                make_tensor_map(source.v, tile.columns),
                make_tensor_map(out, sm90_consumer_rows)};
    int const grid =
        minimum(launch_plan<kernel>(a, device, scratch), device_attribute(cudaDevAttrMultiProcessorCount, device));
    if (grid > 0)
      launch_dependent(entry, dim3(static_cast<unsigned>(grid)), sm90_threads, bytes,
                       static_cast<cudaStream_t>(p.stream), "sm90_forward", a);
  }
  return true;
}

}  // namespace elastic::detail
