// Block-sparse attention from the caller's explicit mask: one byte, zero or not, for each (sequence, query
// head, block of query rows, block of keys). Selection turns it into lists; Q and K are not read. Query
// blocks count from the sequence's first query, key blocks from its first key. What lies past a packed
// sequence's end, or in its rows' future, may hold anything.
#pragma once

#include <elastic/core/check.hpp>
#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

struct block_mask {
  // (batch or 1, query_heads or 1, query blocks, key blocks); 1 is shared
  strided_view<std::uint8_t const, 4> mask = {};
  int block_rows = 128;
  int block_columns = 128;

  using storage = block_lists;

  block_lists bind(problem const& p, workspace_cursor& cursor) const {
    return block_lists::bind(p, block_rows, block_columns, cursor);
  }

  void check(problem const& p) const {
    detail::check_block("block_mask.block_rows", block_rows);
    detail::check_block("block_mask.block_columns", block_columns);
    detail::check_view("block_mask.mask", mask);
    auto const* n = mask.extents;
    bool const fits = (n[0] == p.batch || n[0] == 1) && (n[1] == p.query_heads || n[1] == 1) &&
                      n[2] == ceil_div(p.q_len, block_rows) && n[3] == ceil_div(p.k_len, block_columns);
    require(
        fits, "block_mask.mask", detail::shape_of(mask),
        detail::shape_of({p.batch, p.query_heads, ceil_div(p.q_len, block_rows), ceil_div(p.k_len, block_columns)}) +
            ", the first two or 1");
  }

  ELASTIC_HOST_DEVICE bool operator()(int batch, int query_head, int query_block, int key_block) const {
    return mask(mask.extents[0] == 1 ? 0 : batch, mask.extents[1] == 1 ? 0 : query_head, query_block, key_block) != 0;
  }

  /// The blocks of one list, written in descending order; returns how many.
  ELASTIC_HOST_DEVICE int keep(where const& w, int query_block, std::int32_t* entries) const {
    int count = 0;
    for (int j = detail::list_extent(w, query_block, block_rows, block_columns).visible - 1; j >= 0; --j)
      if ((*this)(w.batch, w.query_head, query_block, j)) entries[count++] = j;
    return count;
  }
};

static_assert(selector<block_mask>);

}  // namespace elastic
