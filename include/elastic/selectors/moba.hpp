// Mixture of block attention (MoBA, arXiv 2502.13189): every query of every head sees the k blocks of keys
// that its gate ranks highest, its own among them:
//   gate[i,J] = q_i · mean(k_j, j in block J),   −∞ for later blocks, +∞ for the block of i's position,
// unscaled, over the block's keys inside the sequence; ties go to the lower block. Causal only.
#pragma once

#include <string>

#include <elastic/selectors/bit_rows.hpp>
#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>
#include <elastic/selectors/top_cut.hpp>

namespace elastic {

/// A bit per block for every query row, which `keeps` asks, and for each tile of 128 query rows the list
/// of blocks that any of them sees.
struct moba_selected {
  bit_rows blocks;     // (batch, query_heads, q_end − q_begin)
  block_sparse lists;  // of query tiles; partial where only some rows see a block
  int block = 1024;
  int q_begin = 0;
  int rows = 0;  // q_end − q_begin

  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE std::int64_t row(where const& w, int q) const {
    return (std::int64_t{w.batch} * w.query_heads + w.query_head) * rows + q - q_begin;
  }
  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const { return blocks.test(row(w, q), k / block); }
  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const {
    std::uint64_t bits = 0;
    for (int at = 0; at < count;) {
      int const index = (first + at) / block, end = minimum(at + block - (first + at) % block, count);
      if (blocks.test(row(w, q), index)) bits |= bit_range(at, end);
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

static_assert(list_mode<moba_selected>);

struct moba {
  int block = 1024;  // keys
  int k = 8;         // blocks that a query sees, its own included

  struct storage {
    bit_rows blocks;
    block_lists lists;
    int q_begin = 0;
    int rows = 0;

    ELASTIC_HOST_DEVICE moba_selected selected() const {
      return {blocks, lists.selected(), lists.block_columns, q_begin, rows};
    }

    /// Lets query row q see, besides its own block, the earlier ones that `cut` keeps of their gates.
    template <class Real>
    ELASTIC_HOST_DEVICE void write_row(where const& w, int q, top_cut<Real> const& cut, Real const* gates) const {
      std::int64_t const at = selected().row(w, q);
      blocks.clear(at);
      if (w.position(q) < 0) return;
      int const own = w.position(q) / lists.block_columns;
      for (int j = 0; j < own; ++j)
        if (cut.keeps(gates[j], j)) blocks.set(at, j);
      blocks.set(at, own);
    }

    ELASTIC_HOST_DEVICE void clear_row(where const& w, int q) const { blocks.clear(selected().row(w, q)); }

    /// Key blocks that causality leaves to a query tile whose last row is `last`.
    ELASTIC_HOST_DEVICE int visible(where const& w, int last) const {
      return w.position(last) < 0 ? 0 : w.position(last) / lists.block_columns + 1;
    }

    /// Adds query row q to what the rows of its tile see of blocks 32·word + 0 … 31: the blocks that `some` of
    /// them see and that `every` one sees. Rows that causality keeps from a block have no say in the latter.
    ELASTIC_HOST_DEVICE void add_row(where const& w, int q, int word, std::uint32_t& some, std::uint32_t& every) const {
      if (w.position(q) < 0) return;
      std::uint32_t const seen = blocks.row(selected().row(w, q))[word];
      int const own = w.position(q) / lists.block_columns - 32 * word;
      some |= seen;
      every &= seen | (own < 0 ? ~0u : own >= 31 ? 0u : ~0u << (own + 1));
    }

    /// The list of a query tile, from the bits of its rows.
    ELASTIC_HOST_DEVICE void write_list(where const& w, int q_tile) const {
      std::int64_t const list = lists.row(w.batch, w.query_head, q_tile);
      std::int32_t* const entries = lists.entries_of(list);
      tile_rows const tile(w, q_tile, {lists.block_rows, lists.block_columns});
      int count = 0;
      for (int word = bit_rows::words_for(visible(w, tile.last)) - 1; word >= 0; --word) {
        std::uint32_t some = 0, every = ~0u;
        for (int q = tile.first; q <= tile.last; ++q) add_row(w, q, word, some, every);
        for (int bit = 31; bit >= 0; --bit)
          if ((some >> bit & 1u) != 0)
            entries[count++] = (every >> bit & 1u) != 0 ? 32 * word + bit : ~(32 * word + bit);
      }
      lists.begin[list] = list * lists.capacity;
      lists.count[list] = count;
    }
  };

  storage bind(problem const& p, workspace_cursor& cursor) const {
    storage made;
    made.q_begin = p.q_begin;
    made.rows = p.q_end - p.q_begin;
    made.blocks.words_per_row = bit_rows::words_for(ceil_div(p.k_len, block));
    made.blocks.words =
        cursor.take<std::uint32_t>(elements_of({p.batch, p.query_heads, made.rows, made.blocks.words_per_row}));
    made.lists = block_lists::bind(p, chunk_alignment, block, cursor);
    return made;
  }

  void check(problem const& p) const {
    require(p.causal, "moba", "attention without causality", "causal attention");
    require(block >= 1 && block <= 1 << 29, "moba.block", block, "1 to 2^29 keys");
    require(k >= 1, "moba.k", k, "at least 1 block, the query's own");
    elements_of({p.batch, p.query_heads, ceil_div(p.q_len, chunk_alignment), ceil_div(p.k_len, block), 8});
  }
};

static_assert(selector<moba>);

}  // namespace elastic
