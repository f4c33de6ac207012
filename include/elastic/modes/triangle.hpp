// TriangleMix: in layers below `layer_threshold` full attention; in the others streaming by token, and
// the last `last` query rows dense. (arXiv 2507.21526)
#pragma once

#include <elastic/modes/band.hpp>
#include <elastic/modes/mode.hpp>
#include <elastic/modes/streaming.hpp>

namespace elastic {

struct triangle {
  int sink = 8;              // tokens
  int local = 512;           // tokens, the query itself included
  int last = 128;            // dense rows at the sequence's end
  int layer_threshold = 16;  // layers below it are full

  static constexpr int spans_max = 5;
  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE bool dense(where const& w, int q) const {
    return w.layer < layer_threshold || q >= w.q_len - last;
  }

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const { return dense(w, q) || sparse().keeps(w, q, k); }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int count) const {
    return dense(w, q) ? ~std::uint64_t{0} : sparse().kept_bits(w, q, first, count);
  }

  ELASTIC_HOST_DEVICE span_array<5> spans(where const& w, int q_tile, tile_shape shape) const {
    tile_rows const rows(w, q_tile, shape);
    int const end = ceil_div(w.k_len, shape.columns);
    if (dense(w, rows.first))
      return {{{0, end, coverage::full},
               {end, end, coverage::full},
               {end, end, coverage::full},
               {end, end, coverage::full},
               {end, end, coverage::full}}};
    int const last_sparse = minimum(rows.last, w.q_len - last - 1);
    span_array<5> spans = sparse().spans_of_rows(w, rows.first, last_sparse, shape);
    if (last_sparse < rows.last) {  // mixed: what the sparse rows leave out, the dense rows see
      spans[1] = {spans[0].end, spans[3].begin, coverage::partial};
      spans[2] = {spans[3].begin, spans[3].begin, coverage::partial};
    }
    return spans;
  }

  void check(problem const& p) const {
    require(p.causal, "triangle", "attention without causality", "causal attention");
    require(sink >= 0 && sink <= 1 << 29, "triangle.sink", sink, "0 to 2^29 tokens");
    require(local >= 0 && local <= 1 << 29, "triangle.local", local, "0 to 2^29 tokens");
    require(last >= 0, "triangle.last", last, "0 or more rows");
    require(layer_threshold >= 0, "triangle.layer_threshold", layer_threshold, "0 or more layers");
  }

 private:
  ELASTIC_HOST_DEVICE streaming sparse() const { return {sink, local, granularity::token, alignment::position}; }
};

static_assert(span_mode<triangle>);

}  // namespace elastic
