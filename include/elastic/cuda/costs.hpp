// What selecting and attending cost on the CUDA backend, by the kernel that serves the forward pass. sm90: fitted to
// a run of bench/cuda/break_even.cu on an H200 card (head dim 128, bfloat16, 32 query and 8 KV heads, batch 1, 1K to
// 64K tokens, strides 16 and 8; bench/results/h200.md says how well). portable: by hand, from selection at 16K and 64K
// (0.357 and 3.246 ms, stride 16; bench/results/h200-select-blocks.md), at 1K and 4K of 12 heads (0.063, 0.067 ms) and
// full attention (1.33 ns a thousand pairs); no grid has been checked with these.
#pragma once

#include <elastic/core/error.hpp>
#include <elastic/cuda/architecture.hpp>
#include <elastic/selectors/antidiagonal.hpp>
#include <elastic/selectors/cost_model.hpp>

namespace elastic {

/// `kernel`: what backend.kernel<T>(problem) says.
constexpr cost_model costs_on(cuda_kernel kernel, antidiagonal const& s) {
  float const products = 16 / static_cast<float>(s.stride);
  cost_model costs;
  if (kernel == cuda_kernel::sm90) {
    costs.select = 0.036f * products;
    costs.select_row = 460;
    costs.select_once = 50e6f;
    costs.attend_row = 30;
    costs.listed = 1.015f;
  } else {
    costs.select = 0.029f * products;
    costs.select_row = 196;
    costs.select_once = 41e6f;
    costs.listed = 1.045f;
  }
  return costs;
}

}  // namespace elastic
