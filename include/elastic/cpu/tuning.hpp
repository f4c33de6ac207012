// Tile sizes of the CPU backend: a constexpr function, printable by a test.
#pragma once

#include <elastic/core/host_device.hpp>
#include <elastic/core/tile.hpp>

namespace elastic {

struct cpu_tiling {
  tile_shape shape;  // of tiles_of
  int run;           // keys taken at once where full tiles lie next to each other
};

/// The tile must divide what a list mode allows (`largest`, 0 binds nothing), and stay inside a page (0: none).
constexpr cpu_tiling cpu_tiling_for(tile_shape largest, int page) {
  tile_shape const shape{gcd(largest.rows, 128), gcd(gcd(largest.columns, page), 128)};
  return {shape, page > 0 ? shape.columns : maximum(128, shape.columns)};
}

}  // namespace elastic
