// Full attention: every key.
#pragma once

#include <elastic/modes/mode.hpp>

namespace elastic {

struct full {
  static constexpr int spans_max = 1;
  static constexpr bool has_partial = false;

  ELASTIC_HOST_DEVICE bool keeps(where const&, int, int) const { return true; }
  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const&, int, int, int) const { return ~std::uint64_t{0}; }

  ELASTIC_HOST_DEVICE span_array<1> spans(where const& w, int, tile_shape shape) const {
    return {{{0, ceil_div(w.k_len, shape.columns), coverage::full}}};
  }
};

static_assert(span_mode<full>);

}  // namespace elastic
