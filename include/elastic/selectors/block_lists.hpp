// What the block selectors write: for each (sequence, query head, block of query rows) a list of key
// blocks in descending order. The rows of all lists have one capacity, the key blocks of the longest
// sequence, so that the memory depends on the shapes alone and no two lists wait for each other.
#pragma once

#include <algorithm>
#include <functional>
#include <string>

#include <elastic/core/problem.hpp>
#include <elastic/core/workspace.hpp>
#include <elastic/modes/block_sparse.hpp>

namespace elastic {

struct block_lists {
  std::int32_t* entries = nullptr;  // (batch, query_heads, query_blocks, capacity)
  std::int64_t* begin = nullptr;    // (batch, query_heads, query_blocks): into entries
  std::int32_t* count = nullptr;    // (batch, query_heads, query_blocks)
  int batch = 0;
  int query_heads = 0;
  int query_blocks = 0;  // that hold the rows [q_begin, q_end)
  int capacity = 0;
  int block_rows = 128;
  int block_columns = 128;
  int first_block = 0;  // the query block that index 0 holds

  /// Lists for the problem's rows [q_begin, q_end), laid into the workspace.
  static block_lists bind(problem const& p, int block_rows, int block_columns, workspace_cursor& cursor) {
    block_lists lists;
    lists.batch = p.batch;
    lists.query_heads = p.query_heads;
    lists.first_block = p.q_begin / block_rows;
    lists.query_blocks = maximum(ceil_div(p.q_end, block_rows) - lists.first_block, 0);
    lists.capacity = ceil_div(p.k_len, block_columns);
    lists.block_rows = block_rows;
    lists.block_columns = block_columns;
    std::int64_t const rows = elements_of({p.batch, p.query_heads, lists.query_blocks});
    lists.begin = cursor.take<std::int64_t>(rows);
    lists.count = cursor.take<std::int32_t>(rows);
    lists.entries = cursor.take<std::int32_t>(elements_of({rows, lists.capacity}));
    return lists;
  }

  ELASTIC_HOST_DEVICE std::int64_t rows() const { return std::int64_t{batch} * query_heads * query_blocks; }

  /// Index of a list in begin and count; its entries have room from row · capacity on.
  ELASTIC_HOST_DEVICE std::int64_t row(int sequence, int query_head, int query_block) const {
    return (std::int64_t{sequence} * query_heads + query_head) * query_blocks + query_block - first_block;
  }

  ELASTIC_HOST_DEVICE std::int32_t* entries_of(std::int64_t row) const { return entries + row * capacity; }

  /// Empties every list.
  void clear() const {
    for (std::int64_t i = 0; i < rows(); ++i) {
      begin[i] = i * capacity;
      count[i] = 0;
    }
  }

  /// The ordinary mode that views the lists.
  ELASTIC_HOST_DEVICE block_sparse selected() const {
    block_sparse view;
    view.entries = entries;
    view.size = rows() * capacity;
    view.begin = {begin, {batch, query_heads, query_blocks}};
    view.count = {count, {batch, query_heads, query_blocks}};
    view.block_rows = block_rows;
    view.block_columns = block_columns;
    view.first_block = first_block;
    return view;
  }
};

namespace detail {

/// Blocks have to line up with the chunks that query rows are cut into.
inline void check_block(char const* argument, int size) {
  bool const fits = size > 0 && size <= (1 << 20) && (chunk_alignment % size == 0 || size % chunk_alignment == 0);
  require(fits, argument, size, "a divisor of 128, or a multiple of it up to 2^20");
}

/// Query rows and key blocks of one list of a sequence.
struct list_extent {
  int first;  // its query rows [first, last], cut at the sequence's end
  int last;
  int visible;  // key blocks [0, visible) hold a key that causality and length leave to one of the rows
  ELASTIC_HOST_DEVICE list_extent(where const& w, int query_block, int block_rows, int block_columns)
      : first(query_block * block_rows), last(minimum(first + block_rows, w.q_len) - 1) {
    int const keys = w.causal ? minimum(w.k_len, w.position(last) + 1) : w.k_len;
    visible = ceil_div(maximum(keys, 0), block_columns);
  }
};

/// Orders blocks by descending score, ties to the lower index. NaN, which only infinite logits can
/// bring about, comes last.
template <class Real>
struct higher_score {
  Real const* scores;
  bool operator()(std::int32_t a, std::int32_t b) const {
    bool const a_is_number = scores[a] == scores[a], b_is_number = scores[b] == scores[b];
    if (a_is_number != b_is_number) return a_is_number;
    if (a_is_number && scores[a] != scores[b]) return scores[a] > scores[b];
    return a < b;
  }
};

}  // namespace detail

}  // namespace elastic
