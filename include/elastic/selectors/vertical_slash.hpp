// Vertical-slash (MInference, arXiv 2407.02490): from P, the causal softmax of the last 64 queries, each
// head takes the columns j with the largest Σ_i P[i,j] and the offsets o = p − j with the largest diagonal
// sums Σ_i P[i, p_i − o]. A query at position p sees key j where column j was taken, or where a diagonal
// that was taken passes through the block of p and j: ⌊p/64⌋ − ⌊j/64⌋ is ⌊o/64⌋ or ⌈o/64⌉. Causal only.
#pragma once

#include <cmath>

#include <elastic/selectors/bit_rows.hpp>
#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>
#include <elastic/selectors/top_cut.hpp>

namespace elastic {

/// Bits per head, which `keeps` asks, and for tiles of 128 query rows the list of key tiles that are seen.
struct vertical_slash_selected {
  bit_rows columns;      // (batch, query_heads) rows of k_len bits
  bit_rows offsets;      // (batch, query_heads) rows of k_len bits, before they are widened to blocks
  bit_rows differences;  // (batch, query_heads) rows of a bit per difference of block indices
  block_sparse lists;
  int slash_block = 64;

  static constexpr bool has_partial = true;

  /// The row of a head in columns, offsets and differences.
  ELASTIC_HOST_DEVICE std::int64_t row(where const& w) const {
    return std::int64_t{w.batch} * w.query_heads + w.query_head;
  }
  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const {
    int const difference = floor_div(w.position(q), slash_block) - k / slash_block;
    return columns.test(row(w), k) || (difference >= 0 && differences.test(row(w), difference));
  }
  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const {
    std::uint64_t bits = columns.bits(row(w), first, count);
    int const own = floor_div(w.position(q), slash_block);
    for (int at = 0; at < count;) {
      int const index = (first + at) / slash_block, end = minimum(at + slash_block - (first + at) % slash_block, count);
      if (own >= index && differences.test(row(w), own - index)) bits |= bit_range(at, end);
      at = end;
    }
    return bits;
  }
  ELASTIC_HOST_DEVICE block_list list(where const& w, int q_tile, tile_shape shape) const {
    return lists.list(w, q_tile, shape);
  }
  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return lists.largest_tile(); }
  void check(problem const& p) const { lists.check(p); }
  void validate(problem const& p) const { lists.validate_entries(p, block_list::index_of); }
};

static_assert(list_mode<vertical_slash_selected>);

struct vertical_slash {
  int columns = 1000;        // taken, 30 at least
  int offsets = 6096;        // taken, 50 at least
  int forced_columns = 30;   // the first keys, among them
  int forced_offsets = 100;  // the nearest, among them
  int last = 64;             // query rows of the estimate
  float estimate_scale = 0;  // of the estimate's logits; 0: the softmax scale. Published: 1/√128, whatever head_dim
  int slash_block = 64;      // queries and keys of the blocks that diagonals are widened to

  static constexpr int fewest_columns = 30;
  static constexpr int fewest_offsets = 50;
  static constexpr int list_columns = 128;  // keys of a listed tile

  struct storage {
    bit_rows columns;
    bit_rows offsets;
    bit_rows differences;
    block_lists lists;
    int slash_block = 64;

    ELASTIC_HOST_DEVICE vertical_slash_selected selected() const {
      return {columns, offsets, differences, lists.selected(), slash_block};
    }

    ELASTIC_HOST_DEVICE void clear_head(where const& w) const {
      columns.clear(selected().row(w));
      offsets.clear(selected().row(w));
      differences.clear(selected().row(w));
    }

    ELASTIC_HOST_DEVICE void take_column(where const& w, int column) const { columns.set(selected().row(w), column); }

    ELASTIC_HOST_DEVICE void take_offset(where const& w, int offset) const {
      std::int64_t const head = selected().row(w);
      int const above = ceil_div(offset, slash_block);
      offsets.set(head, offset);
      differences.set(head, offset / slash_block);
      if (above < ceil_div(w.k_len, slash_block)) differences.set(head, above);
    }

    /// Does a slash that was taken pass through blocks so far apart? The bit that take_offset sets, from the offsets.
    ELASTIC_HOST_DEVICE bool on_slash(where const& w, int difference) const {
      return offsets.any(selected().row(w), maximum((difference - 1) * slash_block + 1, 0),
                         minimum((difference + 1) * slash_block, w.k_len));
    }

