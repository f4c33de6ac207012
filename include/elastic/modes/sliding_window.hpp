// Sliding window: query p sees the keys j with p − j < window; where not causal, |p − j| < window.
// The window counts the query itself.
#pragma once

#include <elastic/modes/band.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

struct sliding_window {
  int window = 2048;  // tokens

  static constexpr int spans_max = 5;
  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE int low(where const& w, int q) const { return w.position(q) - window + 1; }
  ELASTIC_HOST_DEVICE int high(where const& w, int q) const { return w.causal ? no_bound : w.position(q) + window; }

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const { return k >= low(w, q) && k < high(w, q); }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int /*count*/) const {
    return bit_range(low(w, q) - first, high(w, q) - first);
  }

  ELASTIC_HOST_DEVICE span_array<5> spans(where const& w, int q_tile, tile_shape shape) const {
    tile_rows const rows(w, q_tile, shape);
    return band_spans({0, low(w, rows.first), low(w, rows.last), high(w, rows.first), high(w, rows.last)}, w.k_len,
                      shape.columns);
  }

  ELASTIC_HOST_DEVICE key_range forgets(where const&, int position) const { return {0, position - window + 1}; }

  void check(problem const&) const {
    require(window >= 1 && window <= 1 << 29, "sliding_window.window", window, "1 to 2^29 tokens");
  }
};

static_assert(span_mode<sliding_window>);

}  // namespace elastic
