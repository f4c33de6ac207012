// Span arithmetic shared by the windowed modes: rows keep k < sink, or low(q) ≤ k < high(q), where low
// and high do not decrease with q.
#pragma once

#include <elastic/modes/mode.hpp>

namespace elastic {

/// The window's edges for the first and the last row of a query tile, in keys.
struct band {
  int sink;
  int first_low, last_low;
  int first_high, last_high;
};

/// Sink tiles, sink edge, window edge, window, and (bidirectional) the window's far edge.
ELASTIC_HOST_DEVICE span_array<5> band_spans(band const& b, int k_len, int columns) {
  int const end = ceil_div(k_len, columns);
  // A tile cut by the sequence's end counts as whole where the sink or the window reaches that end.
  int const sink_whole = b.sink >= k_len ? end : b.sink / columns;
  int const sink_any = minimum(ceil_div(b.sink, columns), end);
  int const any_begin = maximum(b.first_low, 0) / columns;
  int const any_end = minimum(ceil_div(maximum(b.last_high, 0), columns), end);
  // A window that follows upon the sink leaves no gap: both together start at key 0.
  int const all_begin = b.last_low <= b.sink ? 0 : ceil_div(maximum(b.last_low, 0), columns);
  int const all_end = b.first_high >= k_len ? end : maximum(b.first_high, 0) / columns;

  int const edge_end = all_begin <= sink_whole && sink_whole < all_end ? sink_whole : sink_any;
  int const window = maximum(any_begin, edge_end);
  int const whole_begin = minimum(maximum(all_begin, window), maximum(any_end, window));
  int const whole_end = maximum(minimum(all_end, any_end), whole_begin);
  return {{{0, sink_whole, coverage::full},
           {sink_whole, edge_end, coverage::partial},
           {window, whole_begin, coverage::partial},
           {whole_begin, whole_end, coverage::full},
           {whole_end, maximum(any_end, whole_end), coverage::partial}}};
}

/// A bound no key reaches.
inline constexpr int no_bound = std::numeric_limits<int>::max() / 2;

}  // namespace elastic