    /// What a query tile sees of a key tile: anything, and all that causality leaves its rows?
    struct sight {
      bool some = false;
      bool every = true;
    };

    /// Of a tile whose rows lie at the positions [first, end). Each block of queries and keys inside a tile is
    /// either on a slash, or seen through its columns.
    ELASTIC_HOST_DEVICE sight sight_of(std::int64_t head, int first, int end, int tile) const {
      sight seen;
      int const keys_end = minimum((tile + 1) * list_columns, end);
      for (int a = first; a < end; a = (a / slash_block + 1) * slash_block) {
        int const seen_end = minimum(keys_end, minimum((a / slash_block + 1) * slash_block, end));
        for (int j = tile * list_columns; j < seen_end; j = (j / slash_block + 1) * slash_block) {
          int const block_end = minimum(seen_end, (j / slash_block + 1) * slash_block);
          bool const slash = differences.test(head, a / slash_block - j / slash_block);
          seen.some = seen.some || slash || columns.any(head, j, block_end);
          seen.every = seen.every && (slash || columns.all(head, j, block_end));
        }
      }
      return seen;
    }

    /// The list of a query tile, from the head's bits.
    ELASTIC_HOST_DEVICE void write_list(where const& w, int q_tile) const {
      std::int64_t const list = lists.row(w.batch, w.query_head, q_tile), head = selected().row(w);
      std::int32_t* const entries = lists.entries_of(list);
      tile_rows const rows(w, q_tile, {lists.block_rows, list_columns});
      int const first = maximum(w.position(rows.first), 0), end = maximum(w.position(rows.last) + 1, 0);
      int count = 0;
      for (int tile = ceil_div(end, list_columns) - 1; tile >= 0; --tile)
        if (sight const seen = sight_of(head, first, end, tile); seen.some)
          entries[count++] = seen.every ? tile : ~tile;
      lists.begin[list] = list * lists.capacity;
      lists.count[list] = count;
    }
  };

  storage bind(problem const& p, workspace_cursor& cursor) const {
    auto const take = [&](int bits) {
      bit_rows rows;
      rows.words_per_row = bit_rows::words_for(bits);
      rows.words = cursor.take<std::uint32_t>(elements_of({p.batch, p.query_heads, rows.words_per_row}));
      return rows;
    };
    storage made;
    made.columns = take(p.k_len);
    made.offsets = take(p.k_len);
    made.differences = take(ceil_div(p.k_len, slash_block));
    made.lists = block_lists::bind(p, chunk_alignment, list_columns, cursor);
    made.slash_block = slash_block;
    return made;
  }

  /// How many of the keys of a sequence become columns, and how many of its offsets slashes.
  ELASTIC_HOST_DEVICE int columns_of(where const& w) const {
    return minimum(w.k_len, maximum(columns, fewest_columns));
  }
  ELASTIC_HOST_DEVICE int offsets_of(where const& w) const {
    return minimum(w.k_len, maximum(offsets, fewest_offsets));
  }
  ELASTIC_HOST_DEVICE int rows_of_estimate(where const& w) const { return minimum(last, w.q_len); }
  ELASTIC_HOST_DEVICE float scale_of(problem const& p) const {
    return estimate_scale == 0 ? p.softmax_scale : estimate_scale;
  }

  void check(problem const& p) const {
    require(p.causal, "vertical_slash", "attention without causality", "causal attention");
    require(columns >= 0, "vertical_slash.columns", columns, "0 or more keys");
    require(offsets >= 0, "vertical_slash.offsets", offsets, "0 or more offsets");
    require(forced_columns >= 0, "vertical_slash.forced_columns", forced_columns, "0 or more keys");
    require(forced_offsets >= 0, "vertical_slash.forced_offsets", forced_offsets, "0 or more offsets");
    require(last >= 1, "vertical_slash.last", last, "1 query row or more");
    require(std::isfinite(estimate_scale), "vertical_slash.estimate_scale", estimate_scale, "a finite number, or 0");
    require(slash_block >= 1 && slash_block <= 1 << 29, "vertical_slash.slash_block", slash_block,
            "1 to 2^29 positions");
    elements_of({p.batch, p.query_heads, ceil_div(p.q_len, chunk_alignment), ceil_div(p.k_len, list_columns), 8});
  }
};

static_assert(selector<vertical_slash>);

}  // namespace elastic
