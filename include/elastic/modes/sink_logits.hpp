// A mode with learnable sink logits: head h adds exp(z_h) to its softmax's denominator and nothing to
// its numerator (GPT-OSS). LSE includes it; a row that sees no key has O = 0 and LSE = z_h. A logit is finite,
// or −∞ for none. They are data in the backend's memory, as q is: no check reads them, and NaN gives NaN.
#pragma once

#include <elastic/modes/composite.hpp>

namespace elastic {

template <class Mode>
struct sink_logits {
  mode_pack<Mode> parts;
  float const* logits = nullptr;  // (query_heads)

  sink_logits() = default;
  sink_logits(Mode mode, float const* per_head) : parts{mode}, logits(per_head) {}

  template <class M>
  sink_logits<M> with_parts(mode_pack<M> const& pack) const {
    return {pack.first, logits};
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
    requires scoring_mode<Mode>
  ELASTIC_HOST_DEVICE Real score(where const& w, Real s, int q, int k) const {
    return parts.first.score(w, s, q, k);
  }

  ELASTIC_HOST_DEVICE float sink_logit(where const& w) const { return logits[w.query_head]; }

  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return largest_tile_of(parts.first); }

  void check(problem const& p) const {
    check_mode(parts.first, p);
    require(logits != nullptr, "sink_logits.logits", "null", "one float for each query head");
  }
};

template <class Mode>
inline constexpr int routes<sink_logits<Mode>> = routes<Mode>;

}  // namespace elastic
