// Intersection and union of two modes. Of span modes they are span modes: the two ascending span lists
// are swept from edge to edge. With a list or a bare predicate inside, or where that makes more than 64
// spans, they ask every tile in bounds; planned<…> (selectors/planned.hpp) turns such a composition into a list first.
#pragma once

#include <elastic/modes/composite.hpp>

namespace elastic {

namespace detail {

enum class seen : int { none, partial, full };

template <int N>
ELASTIC_HOST_DEVICE seen seen_at(span_array<N> const& spans, int at, int& next_edge) {
  seen result = seen::none;
  for (int s = 0; s < N; ++s) {
    span const& part = spans.items[s];
    if (part.begin >= part.end) continue;
    if (part.begin <= at && at < part.end) result = part.cover == coverage::full ? seen::full : seen::partial;
    if (part.begin > at) next_edge = minimum(next_edge, part.begin);
    if (part.end > at) next_edge = minimum(next_edge, part.end);
  }
  return result;
}

/// Walks both span lists from edge to edge; `join` decides what the two make of a piece.
template <int N, int M, class Join>
ELASTIC_HOST_DEVICE auto sweep(span_array<N> const& a, span_array<M> const& b, int end, Join join) {
  span_array<2 * (N + M)> out;
  int used = 0;
  for (int at = 0; at < end && used < out.size;) {
    int next = end;
    seen const in_a = seen_at(a, at, next);
    seen const in_b = seen_at(b, at, next);
    seen const both = join(in_a, in_b);
    coverage const cover = both == seen::full ? coverage::full : coverage::partial;
    if (both != seen::none) {
      if (used > 0 && out[used - 1].end == at && out[used - 1].cover == cover)
        out[used - 1].end = next;
      else
        out[used++] = {at, next, cover};
    }
    at = next;
  }
  for (; used < out.size; ++used) out[used] = {end, end, coverage::full};
  return out;
}

struct keep_both {
  ELASTIC_HOST_DEVICE bool operator()(bool a, bool b) const { return a && b; }
  ELASTIC_HOST_DEVICE std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return a & b; }
  ELASTIC_HOST_DEVICE seen operator()(seen a, seen b) const { return minimum(a, b); }
};

struct keep_either {
  ELASTIC_HOST_DEVICE bool operator()(bool a, bool b) const { return a || b; }
  ELASTIC_HOST_DEVICE std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return a | b; }
  ELASTIC_HOST_DEVICE seen operator()(seen a, seen b) const { return maximum(a, b); }
};

template <class A, class B>
inline constexpr int combined_spans = 0;
template <span_mode A, span_mode B>
inline constexpr int combined_spans<A, B> = 2 * (A::spans_max + B::spans_max);

}  // namespace detail

/// Two modes and what joins them; named intersection_of and union_of below.
template <class A, class B, class Join>
struct combined {
  static_assert(!parts_by_route<A> && !parts_by_route<B>, "elastic: combine the modes inside a hybrid, not hybrids");
  static_assert(!scoring_mode<A> && !scoring_mode<B> && !sink_logit_mode<A> && !sink_logit_mode<B>,
                "elastic: score hooks and sink logits go around a combination, not inside it");

  mode_pack<A, B> parts;

  combined() = default;
  combined(A a, B b) : parts{a, b} {}

  template <class C, class D>
  static combined<C, D, Join> with_parts(mode_pack<C, D> const& pack) {
    return {pack.first, pack.rest.first};
  }

  static constexpr int spans_max = detail::combined_spans<A, B>;
  static constexpr bool has_spans = 0 < spans_max && spans_max <= span_limit;
  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const
    requires(attention_mode<A> && attention_mode<B>)
  {
    return Join{}(parts.first.keeps(w, q, k), parts.rest.first.keeps(w, q, k));
  }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const
    requires(attention_mode<A> && attention_mode<B>)
  {
    return Join{}(kept_bits_of(parts.first, w, q, first, count), kept_bits_of(parts.rest.first, w, q, first, count));
  }

  ELASTIC_HOST_DEVICE span_array<spans_max> spans(where const& w, int q_tile, tile_shape shape) const
    requires has_spans
  {
    return detail::sweep(parts.first.spans(w, q_tile, shape), parts.rest.first.spans(w, q_tile, shape),
                         ceil_div(w.k_len, shape.columns), Join{});
  }

  void check(problem const& p) const { check_parts(parts, p); }
};

template <class A, class B>
using intersection_of = combined<A, B, detail::keep_both>;
template <class A, class B>
using union_of = combined<A, B, detail::keep_either>;

}  // namespace elastic
