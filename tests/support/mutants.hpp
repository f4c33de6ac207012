// Modes that are wrong on purpose, to show that the checkers catch each kind of mistake.
#pragma once

#include <elastic/modes/modes.hpp>

namespace elastic::testing {

/// A span mode as it is; the mutants hide one of its members.
template <span_mode M>
struct mutant_of {
  M original;
  static constexpr int spans_max = M::spans_max;
  static constexpr bool has_partial = M::has_partial;

  bool keeps(where const& w, int q, int k) const { return original.keeps(w, q, k); }
  span_array<M::spans_max> spans(where const& w, int q_tile, tile_shape shape) const {
    return original.spans(w, q_tile, shape);
  }
};

/// Wrong tile count: the first tile of the last span that has any is left out.
template <span_mode M>
struct fewer_tiles : mutant_of<M> {
  span_array<M::spans_max> spans(where const& w, int q_tile, tile_shape shape) const {
    auto spans = this->original.spans(w, q_tile, shape);
    bounds const cut(w, q_tile, shape);
    for (int s = M::spans_max - 1; s >= 0; --s)
      if (spans[s].begin < minimum(spans[s].end, cut.visible)) {
        ++spans[s].begin;
        break;
      }
    return spans;
  }
};

/// Wrong tile count the other way: one tile too many before the last span.
template <span_mode M>
struct more_tiles : mutant_of<M> {
  span_array<M::spans_max> spans(where const& w, int q_tile, tile_shape shape) const {
    auto spans = this->original.spans(w, q_tile, shape);
    for (int s = M::spans_max - 1; s > 0; --s)
      if (spans[s].begin < spans[s].end && spans[s].begin > spans[s - 1].end) {
        --spans[s].begin;
        break;
      }
    return spans;
  }
};

/// Wrong coverage: partial tiles are passed off as full.
template <span_mode M>
struct careless : mutant_of<M> {
  span_array<M::spans_max> spans(where const& w, int q_tile, tile_shape shape) const {
    auto spans = this->original.spans(w, q_tile, shape);
    for (auto& part : spans.items) part.cover = coverage::full;
    return spans;
  }
};

/// Wrong coverage the other way: every tile asks.
template <span_mode M>
struct distrustful : mutant_of<M> {
  span_array<M::spans_max> spans(where const& w, int q_tile, tile_shape shape) const {
    auto spans = this->original.spans(w, q_tile, shape);
    for (auto& part : spans.items) part.cover = coverage::partial;
    return spans;
  }
};

/// Wrong predicate: it also drops the key at the query's own position.
template <span_mode M>
struct forgets_itself : mutant_of<M> {
  bool keeps(where const& w, int q, int k) const { return k != w.position(q) && this->original.keeps(w, q, k); }
};

/// Wrong answer for many keys at once: the last of them is always kept.
template <span_mode M>
struct greedy_bits : mutant_of<M> {
  std::uint64_t kept_bits(where const& w, int q, int first, int count) const {
    return kept_bits_of(this->original, w, q, first, count) | std::uint64_t{1} << (count - 1);
  }
};

/// Forgets one key too many.
template <span_mode M>
struct eager : mutant_of<M> {
  key_range forgets(where const& w, int position) const {
    key_range const gone = this->original.forgets(w, position);
    return {gone.begin, gone.end + 1};
  }
};

/// Swapped alignment: positions count from the top left, consistently in tiles and keeps.
template <span_mode M>
struct top_left : mutant_of<M> {
  static where unshifted(where w) {
    w.q_len = w.k_len;
    return w;
  }
  bool keeps(where const& w, int q, int k) const { return this->original.keeps(unshifted(w), q, k); }
  span_array<M::spans_max> spans(where const& w, int q_tile, tile_shape shape) const {
    return this->original.spans(unshifted(w), q_tile, shape);
  }
};

}  // namespace elastic::testing
