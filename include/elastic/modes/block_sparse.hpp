// Block-sparse attention from explicit lists: per (batch, query head, block of query rows) a begin and a
// count into one array of key blocks in descending order. Query blocks count from the sequence's first
// query, key blocks from its first key. The same mode views what the block selectors wrote.
#pragma once

#include <elastic/core/check.hpp>
#include <elastic/core/view.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

struct block_sparse {
  std::int32_t const* entries = nullptr;           // key blocks, descending in each row
  std::int64_t size = 0;                           // how many entries there are
  strided_view<std::int64_t const, 3> begin = {};  // (batch, query_heads, query_blocks) into entries
  strided_view<std::int32_t const, 3> count = {};  // (batch, query_heads, query_blocks)
  int block_rows = 128;
  int block_columns = 128;
  int first_block = 0;  // the query block that index 0 of begin and count holds

  static constexpr bool has_partial = false;

  /// Lists in device memory are not checked: what leaves the array is cut off.
  ELASTIC_HOST_DEVICE block_list row(where const& w, int query_block) const {
    int const at = query_block - first_block;
    std::int64_t const from = minimum(maximum(begin(w.batch, w.query_head, at), std::int64_t{0}), size);
    std::int64_t const most = minimum(size - from, std::int64_t{1} << 24);
    std::int64_t const listed = minimum<std::int64_t>(maximum(count(w.batch, w.query_head, at), 0), most);
    return {entries + from, static_cast<int>(listed), block_columns};
  }

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const {
    block_list const list = row(w, q / block_rows);
    for (int i = 0; i < list.count; ++i)
      if (list.entries[i] == k / block_columns) return true;
    return false;
  }

  ELASTIC_HOST_DEVICE block_list list(where const& w, int q_tile, tile_shape shape) const {
    return row(w, q_tile * shape.rows / block_rows);
  }

  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return {block_rows, block_columns}; }

  /// The shapes alone; where the lists lie in host memory, the backend also checks every entry.
  void check(problem const& p) const {
    constexpr int most = 1 << 29;
    require(block_rows > 0 && block_rows <= most, "block_sparse.block_rows", block_rows, "1 to 2^29 query rows");
    require(block_columns > 0 && block_columns <= most, "block_sparse.block_columns", block_columns, "1 to 2^29 keys");
    require(size >= 0, "block_sparse.size", size, "a number of entries");
    require(reinterpret_cast<std::uintptr_t>(entries) % alignof(std::int32_t) == 0, "block_sparse.entries",
            "data past an aligned address", "data aligned to 4 bytes");
    bool const rows = p.batch > 0 && p.query_heads > 0 && p.q_begin < p.q_end;
    require((entries != nullptr || size == 0) && ((begin && count) || !rows), "block_sparse", "null lists",
            "entries, begin and count");
    detail::check_view("block_sparse.begin", begin);
    detail::check_view("block_sparse.count", count);
    for (auto const* extents : {begin.extents, count.extents}) {
      require(extents[0] >= p.batch, "block_sparse rows", extents[0], "lists for every sequence of the batch");
      require(extents[1] >= p.query_heads, "block_sparse rows", extents[1], "lists for every query head");
      require((first_block + extents[2]) * block_rows >= p.q_end && first_block * std::int64_t{block_rows} <= p.q_begin,
              "block_sparse rows", extents[2], "lists for every block of the query rows");
    }
  }

  /// Reads every list: throws where one leaves the array, is not descending, or names a block that does
  /// not exist. For lists in host memory.
  void validate(problem const& p) const {
    validate_entries(p, [](std::int32_t entry) { return entry; });
  }

  /// The same for modes whose lists say more in an entry than the block: index_of(entry) is the block.
  template <class F>
  void validate_entries(problem const& p, F&& index_of) const {
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h) {
        where const w = locate(p, b, h, 0);
        int const blocks = ceil_div(w.k_len, block_columns);
        for (int i = p.q_begin / block_rows; i < ceil_div(minimum(p.q_end, w.q_len), block_rows); ++i) {
          std::int64_t const from = begin(b, h, i - first_block);
          std::int64_t const n = count(b, h, i - first_block);
          require(n >= 0 && n <= blocks, "block_sparse.count", n, "0 to the number of key blocks");
          require(from >= 0 && from <= size - n, "block_sparse.begin", from, "a list inside the entries");
          int above = blocks;
          for (std::int64_t j = from; j < from + n; ++j) {
            int const block = index_of(entries[j]);
            require(block >= 0 && block < above, "block_sparse.entries", block,
                    "existing key blocks in descending order");
            above = block;
          }
        }
      }
  }
};

static_assert(list_mode<block_sparse>);

}  // namespace elastic
