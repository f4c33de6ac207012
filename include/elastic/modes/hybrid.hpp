// Hybrid heads: route r of the assignment sends a head to the r-th mode. By convention the first mode
// retrieves (full, or the denser one) and the last is sparse. One uniform branch per head.
#pragma once

#include <elastic/modes/composite.hpp>

namespace elastic {

namespace detail {

/// What tiles_of a hybrid yields: plain spans where no part has a list, else either.
template <class Tiles>
inline constexpr int spans_in = 0;
template <int N>
inline constexpr int spans_in<span_tiles<N>> = N;

/// The spans that there must be room for, be they all or one of several ways.
template <class Tiles>
inline constexpr int spans_held = spans_in<Tiles>;
template <int N>
inline constexpr int spans_held<mixed_tiles<N>> = N;

template <class... Tiles>
constexpr int most_spans() {
  int most = 1;
  ((most = maximum(most, spans_held<Tiles>)), ...);
  return most;
}

template <class... Tiles>
using routed_tiles = std::conditional_t<((spans_in<Tiles> == 0) || ...), mixed_tiles<most_spans<Tiles...>()>,
                                        span_tiles<most_spans<Tiles...>()>>;

template <int N, int M>
ELASTIC_HOST_DEVICE void assign(span_tiles<N>& to, span_tiles<M> const& from) {
  to.count = from.count;
  to.whole = from.whole;
  to.partial = from.partial;
  for (int s = 0; s < N; ++s) {
    to.begin[s] = s < M ? from.begin[s < M ? s : 0] : 0;
    to.end[s] = s < M ? from.end[s < M ? s : 0] : 0;
  }
}

template <int N, int M>
ELASTIC_HOST_DEVICE void assign(mixed_tiles<N>& to, span_tiles<M> const& from) {
  assign(to.spans, from);
  to.count = from.count;
  to.listed = false;
}

template <int N>
ELASTIC_HOST_DEVICE void assign(mixed_tiles<N>& to, list_tiles const& from) {
  to.list = from;
  to.count = from.count;
  to.listed = true;
}

template <int N, int M>
ELASTIC_HOST_DEVICE void assign(mixed_tiles<N>& to, mixed_tiles<M> const& from) {
  if (from.listed)
    assign(to, from.list);
  else
    assign(to, from.spans);
}

}  // namespace detail

template <class... Modes>
struct hybrid {
  static_assert(sizeof...(Modes) >= 2, "elastic: a hybrid needs two modes or more");
  static_assert(!(parts_by_route<Modes> || ...), "elastic: a head has one route; list all modes in one hybrid");

  mode_pack<Modes...> parts;

  hybrid() = default;
  hybrid(Modes... modes) : parts{modes...} {}

  template <class... Ms>
  static hybrid<Ms...> with_parts(mode_pack<Ms...> const& pack) {
    hybrid<Ms...> made;
    made.parts = pack;
    return made;
  }

  static constexpr bool has_partial = (has_partial_of<Modes> || ...);

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const
    requires(attention_mode<Modes> && ...)
  {
    return with_part(parts, w.route, [&](auto const& mode) { return mode.keeps(w, q, k); });
  }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const
    requires(attention_mode<Modes> && ...)
  {
    return with_part(parts, w.route, [&](auto const& mode) { return kept_bits_of(mode, w, q, first, count); });
  }

  ELASTIC_HOST_DEVICE auto tiles(where const& w, int q_tile, tile_shape shape, bounds const&) const {
    detail::routed_tiles<tiles_t<Modes>...> result;
    with_part(parts, w.route, [&](auto const& mode) {
      detail::assign(result, tiles_of(mode, w, q_tile, shape));
      return 0;
    });
    return result;
  }

  template <class Real>
    requires(scoring_mode<Modes> || ...)
  ELASTIC_HOST_DEVICE Real score(where const& w, Real s, int q, int k) const {
    return with_part(parts, w.route, [&](auto const& mode) { return score_of(mode, w, s, q, k); });
  }

  ELASTIC_HOST_DEVICE float sink_logit(where const& w) const
    requires(sink_logit_mode<Modes> || ...)
  {
    return with_part(parts, w.route, [&](auto const& mode) { return sink_logit_of(mode, w); });
  }

  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return largest_tile_of_parts(parts); }
  void check(problem const& p) const { check_parts(parts, p); }
};

template <class... Modes>
inline constexpr int routes<hybrid<Modes...>> = sizeof...(Modes);
template <class... Modes>
inline constexpr bool parts_by_route<hybrid<Modes...>> = true;

}  // namespace elastic
