// Tile sizes of the CPU backend: constexpr functions of the problem, printable by a test.
#pragma once

#include <elastic/core/problem.hpp>
#include <elastic/core/tile.hpp>

namespace elastic {

struct cpu_tiling {
  tile_shape shape;  // of tiles_of
  int run;           // keys taken at once where full tiles lie next to each other
};

/// Columns multiplied at once in a tile that the causal edge cuts.
inline constexpr int clipped_strip = 64;

/// The tile must divide what a list mode allows (`largest`, 0 binds nothing), and stay inside a page.
constexpr cpu_tiling cpu_tiling_for(tile_shape largest, problem const& p, int page) {
  tile_shape const shape{gcd(largest.rows, 128), gcd(gcd(largest.columns, page), 128)};
  int const wanted = p.head_dim <= 128 ? 512 : 256;
  int const run = page > 0 ? shape.columns : maximum(wanted / shape.columns, 1) * shape.columns;
  return {shape, run};
}

}  // namespace elastic
