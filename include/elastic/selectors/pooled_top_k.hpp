// Pooled top-k block selection (the block mode of MInference, arXiv 2407.02490): blocks of queries and of
// keys are averaged, q̄[I] = mean of the rows of I, k̄[J] likewise over the rows that exist, and each query
// block keeps the k key blocks with the largest unscaled q̄[I]·k̄[J] among those that causality leaves it.
// None is forced: a row whose blocks all lie in its future sees no key. Ties go to the lower index. Where
// no more than k blocks are left, all are kept. Causal only.
#pragma once

#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

struct pooled_top_k {
  int block_rows = 64;
  int block_columns = 64;
  int k = 100;  // blocks

  using storage = block_lists;

  block_lists bind(problem const& p, workspace_cursor& cursor) const {
    return block_lists::bind(p, block_rows, block_columns, cursor);
  }

  void check(problem const& p) const {
    detail::check_block("pooled_top_k.block_rows", block_rows);
    detail::check_block("pooled_top_k.block_columns", block_columns);
    require(k >= 1, "pooled_top_k.k", k, "1 or more blocks");
    require(p.causal, "pooled_top_k", "attention without causality", "causal attention");
  }

  /// The candidates of a list: key blocks [0, visible).
  ELASTIC_HOST_DEVICE int visible(where const& w, int query_block) const {
    return detail::list_extent(w, query_block, block_rows, block_columns).visible;
  }

  /// The k best of scores[candidates], written in descending order of index; returns how many. `entries`
  /// has room for all candidates.
  template <class Real>
  int keep(int candidates, Real const* scores, std::int32_t* entries) const {
    int const kept = minimum(k, candidates);
    for (int j = 0; j < candidates; ++j) entries[j] = j;
    if (kept < candidates)
      std::nth_element(entries, entries + kept, entries + candidates, detail::higher_score<Real>{scores});
    std::sort(entries, entries + kept, std::greater<>());
    return kept;
  }
};

static_assert(selector<pooled_top_k>);

}  // namespace elastic
