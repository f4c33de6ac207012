// A mode some of whose heads are dense: where a head's flag is set it sees every key, by the very tiles of
// `full`, elsewhere what `inner` keeps. Score hooks and sink logits of the inner mode stay in either case.
// Made by auto_dense<…> (selectors/auto_dense.hpp), which sets the flags; they are its report.
#pragma once

#include <elastic/core/view.hpp>
#include <elastic/modes/block_sparse.hpp>
#include <elastic/modes/full.hpp>
#include <elastic/modes/routed_tiles.hpp>

namespace elastic {

enum class dense_choice {
  by_flags,  // head by head
  all,       // neither flags nor lists are read
  none,      // no flags are read
};

template <list_mode Inner>
struct dense_heads {
  Inner inner;
  strided_view<std::int32_t const, 2> flags = {};  // (batch, query_heads): not 0 where dense
  dense_choice choice = dense_choice::by_flags;

  static constexpr bool has_partial = has_partial_of<Inner>;

  ELASTIC_HOST_DEVICE bool is_dense(where const& w) const {
    return choice == dense_choice::by_flags ? flags(w.batch, w.query_head) != 0 : choice == dense_choice::all;
  }

  /// Calls f with the simplest mode that does the same, as far as the host knows: a backend runs that one faster.
  template <class F>
  void as_simplest(F&& f) const {
    if (choice == dense_choice::none) return f(inner);
    if constexpr (!scoring_mode<Inner> && !sink_logit_mode<Inner>)
      if (choice == dense_choice::all) return f(full{});
    f(*this);
  }

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const { return is_dense(w) || inner.keeps(w, q, k); }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const {
    return is_dense(w) ? ~std::uint64_t{0} : kept_bits_of(inner, w, q, first, count);
  }

  ELASTIC_HOST_DEVICE auto tiles(where const& w, int q_tile, tile_shape shape, bounds const&) const {
    detail::routed_tiles<tiles_t<full>, tiles_t<Inner>> result;
    if (is_dense(w))
      detail::assign(result, tiles_of(full{}, w, q_tile, shape));
    else
      detail::assign(result, tiles_of(inner, w, q_tile, shape));
    return result;
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

  /// The lists' blocks bind the tile, but where there are no lists.
  ELASTIC_HOST_DEVICE tile_shape largest_tile() const {
    return choice == dense_choice::all ? any_tile : largest_tile_of(inner);
  }

  void check(problem const& p) const {
    if (choice == dense_choice::all) return;
    check_mode(inner, p);
    if (choice == dense_choice::none) return;
    detail::check_view("dense_heads.flags", flags);
    require(flags.extents[0] >= p.batch && flags.extents[1] >= p.query_heads, "dense_heads.flags",
            detail::shape_of(flags), "a flag for every query head of every sequence");
  }

  void validate(problem const& p) const
    requires requires(Inner const& mode) { mode.validate(p); }
  {
    if (choice != dense_choice::all) inner.validate(p);
  }
};

static_assert(attention_mode<dense_heads<block_sparse>>);

}  // namespace elastic
