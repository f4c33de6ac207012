// Antidiagonal block selection (XAttention, arXiv 2503.16428). Every `stride` queries and keys are folded
// into one along antidiagonals, and whole blocks are judged by the attention mass between the folded:
//   R[a,c] = Σ_r q[a·stride + stride−1−r] · k[c·stride + r],   P = softmax over c ≤ a + Δ/stride of
//   R · softmax_scale / stride,   A[I,J] = Σ_{a∈I} Σ_{c∈J} P[a,c],   Δ = k_len − q_len.
// A row I keeps block 0 and its own, then the largest A[I,J] until they hold `threshold` of the row's sum.
// Its own block is that of its rows' positions: I + Δ/block, or two where block does not divide Δ. Where
// not causal, every block is a candidate and the same blocks are forced. Rows past the end count as zero.
#pragma once

#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

/// greedy       stops at the block that crosses the threshold.
/// first_chunk  what the published code does in its first chunk of tokens (with its chunk by length, all
///              rows up to 16384), for parity with published results; greedy in the chunks after it. The
///              own block alone counts as forced, the best other block is taken in any case, then one
///              block more than crosses the threshold, and block 0 is added at the end. Causal only.
enum class selection_rule { greedy, first_chunk };

struct antidiagonal {
  int block = 128;         // query rows and keys of a block
  int stride = 16;         // tokens folded into one; divides block, at most 1024
  float threshold = 0.9f;  // share of the attention mass to keep, in (0, 1]
  selection_rule rule = selection_rule::greedy;
  int chunk = 0;  // tokens of the published code's first chunk, a multiple of block; 0: by length, as it does

  using storage = block_lists;

  block_lists bind(problem const& p, workspace_cursor& cursor) const {
    return block_lists::bind(p, block, block, cursor);
  }

  void check(problem const& p) const {
    detail::check_block("antidiagonal.block", block);
    require(stride >= 1 && stride <= 1024 && block % stride == 0, "antidiagonal.stride", stride,
            "a divisor of the block of " + std::to_string(block) + ", 1024 at most");
    require_enumerator("antidiagonal.rule", rule, selection_rule::first_chunk);
    require(threshold > 0 && threshold <= 1, "antidiagonal.threshold", threshold, "above 0, and 1 at most");
    require(chunk >= 0 && chunk <= 1 << 29 && chunk % block == 0, "antidiagonal.chunk", chunk,
            "0, or a multiple of the block up to 2^29");
    require(rule == selection_rule::greedy || p.causal, "antidiagonal.rule", "first_chunk without causality",
            "rule = greedy, or causal attention");
    if (!p.packed()) check_lengths(p);
  }

  /// Of every sequence. Reads the cu_seqlens, so that backends on the host call it where sequences are packed.
  void check_lengths(problem const& p) const {
    for (int b = 0; p.causal && b < p.batch; ++b) {
      where const w = locate(p, b, 0, 0);
      require(w.q_len == 0 || w.k_len == 0 || w.shift() % stride == 0, "antidiagonal: k_len - q_len",
              std::to_string(w.shift()) + " in sequence " + std::to_string(b),
              "a multiple of the stride of " + std::to_string(stride) + " where causal");
    }
  }

  /// What one list may and must hold.
  struct row {
    int visible;    // candidates: blocks [0, visible)
    int own_begin;  // forced: the blocks of the rows' own positions, [own_begin, own_end)
    int own_end;
    selection_rule rule;
  };

  ELASTIC_HOST_DEVICE row row_of(where const& w, int query_block) const {
    detail::list_extent const extent(w, query_block, block, block);
    int const first = maximum(w.position(extent.first), 0), last = w.position(extent.last);
    row r;
    r.visible = extent.visible;
    r.own_begin = last < 0 ? 0 : first / block;
    r.own_end = last < 0 ? 0 : last / block + 1;
    r.rule = in_first_chunk(w, query_block) ? rule : selection_rule::greedy;
    return r;
  }

  /// The blocks that a list keeps of its scores[visible], written in descending order; returns how many.
  /// `entries` has room for all visible blocks.
  template <class Real>
  int keep(row const& r, Real const* scores, std::int32_t* entries) const {
    if (r.visible == 0) return 0;
    bool const published = r.rule == selection_rule::first_chunk;
    auto const mass = [&](int block_index) { return scores[block_index] > 0 ? double(scores[block_index]) : 0.; };
    double total = 0, held = 0;
    int kept = 0, rest = r.visible;
    for (int j = 0; j < r.visible; ++j) {
      bool const forced = (j >= r.own_begin && j < r.own_end) || (j == 0 && !published);
      total += mass(j);
      if (forced) held += mass(j);
      entries[forced ? kept++ : --rest] = j;
    }
    std::sort(entries + kept, entries + r.visible, detail::higher_score<Real>{scores});
    double compared = published ? -1 : held;  // the published sum lags one block behind
    for (; kept < r.visible && compared < double(threshold) * total; ++kept) {
      double const before = held;
      held += mass(entries[kept]);
      compared = published ? before : held;
    }
    if (published) {
      auto* const end = entries + r.visible;
      auto* const sink = std::find(entries + kept, end, 0);
      if (sink != end) std::swap(*sink, entries[kept++]);
    }
    std::sort(entries, entries + kept, std::greater<>());
    return kept;
  }

 private:
  /// The published code pads to whole chunks, and treats the first one differently where queries and keys
  /// pad to equally many.
  ELASTIC_HOST_DEVICE bool in_first_chunk(where const& w, int query_block) const {
    if (rule == selection_rule::greedy || w.k_len == 0) return false;
    int const size = chunk > 0 ? chunk : chunk_by_length(w.k_len);
    return ceil_div(w.q_len, size) == ceil_div(w.k_len, size) && query_block < size / block;
  }

  ELASTIC_HOST_DEVICE static int chunk_by_length(int k_len) {
    int power = 1;
    while (power < k_len) power *= 2;
    return maximum(2048, minimum(power, (1 << 28) / power));
  }
};

static_assert(selector<antidiagonal>);

}  // namespace elastic
