// Tiles of a mode that goes one of several ways for each head, as hybrid and dense_heads do: a type with room for the
// tiles of every way, and assign, which puts those of one into it.
#pragma once

#include <type_traits>

#include <elastic/modes/tiles.hpp>

namespace elastic {

namespace detail {

/// The spans that tiles are made of; 0 where they come from a list, or may.
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

/// Plain spans where no way has a list, else either.
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

}  // namespace elastic
