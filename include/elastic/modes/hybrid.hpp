// Hybrid heads: route r of the assignment sends a head to the r-th mode. By convention the first mode
// retrieves (full, or the denser one) and the last is sparse. One uniform branch per head.
#pragma once

#include <elastic/modes/composite.hpp>
#include <elastic/modes/routed_tiles.hpp>

namespace elastic {

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
