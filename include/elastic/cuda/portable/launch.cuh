// Host side of the portable kernel: scratch, shared memory, grid, launches.
#pragma once

#include <type_traits>

#include <elastic/core/workspace.hpp>
#include <elastic/cuda/call.cuh>
#include <elastic/cuda/portable/forward.cuh>
#include <elastic/cuda/portable/forward_float.cuh>

namespace elastic::detail {

template <class M, class T, int HeadDim>
using portable_kernel_for =
    std::conditional_t<std::is_same_v<T, float>, float_kernel<M, HeadDim>, portable_kernel<M, T, HeadDim>>;

inline std::size_t portable_scratch_bytes(problem const& p) { return plan_bytes(p); }

/// Launches on the problem's stream. `scratch` is aligned and large enough.
template <int HeadDim, class M, class Source, class T>
void portable_launch(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                     heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
                     workspace scratch, int device) {
  using kernel = portable_kernel_for<M, T, HeadDim>;
  using arguments = forward_arguments<M, T, Source>;
  auto const entry = portable_forward<kernel, arguments>;
  // The tiles are those of the architecture that the loaded code was compiled for.
  portable_tiling const tiling = portable_tiling_for(attributes_of(entry).ptxVersion, HeadDim, sizeof(T));
  int const bytes =
      portable_tile_bytes(tiling, HeadDim, sizeof(T)) + static_cast<int>(sizeof(typename kernel::shared_tail));
  cuda_call(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");

  arguments a{mode, p, q, source, out, lse, assignment, {}, tiling.shape, 0};
  if constexpr (lists_bind_tile<M>) {
    tile_shape const largest = largest_tile_of(mode);
    a.tile = {gcd(largest.rows, tiling.shape.rows), gcd(largest.columns, tiling.shape.columns)};
  }
  if (source.run() > 0)
    require(source.run() % a.tile.columns == 0, "cache pages", source.run(),
            "a multiple of " + std::to_string(a.tile.columns) + " keys");
  int const grid =
      minimum(launch_plan<kernel>(a, device, scratch), ctas_at_once(entry, tiling.threads(), bytes, device));
  if (grid <= 0) return;
  portable_forward<kernel><<<static_cast<unsigned>(grid), static_cast<unsigned>(tiling.threads()),
                             static_cast<std::size_t>(bytes), static_cast<cudaStream_t>(p.stream)>>>(a);
  cuda_call(cudaGetLastError(), "portable_forward");
}

}  // namespace elastic::detail
