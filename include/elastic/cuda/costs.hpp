// What selecting and attending cost on the CUDA backend, by the kernel that serves the forward pass. By hand from
// figures of one H200 (head dim 128, bfloat16, 32 query and 8 KV heads), not fitted to a grid, and no grid has been
// checked with them on a GPU yet:
//   selection at 16K and 64K (0.357 and 3.246 ms, stride 16)          bench/results/h200-select-blocks.md
//   what selection takes at 1K and 4K of 12 heads (0.063, 0.067 ms)   bench/results/h200-decode.md
//   full attention, 0.73 and 1.33 ns a thousand pairs; a hybrid's efficiency where all heads are sparse, at 16K
//   (92.8 and 95.7% of ideal; of spans: lists were not timed)         bench/results/h200.md
#pragma once

#include <elastic/core/error.hpp>
#include <elastic/cuda/architecture.hpp>
#include <elastic/selectors/antidiagonal.hpp>
#include <elastic/selectors/cost_model.hpp>

namespace elastic {

/// `kernel`: what backend.kernel<T>(problem) says.
constexpr cost_model costs_on(cuda_kernel kernel, antidiagonal const& s) {
  bool const sm90 = kernel == cuda_kernel::sm90;
  cost_model costs;
  costs.select = (sm90 ? 0.053f : 0.029f) * 16 / static_cast<float>(s.stride);
  costs.select_row = sm90 ? 357 : 196;
  costs.select_once = sm90 ? 75e6f : 41e6f;
  costs.listed = sm90 ? 1.08f : 1.045f;
  return costs;
}

}  // namespace elastic
