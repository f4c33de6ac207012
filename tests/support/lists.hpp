// Block lists written out by hand: one list of key blocks, descending, for each block of query rows.
#pragma once

#include <vector>

#include <elastic/modes/block_sparse.hpp>

namespace elastic::testing {

/// The same lists for every sequence and head. The modes that it hands out live as long as it does.
class hand_lists {
 public:
  explicit hand_lists(std::vector<std::vector<std::int32_t>> const& rows) {
    for (auto const& row : rows) {
      begin_.push_back(static_cast<std::int64_t>(entries_.size()));
      count_.push_back(static_cast<std::int32_t>(row.size()));
      entries_.insert(entries_.end(), row.begin(), row.end());
    }
    entries_.reserve(1);  // never null
  }

  block_sparse mode(int block_rows, int block_columns, int batch = 1, int query_heads = 1) const& {
    block_sparse m;
    m.entries = entries_.data();
    m.size = static_cast<std::int64_t>(entries_.size());
    std::int64_t const rows = static_cast<std::int64_t>(count_.size());
    m.begin = {begin_.data(), {batch, query_heads, rows}, {0, 0, 1}};
    m.count = {count_.data(), {batch, query_heads, rows}, {0, 0, 1}};
    m.block_rows = block_rows;
    m.block_columns = block_columns;
    return m;
  }
  block_sparse mode(int, int, int = 1, int = 1) const&& = delete;

 private:
  std::vector<std::int32_t> entries_;
  std::vector<std::int64_t> begin_;
  std::vector<std::int32_t> count_;
};

}  // namespace elastic::testing
