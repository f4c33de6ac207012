// A mode walked by a list: `lists` says which blocks to visit and which of them are partial (~index),
// `inner` what is kept inside the partial ones, and how logits are changed. Made by planned<…>.
#pragma once

#include <elastic/modes/block_sparse.hpp>

namespace elastic {

template <attention_mode Inner>
struct listed {
  Inner inner;
  block_sparse lists;  // every block with a kept pair; without ~ where all pairs in bounds are kept

  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const { return inner.keeps(w, q, k); }
  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const {
    return kept_bits_of(inner, w, q, first, count);
  }

  ELASTIC_HOST_DEVICE block_list list(where const& w, int q_tile, tile_shape shape) const {
    return lists.list(w, q_tile, shape);
  }

  template <class Real>
    requires scoring_mode<Inner>
  ELASTIC_HOST_DEVICE Real score(where const& w, Real s, int q, int k) const {
    return inner.score(w, s, q, k);
  }

  ELASTIC_HOST_DEVICE float sink_logit(where const& w) const
    requires sink_logit_mode<Inner>
  {
    return inner.sink_logit(w);
  }

  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return lists.largest_tile(); }

  void check(problem const& p) const {
    check_mode(inner, p);
    lists.check(p);
  }

  void validate(problem const& p) const { lists.validate_entries(p, block_list::index_of); }
};

static_assert(list_mode<listed<block_sparse>>);

}  // namespace elastic
