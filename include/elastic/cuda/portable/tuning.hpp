// Tile sizes of the portable kernel: constexpr functions of (compute capability, head dim, element
// bytes), printable by a host test. Shared memory holds the query tile and a ring of slots, each one
// tile of keys or of values.
#pragma once

#include <elastic/core/tile.hpp>

namespace elastic {

struct portable_tiling {
  tile_shape shape;  // queries × keys
  int warps;
  int slots;      // tiles of keys or values in shared memory
  int residents;  // CTAs that share a multiprocessor

  ELASTIC_HOST_DEVICE constexpr int threads() const { return 32 * warps; }
};

/// Bytes of shared memory that one CTA may have, by compute capability (CUDA C++ Programming Guide).
ELASTIC_HOST_DEVICE constexpr int shared_bytes_of(int capability) {
  switch (capability) {
    case 86:
    case 89:
    case 120:
    case 121:
      return 99 * 1024;
    case 80:
    case 87:
    case 88:
      return 163 * 1024;
    default:
      return capability < 80 ? 48 * 1024 : 227 * 1024;
  }
}

/// Warps own 32 rows where the accumulators leave room (each key fragment then serves two products),
/// else 16. Slots: as many as leave room for the residents.
ELASTIC_HOST_DEVICE constexpr portable_tiling portable_tiling_for(int capability, int head_dim, int element_bytes) {
  if (element_bytes == 4) return {{32, 32}, 4, 1, 1};
  bool const small = capability == 86 || capability == 89 || capability >= 120;  // 99 KB
  bool const large = capability >= 90 && !small;                                 // 227 KB
  switch (head_dim) {
    case 32:
      return {{128, 64}, 4, 4, 3};
    case 64:
      return {{128, 64}, 4, small ? 3 : 4, 2};
    case 96:
      return {{128, 64}, 4, large ? 4 : 2, small ? 1 : 2};
    case 128:
      return {{128, 64}, 4, large ? 4 : 2, small ? 1 : 2};
    case 192:
      return small ? portable_tiling{{64, 64}, 4, 2, 1} : portable_tiling{{128, 64}, 8, large ? 4 : 3, 1};
    default:
      return small ? portable_tiling{{64, 32}, 4, 2, 1} : portable_tiling{{128, 64}, 8, large ? 4 : 2, 1};
  }
}

/// Key tiles that are looked up at once, in each of two halves.
inline constexpr int portable_cards = 32;

/// Shared memory that the item and its cards may take.
inline constexpr int portable_tail_bytes = 4096;

/// Shared memory of the query tile and the slots; the item and its cards come on top.
ELASTIC_HOST_DEVICE constexpr int portable_tile_bytes(portable_tiling const& t, int head_dim, int element_bytes) {
  int const padded = element_bytes == 4 ? head_dim + 1 : head_dim;  // float: rows in different banks
  int const scores = element_bytes == 4 ? t.shape.rows * (t.shape.columns + 1) * 4 : 0;
  return ((t.shape.rows + t.slots * t.shape.columns) * padded * element_bytes + scores + 127) / 128 * 128;
}

}  // namespace elastic
