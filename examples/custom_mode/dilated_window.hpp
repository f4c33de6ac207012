// A mode of one's own: a dilated window. This struct is all a researcher writes; every backend runs it.
#pragma once

#include <elastic/modes/modes.hpp>

struct dilated_window {
  int keys = 64;
  int step = 4;  // every step-th key, the query itself first

  ELASTIC_HOST_DEVICE bool keeps(elastic::where const& w, int q, int k) const {
    int const distance = w.position(q) - k;
    return distance >= 0 && distance < keys * step && distance % step == 0;
  }

  // Optional: which key tiles a tile of queries visits. Without it, all are asked.
  static constexpr bool has_partial = true;  // keeps has to be asked inside a tile
  static constexpr int spans_max = 1;
  ELASTIC_HOST_DEVICE elastic::span_array<1> spans(elastic::where const& w, int q_tile,
                                                   elastic::tile_shape shape) const {
    elastic::tile_rows const rows(w, q_tile, shape);
    int const begin = elastic::maximum(w.position(rows.first) - keys * step + 1, 0) / shape.columns;
    int const end = elastic::maximum(w.position(rows.last), -1) / shape.columns + 1;
    return {{{begin, elastic::minimum(end, elastic::ceil_div(w.k_len, shape.columns)), elastic::coverage::partial}}};
  }
};

static_assert(elastic::span_mode<dilated_window>);
