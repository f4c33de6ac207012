// What attention through a selector costs beside full attention on one machine, and from that the break-even
// between both. The unit is the time in which full attention computes one (query, key) pair. With P pairs,
// R query rows (of all heads) and a share `density` of the pairs in listed blocks
//   full attention   P
//   by selection     select_once + select_row · R + select · P  +  attend_row · R + listed · density · P
// Backends say what they measured: costs_on(cpu{}, antidiagonal{}) in cpu/costs.hpp, and in cuda/costs.hpp, of
// antidiagonal alone, costs_on(backend.kernel<T>(problem), antidiagonal{}).
#pragma once

#include <cmath>
#include <cstdint>

#include <elastic/core/error.hpp>
#include <elastic/core/host_device.hpp>
#include <elastic/core/problem.hpp>

namespace elastic {

/// Tiles of one or more lists, in tiles of the lists' blocks.
struct visited_tiles {
  std::int64_t dense = 0;    // that full attention visits
  std::int64_t listed = 0;   // listed, and kept whole
  std::int64_t partial = 0;  // listed, and asked pair by pair
  std::int64_t lists = 0;

  ELASTIC_HOST_DEVICE visited_tiles& operator+=(visited_tiles const& other) {
    dense += other.dense;
    listed += other.listed;
    partial += other.partial;
    lists += other.lists;
    return *this;
  }
};

struct cost_model {
  float select = 0;       // selecting, for each pair of full attention
  float select_row = 0;   // selecting, for each query row of each head
  float select_once = 0;  // selecting, for each call: what launches take, whatever the shape
  float attend_row = 0;   // attending, for each query row, beyond what full attention takes for it
  float listed = 0;       // attending, for each pair of a listed block that is kept whole; 0: no model, and refused
  float partial = 0;      // the same of blocks where keeps is asked; 0 where the selector has none

  /// Pairs that causality leaves to one head of the longest sequence.
  static double pairs_of(problem const& p) {
    double const n = minimum(p.q_len, p.k_len);
    return p.causal ? n * p.k_len - n * (n - 1) / 2 : double(p.q_len) * p.k_len;
  }

  /// Before selection: the density above which full attention is faster, by the shapes alone; below 0 where selection,
  /// and what lists cost by the row, are dearer by themselves. `per_pair`: listed, or partial. All heads are taken to
  /// come to the selector.
  double break_even(problem const& p, float per_pair) const {
    double const heads = double(p.batch) * p.query_heads, pairs = heads * pairs_of(p), rows = heads * p.q_len;
    if (!(pairs > 0)) return 1;
    double const fixed = select_once + rows * (double(select_row) + attend_row);
    return (1 - select - fixed / pairs) / per_pair;
  }

  /// After selection, whose cost is sunk: does a head attend faster to all keys than by its lists? `block_columns`:
  /// keys of a block.
  ELASTIC_HOST_DEVICE bool prefers_dense(visited_tiles const& tiles, int block_columns) const {
    double const by_lists = double(listed) * double(tiles.listed) + double(partial) * double(tiles.partial) +
                            double(attend_row) / block_columns * double(tiles.lists);
    return by_lists > double(tiles.dense);
  }

  /// `partial_blocks`: does the selector list blocks where keeps is asked?
  void check(bool partial_blocks) const {
    for (float const cost : {select, select_row, select_once, attend_row, listed, partial})
      require(std::isfinite(cost) && cost >= 0, "auto_dense.costs", cost, "finite costs, 0 or more");
    require(
        listed > 0 && (partial > 0 || !partial_blocks), "auto_dense.costs", "no cost of a listed pair",
        "a cost model: costs_on(cpu{}, selector), on CUDA costs_on(backend.kernel<T>(problem), selector), or your own");
  }
};

}  // namespace elastic
