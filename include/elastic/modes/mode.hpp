// The concepts of an attention mode: a trivially copyable struct of pure arithmetic, host and device,
// that says which (query, key) pairs count. It knows nothing of threads, backends, causality or
// sequence ends; the library cuts those once for all modes (core/tile.hpp, modes/tiles.hpp).
//
//   bool keeps(where, q, k)                       does query q see key k? The only thing an oracle asks.
//   static constexpr bool has_partial             may a kernel ever have to ask keeps inside a tile?
// and which key tiles a query tile visits, in one of three ways:
//   span_array<N> spans(where, q_tile, shape)     a few ranges by arithmetic,
//   block_list list(where, q_tile, shape)         a list in memory, or
//   neither: a bare predicate, every tile in bounds is partial.
// Optional hooks, free when absent: score, sink_logit, kept_bits and check (all below), and forgets (forgets.hpp).
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <elastic/core/error.hpp>
#include <elastic/core/host_device.hpp>
#include <elastic/core/problem.hpp>
#include <elastic/core/tile.hpp>

namespace elastic {

/// Blocks of `columns` keys in descending order. An entry is a block's index, or ~index where the
/// block is partial, so that keeps must be asked.
struct block_list {
  std::int32_t const* entries = nullptr;
  int count = 0;
  int columns = 1;

  ELASTIC_HOST_DEVICE static constexpr int index_of(std::int32_t entry) { return entry < 0 ? ~entry : entry; }
};

template <class M>
concept attention_mode = std::is_trivially_copyable_v<M> && requires(M const& mode, where const& w) {
  { mode.keeps(w, 0, 0) } -> std::same_as<bool>;
  { M::has_partial } -> std::convertible_to<bool>;
};

template <class M>
concept span_mode = attention_mode<M> && requires(M const& mode, where const& w) {
  { mode.spans(w, 0, tile_shape{}) } -> std::same_as<span_array<M::spans_max>>;
};

template <class M>
concept list_mode = attention_mode<M> && requires(M const& mode, where const& w) {
  { mode.list(w, 0, tile_shape{}) } -> std::same_as<block_list>;
};

/// Optional hook: a change to the scaled logit s of a kept pair.
template <class M>
concept scoring_mode = requires(M const& mode, where const& w) {
  { mode.score(w, 0.f, 0, 0) } -> std::convertible_to<float>;
  { mode.score(w, 0., 0, 0) } -> std::convertible_to<double>;
};

/// Optional hook: a learnable logit per head that joins the softmax and attends to nothing.
template <class M>
concept sink_logit_mode = requires(M const& mode, where const& w) {
  { mode.sink_logit(w) } -> std::convertible_to<float>;
};

/// Optional hook: keeps for up to 64 keys at once, where that is cheaper than one by one. Bit i answers for
/// key first + i; bits from `count` on may hold anything, and nothing is known of their keys.
template <class M>
concept bits_mode = attention_mode<M> && requires(M const& mode, where const& w) {
  { mode.kept_bits(w, 0, 0, 1) } -> std::same_as<std::uint64_t>;
};

/// Bits begin … end − 1 of a word, as far as it has them: either may lie outside 0 … 64.
ELASTIC_HOST_DEVICE constexpr std::uint64_t bit_range(int begin, int end) {
  begin = maximum(begin, 0);
  end = minimum(end, 64);
  return begin < end ? ~std::uint64_t{0} >> (64 - (end - begin)) << begin : 0;
}

/// Which of the keys first + 0 … first + count − 1, 64 at most, does query q see?
template <class M>
ELASTIC_HOST_DEVICE std::uint64_t kept_bits_of(M const& mode, where const& w, int q, int first, int count) {
  if constexpr (bits_mode<M>) {
    return mode.kept_bits(w, q, first, count);
  } else {
    std::uint64_t bits = 0;
    for (int i = 0; i < count; ++i) bits |= std::uint64_t{mode.keeps(w, q, first + i)} << i;
    return bits;
  }
}

/// May a kernel ever have to ask keeps? Selectors are no modes yet: no.
template <class M>
inline constexpr bool has_partial_of = false;
template <attention_mode M>
inline constexpr bool has_partial_of<M> = M::has_partial;

/// The logit after the mode's hook, where it has one.
template <class M, class Real>
ELASTIC_HOST_DEVICE Real score_of(M const& mode, where const& w, Real s, int q, int k) {
  if constexpr (scoring_mode<M>)
    return mode.score(w, s, q, k);
  else
    return s;
}

namespace detail {
inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();  // device code may not call infinity()
}

/// The head's sink logit, −∞ where the mode has none.
template <class M>
ELASTIC_HOST_DEVICE float sink_logit_of(M const& mode, where const& w) {
  if constexpr (sink_logit_mode<M>)
    return mode.sink_logit(w);
  else
    return detail::minus_infinity;
}

/// The largest tile a kernel may use: its rows and columns must divide these; 0 binds nothing. Only
/// lists bind it.
inline constexpr tile_shape any_tile{0, 0};

template <class M>
ELASTIC_HOST_DEVICE tile_shape largest_tile_of(M const& mode) {
  if constexpr (requires { mode.largest_tile(); })
    return mode.largest_tile();
  else
    return any_tile;
}

/// What fits both.
ELASTIC_HOST_DEVICE tile_shape common_tile(tile_shape a, tile_shape b) {
  return {gcd(a.rows, b.rows), gcd(a.columns, b.columns)};
}

/// Throws elastic::error where the mode's parameters do not fit the problem.
template <class M>
void check_mode(M const& mode, problem const& p) {
  if constexpr (requires { mode.check(p); }) mode.check(p);
}

/// How many ways a router may send a head of this mode; hybrids specialise it.
template <class M>
inline constexpr int routes = 1;

}  // namespace elastic
