// What selectors chose, as tensors of bytes:
//   block_mask        (batch, heads, query blocks, key blocks)  antidiagonal, pooled_top_k
//   select            (batch, heads, seq, blocks)               moba
//   columns, offsets  (batch, heads, seq of the keys)           vertical_slash
// Heads that were routed elsewhere chose nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/io/safetensors_writer.hpp>

namespace examples {

using namespace elastic;

class chosen_tensors {
 public:
  /// Of the query rows [q_begin, q_end) of p.
  template <class S, class Selected>
  void read(S const&, Selected const&, problem const&) {}  // static modes, and masks that came from outside
  void read(antidiagonal const&, block_sparse const& lists, problem const& p) { read_blocks(lists, p); }
  void read(pooled_top_k const&, block_sparse const& lists, problem const& p) { read_blocks(lists, p); }

  void read(moba const&, moba_selected const& seen, problem const& p) {
    int const blocks = ceil_div(p.k_len, seen.block);
    tensor& to = tensor_of("select", {p.batch, p.query_heads, p.q_len, blocks});
    for_each_head(p, [&](where const& w) {
      for (int q = p.q_begin; q < p.q_end; ++q)
        for (int j = 0; j < blocks; ++j) to(w, q, j) = seen.blocks.test(seen.row(w, q), j);
    });
  }

  void read(vertical_slash const&, vertical_slash_selected const& seen, problem const& p) {
    tensor& columns = tensor_of("columns", {p.batch, p.query_heads, p.k_len});
    tensor& offsets = tensor_of("offsets", {p.batch, p.query_heads, p.k_len});
    for_each_head(p, [&](where const& w) {
      for (int j = 0; j < p.k_len; ++j) {
        columns(w, j) = seen.columns.test(seen.row(w), j);
        offsets(w, j) = seen.offsets.test(seen.row(w), j);
      }
    });
  }

  void add_to(safetensors_writer& writer) const {
    for (auto const& [name, tensor] : tensors_) writer.add(name, tensor.shape, tensor.values);
  }

 private:
  struct tensor {
    std::vector<std::int64_t> shape;
    std::vector<std::uint8_t> values;

    std::uint8_t& operator()(where const& w, int i) {
      return values[static_cast<std::size_t>((w.batch * shape[1] + w.query_head) * shape[2] + i)];
    }
    std::uint8_t& operator()(where const& w, int i, int j) {
      return values[static_cast<std::size_t>(((w.batch * shape[1] + w.query_head) * shape[2] + i) * shape[3] + j)];
    }
  };

  void read_blocks(block_sparse const& lists, problem const& p) {
    tensor& to = tensor_of("block_mask", {p.batch, p.query_heads, ceil_div(p.q_len, lists.block_rows),
                                          ceil_div(p.k_len, lists.block_columns)});
    for_each_head(p, [&](where const& w) {
      for (int i = p.q_begin / lists.block_rows; i < ceil_div(p.q_end, lists.block_rows); ++i) {
        block_list const row = lists.row(w, i);
        for (int j = 0; j < row.count; ++j) to(w, i, block_list::index_of(row.entries[j])) = 1;
      }
    });
  }

  tensor& tensor_of(char const* name, std::vector<std::int64_t> shape) {
    tensor& made = tensors_[name];
    if (made.shape.empty()) {
      std::size_t size = 1;
      for (std::int64_t const extent : shape) size *= static_cast<std::size_t>(extent);
      made.shape = std::move(shape);
      made.values.resize(size);
    }
    return made;
  }

  static void for_each_head(problem const& p, auto&& f) {
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h) f(locate(p, b, h, 0));
  }

  std::map<std::string, tensor> tensors_;
};

}  // namespace examples
