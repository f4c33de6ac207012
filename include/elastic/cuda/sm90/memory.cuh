// What the warps of a CTA hand each other in shared memory: items, key stages and their barriers.
//   scheduler  item and queries          → loaders, consumers
//   loaders    a card and keys, or values → consumers
//   consumers  empty stages and slots    → loaders, scheduler
#pragma once

#include <elastic/cuda/ptx/mbarrier.cuh>
#include <elastic/cuda/sm90/tuning.hpp>
#include <elastic/cuda/work.cuh>

namespace elastic::detail {

/// One query tile of one head.
template <class M>
struct alignas(16) sm90_item {
  where w;
  int q_start;  // row of the tensor at which the sequence's queries start
  int k_start;  // and its keys
  int first;    // first query of the tile
  int rows;     // queries of the tile
  int count;    // key tiles; −1: no more work
  tiles_t<M> tiles;
};

template <class M, class Arguments>
__device__ __forceinline__ void place_keys(Arguments const&, sm90_item<M>& item, int k_start) {
  item.k_start = k_start;
}

/// What consumers are told of a key stage. They know nothing of spans, lists or counts: items run into each other.
enum stage_flags : int {
  stage_masked = 1,     // bounds cut it, or keeps does
  stage_asks = 2,       // and 4: keeps has to be asked in this half
  stage_ends_item = 8,  // the next one begins another item
  stage_none = 16,      // there is none: stop
};

/// The keys of a stage, by halves of 64.
struct stage_card {
  int flags;
  int first[2];  // first key of each half
  int limit[2];  // its keys inside the sequence; 0 or less: none
};

template <class M>
struct sm90_shared {
  ptx::mbarrier item_ready[sm90_item_slots];     // for the loaders
  ptx::mbarrier queries_ready[sm90_item_slots];  // for the consumers; the item too
  ptx::mbarrier item_done[sm90_item_slots];
  ptx::mbarrier keys_ready[sm90_stages], keys_done[sm90_stages];
  ptx::mbarrier values_ready[sm90_stages], values_done[sm90_stages];
  ptx::mbarrier turn[sm90_consumers];  // where consumers alternate: the other's exponentials begin
  ptx::mbarrier tail_landed;           // values whose last rows still have to be cleared
  // Two cards for each key stage: keys are handed back before a masked tile's card has been read.
  stage_card cards[2][sm90_stages];
  sm90_item<M> items[sm90_item_slots];
  sm90_item<M> draft;          // the scheduler's own: the next item, until its slot is free
  ptx::mbarrier queries_done;  // where they have one slot, which is free before the item is

  /// By one thread, before a barrier of all.
  __device__ __forceinline__ void init() {
    constexpr int consumer_warps = 4 * sm90_consumers;
    for (int i = 0; i < sm90_item_slots; ++i) {
      ptx::init(item_ready[i], 1);
      ptx::init(queries_ready[i], 1);
      ptx::init(item_done[i], 128 * sm90_consumers + 64);  // every thread that reads an item
    }
    ptx::init(queries_done, consumer_warps);
    for (int i = 0; i < sm90_stages; ++i) {
      ptx::init(keys_ready[i], 1);
      ptx::init(keys_done[i], consumer_warps);
      ptx::init(values_ready[i], 1);
      ptx::init(values_done[i], consumer_warps);
    }
    for (int i = 0; i < sm90_consumers; ++i) ptx::init(turn[i], consumer_warps / sm90_consumers);
    ptx::init(tail_landed, 1);
  }
};

/// Where queries, keys and values lie in a CTA's dynamic shared memory.
template <int HeadDim>
struct sm90_layout {
  static constexpr sm90_tiling tiling = sm90_tiling_for(HeadDim);
  static constexpr int slice_bytes = panel_tile_bytes(sm90_consumer_rows, HeadDim);  // one warpgroup's queries
  static constexpr int slot_bytes = sm90_consumers * slice_bytes;
  static constexpr int slot_step = tiling.query_slots > 1 ? slot_bytes : 0;  // from an item's queries to the next one's
  static constexpr int stage_bytes = panel_tile_bytes(tiling.shape.columns, HeadDim);

  unsigned char* base;  // a multiple of 1024

  __device__ __forceinline__ unsigned char* queries(int slot, int warpgroup) const {
    return base + slot * slot_step + warpgroup * slice_bytes;
  }
  __device__ __forceinline__ unsigned char* keys(int stage) const {
    return base + tiling.query_slots * slot_bytes + stage * stage_bytes;
  }
  __device__ __forceinline__ unsigned char* values(int stage) const { return keys(sm90_stages + stage); }
};

/// A place in a ring of two, and the parity of the phase there.
struct ring_place {
  int at;
  int parity;
  __device__ __forceinline__ void advance() {
    at ^= 1;
    if (at == 0) parity ^= 1;
  }
};

}  // namespace elastic::detail
