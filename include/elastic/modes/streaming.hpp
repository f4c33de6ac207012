// Streaming attention (sink + local): the first keys and the most recent ones.
//   token   j < sink or p − j < local
//   block   J < sink or P − J < local, P = ⌊p/128⌋, J = ⌊j/128⌋: whole blocks, the query's own included
// Where not causal, |p − j| and |P − J|. `alignment::query_block` places the block window by the query's
// block I = ⌊i/128⌋ as Block-Sparse-Attention does: W − local ≤ J < W with
// W = ⌈max(Δ,0)/128⌉ + 1 + I − max(0, trunc(−Δ/128)), Δ = k_len − q_len; the same where Δ = 0.
#pragma once

#include <elastic/modes/band.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

enum class granularity { token, block };
enum class alignment { position, query_block };

struct streaming {
  int sink = 1;    // tokens or blocks, by granularity
  int local = 16;  // tokens or blocks, by granularity; counts the query's own
  elastic::granularity granularity = elastic::granularity::block;
  elastic::alignment alignment = elastic::alignment::position;

  static constexpr int block = 128;
  static constexpr int spans_max = 5;
  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE int sink_tokens() const {
    return granularity == elastic::granularity::token ? sink : sink * block;
  }

  /// First key of the window.
  ELASTIC_HOST_DEVICE int low(where const& w, int q) const {
    if (granularity == elastic::granularity::token) return w.position(q) - local + 1;
    return (last_block(w, q) - local + 1) * block;
  }

  /// One past the last key of the window.
  ELASTIC_HOST_DEVICE int high(where const& w, int q) const {
    if (w.causal) return no_bound;
    if (granularity == elastic::granularity::token) return w.position(q) + local;
    return (last_block(w, q) + local) * block;
  }

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const {
    return k < sink_tokens() || (k >= low(w, q) && k < high(w, q));
  }

  ELASTIC_HOST_DEVICE std::uint64_t kept_bits(where const& w, int q, int first, int /*count*/) const {
    return bit_range(0, sink_tokens() - first) | bit_range(low(w, q) - first, high(w, q) - first);
  }

  ELASTIC_HOST_DEVICE span_array<5> spans(where const& w, int q_tile, tile_shape shape) const {
    tile_rows const rows(w, q_tile, shape);
    return spans_of_rows(w, rows.first, rows.last, shape);
  }

  /// The same for the rows [first, last].
  ELASTIC_HOST_DEVICE span_array<5> spans_of_rows(where const& w, int first, int last, tile_shape shape) const {
    bool const windowed = local > 0 && low(w, first) <= w.position(last);
    bool const gapless = w.causal && low(w, last) <= sink_tokens();  // the sink reaches the queries themselves
    band const edges = windowed || gapless
                           ? band{sink_tokens(), low(w, first), low(w, last), high(w, first), high(w, last)}
                           : band{sink_tokens(), no_bound, no_bound, 0, 0};
    return band_spans(edges, w.k_len, shape.columns);
  }

  /// Later queries see the sink and a window that moves on. One that is placed by query blocks begins no earlier.
  ELASTIC_HOST_DEVICE key_range forgets(where const&, int position) const {
    bool const by_token = granularity == elastic::granularity::token;
    return {sink_tokens(), by_token ? position - local + 1 : (floor_div(position, block) - local + 1) * block};
  }

  void check(problem const& p) const {
    require_enumerator("streaming.granularity", granularity, elastic::granularity::block);
    require_enumerator("streaming.alignment", alignment, elastic::alignment::query_block);
    int const most = granularity == elastic::granularity::token ? 1 << 29 : (1 << 29) / block;
    require(sink >= 0 && sink <= most, "streaming.sink", sink, "0 to 2^29 tokens, or as many in blocks");
    require(local >= 0 && local <= most, "streaming.local", local, "0 to 2^29 tokens, or as many in blocks");
    require(alignment == elastic::alignment::position || p.causal, "streaming.alignment",
            "query_block without causality", "alignment = position, or causal attention");
  }

 private:
  /// The block that the window ends with: the query's own.
  ELASTIC_HOST_DEVICE int last_block(where const& w, int q) const {
    if (alignment == elastic::alignment::position) return floor_div(w.position(q), block);
    int const shift = w.shift();
    return ceil_div(maximum(shift, 0), block) + q / block - maximum(-shift, 0) / block;
  }
};

static_assert(span_mode<streaming>);

}  // namespace elastic
