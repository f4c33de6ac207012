// Tile sizes of the Hopper kernel (compute capability 9.0, half and bfloat16) by head dim, printable by a host
// test. Two consumer warpgroups own 64 query rows each; keys and values have two stages each. Queries have two slots,
// which the output leaves through; or one, and the output leaves from registers.
#pragma once

#include <elastic/core/tile.hpp>
#include <elastic/cuda/sm90/descriptor.hpp>

namespace elastic {

/// The target elastic::cuda says so where it is compiled for 90a; host code cannot tell 90 from it.
#ifdef ELASTIC_CUDA_SM90A
inline constexpr bool sm90_is_built = true;
#else
inline constexpr bool sm90_is_built = false;
#endif

/// Do the two warpgroups begin their products Q·Kᵀ whenever they can, or only when the other one has begun its
/// exponentials, so that one takes them while the other multiplies?
enum class sm90_turns { free, alternate };

struct sm90_tiling {
  tile_shape shape;  // queries × keys; no head dim: not served
  int query_slots;
  sm90_turns turns;

  ELASTIC_HOST_DEVICE constexpr bool serves() const { return shape.rows > 0; }
};

inline constexpr int sm90_consumers = 2;  // warpgroups of 128 threads, 64 query rows each
inline constexpr int sm90_consumer_rows = 64;
inline constexpr int sm90_threads = 128 * (1 + sm90_consumers);
inline constexpr int sm90_producer_registers = 40;  // of a thread, where 168 are what all have at first
inline constexpr int sm90_consumer_registers = 232;
inline constexpr int sm90_stages = 2;
inline constexpr int sm90_item_slots = 2;  // items, with their queries or without

/// Keys of the smallest tile that a list may ask for; a stage holds one or two tiles.
inline constexpr int sm90_part_columns = 64;

/// A key tile divides the blocks of lists, 128 or 64. With head dim 192 two stages of 128 keys do not fit, with 256
/// neither do two slots of queries beside stages of 64 keys.
ELASTIC_HOST_DEVICE constexpr sm90_tiling sm90_tiling_for(int head_dim) {
  switch (head_dim) {
    case 64:
    case 96:
      return {{128, 128}, 2, sm90_turns::alternate};
    case 128:
      return {{128, 128}, 2, sm90_turns::free};
    case 192:
      return {{128, 64}, 2, sm90_turns::free};
    case 256:
      return {{128, 64}, 1, sm90_turns::free};
    default:
      return {{0, 0}, 0, sm90_turns::free};
  }
}

/// Shared memory of queries, keys and values; items, barriers and 1 KB of alignment come on top.
ELASTIC_HOST_DEVICE constexpr int sm90_tile_bytes(sm90_tiling const& t, int head_dim) {
  return t.query_slots * panel_tile_bytes(t.shape.rows, head_dim) +
         2 * sm90_stages * panel_tile_bytes(t.shape.columns, head_dim);
}

}  // namespace elastic
