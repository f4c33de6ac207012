// What selecting and attending cost on the CPU backend, as a cost_model wants it: fitted to bench/cpu/auto_dense.cpp
// with float, head dim 128, one thread, 512 to 8192 tokens, on a Zen 4 with AVX-512 (bench/results/cpu.md). Tiles of
// lists cost what dense ones do, partial ones hardly more, so that what matters is selection.
#pragma once

#include <elastic/selectors/antidiagonal.hpp>
#include <elastic/selectors/cost_model.hpp>
#include <elastic/selectors/moba.hpp>
#include <elastic/selectors/pooled_top_k.hpp>
#include <elastic/selectors/vertical_slash.hpp>

namespace elastic {

struct cpu;

/// The product of folded rows goes with 1 / stride, folding with the rows.
constexpr cost_model costs_on(cpu const&, antidiagonal const& s) {
  return {.select = 0.015f + 0.68f / static_cast<float>(s.stride), .select_row = 25, .listed = 1};
}

/// The means go with the rows, what is scored and sorted with the blocks.
constexpr cost_model costs_on(cpu const&, pooled_top_k const& s) {
  float const pairs = static_cast<float>(s.block_rows) * static_cast<float>(s.block_columns);
  return {.select = 25 / pairs, .select_row = 12, .listed = 1};
}

/// A gate for each row and block.
constexpr cost_model costs_on(cpu const&, moba const& s) {
  return {.select = 4 / static_cast<float>(s.block), .select_row = 5, .listed = 1, .partial = 1.04f};
}

/// The estimate of the last 64 rows goes with the keys, and so with the rows.
constexpr cost_model costs_on(cpu const&, vertical_slash const&) {
  return {.select_row = 95, .listed = 1, .partial = 1.04f};
}

}  // namespace elastic
