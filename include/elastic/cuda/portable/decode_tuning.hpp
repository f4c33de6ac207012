// Sizes of the decode kernel: constexpr functions of (compute capability, head dim), printable by a host
// test. Decode is bound by memory: what counts is bytes in flight. Each warp has a ring of stages of its own,
// 16 keys and their values in each; on an H200 about 40 KB in flight on every multiprocessor cover the latency.
#pragma once

#include <elastic/cuda/portable/tuning.hpp>

namespace elastic {

/// Rows of one mma tile: queries × heads of a group.
inline constexpr int decode_rows = 16;

/// Keys that a warp takes at once.
inline constexpr int decode_step = 16;

/// Keys of a tile: what a mode is asked about, and the unit in which work is shared out.
inline constexpr int decode_columns = 32;

/// More new tokens than this are a prefill.
inline constexpr int decode_queries = 16;

/// What beginning a bundle costs, in tiles: the time in which its own first keys arrive. Less where parts are short.
inline constexpr int decode_start = 8;

/// CTAs that share the work, at most; bounds the scratch memory.
inline constexpr int decode_parts = 512;

/// Shared memory that a bundle's tiles and sums may take.
inline constexpr int decode_tail_bytes = 12 * 1024;

struct decode_tiling {
  int warps;
  int stages;     // of the ring of each warp
  int residents;  // CTAs that share a multiprocessor

  ELASTIC_HOST_DEVICE constexpr int threads() const { return 32 * warps; }
};

/// Shared memory of the queries and of all rings; the tail comes on top.
ELASTIC_HOST_DEVICE constexpr int decode_tile_bytes(decode_tiling const& t, int head_dim) {
  return (decode_rows + t.warps * t.stages * 2 * decode_step) * head_dim * 2;
}

/// Stages that fit beside `residents` CTAs, 8 at most.
ELASTIC_HOST_DEVICE constexpr int decode_stages_for(int shared_bytes, int head_dim, int warps, int residents) {
  int const room = (shared_bytes + 1024) / residents - 1024 - decode_tail_bytes - decode_rows * head_dim * 2;
  return minimum(room / (warps * 2 * decode_step * head_dim * 2), 8);
}

/// The most warps that have three stages each, two of them under way while one is worked on.
ELASTIC_HOST_DEVICE constexpr decode_tiling decode_tiling_for(int capability, int head_dim) {
  int const bytes = shared_bytes_of(capability);
  for (int residents = 2; residents >= 1; --residents)
    if (int const stages = decode_stages_for(bytes, head_dim, 4, residents); stages >= 3) return {4, stages, residents};
  return {2, decode_stages_for(bytes, head_dim, 2, 1), 1};
}

}  // namespace elastic
