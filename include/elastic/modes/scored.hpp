// A mode with a score hook: s' = hook(where, s, q, k) on the scaled logit of every kept pair, before the
// softmax. Shipped hooks: soft cap s' = cap·tanh(s / cap) (Gemma 2) and ALiBi s' = s − slope·|p − k|
// with the slopes 2^(−8(h+1)/H) of arXiv 2108.12409, or the caller's own.
#pragma once

#include <cmath>

#include <elastic/modes/composite.hpp>

namespace elastic {

struct soft_cap {
  float cap = 50;

  template <class Real>
  ELASTIC_HOST_DEVICE Real operator()(where const&, Real s, int, int) const {
    using std::tanh;
    return Real(cap) * tanh(s / Real(cap));
  }

  void check(problem const&) const { require(cap > 0 && std::isfinite(cap), "soft_cap.cap", cap, "a positive number"); }
};

struct alibi {
  float const* slopes = nullptr;  // (query_heads), or null: the geometric slopes of the paper

  template <class Real>
  ELASTIC_HOST_DEVICE Real operator()(where const& w, Real s, int q, int k) const {
    using std::exp2;
    Real const slope =
        slopes != nullptr ? Real(slopes[w.query_head]) : exp2(Real(-8) * Real(w.query_head + 1) / Real(w.query_heads));
    int const distance = w.position(q) - k;
    return s - slope * Real(distance < 0 ? -distance : distance);
  }
};

template <class Mode, class Hook>
struct scored {
  mode_pack<Mode> parts;
  Hook hook;

  scored() = default;
  scored(Mode mode, Hook the_hook) : parts{mode}, hook(the_hook) {}

  template <class M>
  scored<M, Hook> with_parts(mode_pack<M> const& pack) const {
    return {pack.first, hook};
  }

  static constexpr bool has_partial = has_partial_of<Mode>;

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const
    requires attention_mode<Mode>
  {
    return parts.first.keeps(w, q, k);
  }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const
    requires attention_mode<Mode>
  {
    return kept_bits_of(parts.first, w, q, first, count);
  }

  ELASTIC_HOST_DEVICE auto tiles(where const& w, int q_tile, tile_shape shape, bounds const&) const {
    return tiles_of(parts.first, w, q_tile, shape);
  }

  template <class Real>
  ELASTIC_HOST_DEVICE Real score(where const& w, Real s, int q, int k) const {
    return hook(w, score_of(parts.first, w, s, q, k), q, k);
  }

  ELASTIC_HOST_DEVICE float sink_logit(where const& w) const
    requires sink_logit_mode<Mode>
  {
    return parts.first.sink_logit(w);
  }

  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return largest_tile_of(parts.first); }

  void check(problem const& p) const {
    check_mode(parts.first, p);
    check_mode(hook, p);
  }
};

template <class Mode, class Hook>
inline constexpr int routes<scored<Mode, Hook>> = routes<Mode>;

}  // namespace elastic
