// expects: elastic: spans of a Mode must be span_array<spans_max> spans(where, int q_tile, tile_shape) const
#include <elastic/attention.hpp>

using namespace elastic;

struct first_half {
  static constexpr bool has_partial = true;
#ifdef ELASTIC_SHOULD_COMPILE
  static constexpr int spans_max = 1;
#else
  static constexpr int spans_max = 2;
#endif
  bool keeps(where const& w, int, int k) const { return k < w.k_len / 2; }
  span_array<1> spans(where const& w, int, tile_shape shape) const {
    return {{{0, ceil_div(w.k_len / 2, shape.columns), coverage::partial}}};
  }
};

attention<hybrid<full, scored<first_half, alibi>>> const attend;
