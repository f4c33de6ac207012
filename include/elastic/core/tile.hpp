// Tiles: the unit in which every backend walks a mode. A query tile of `rows` queries visits key tiles
// of `columns` keys, each full, clipped (cut by causality and length alone) or partial (also asks keeps).
#pragma once

#include <cstdint>

#include <elastic/core/host_device.hpp>
#include <elastic/core/problem.hpp>

namespace elastic {

struct tile_shape {
  int rows;
  int columns;
};

/// What a mode says of a range of key tiles, causality and length apart.
enum class coverage : std::int8_t { partial, full };

/// What a backend has to do in a tile.
enum class tile_kind : std::int8_t { full, clipped, partial };

struct tile {
  int index;  // key tile: keys [index·columns, (index + 1)·columns)
  tile_kind kind;
};

/// Key tiles [begin, end).
struct span {
  int begin;
  int end;
  coverage cover;
};

/// Keys [begin, end).
struct key_range {
  int begin = 0;
  int end = 0;
  ELASTIC_HOST_DEVICE int size() const { return maximum(end - begin, 0); }
};

/// At most `N` spans, disjoint and ascending; empty ones are allowed.
template <int N>
struct span_array {
  static constexpr int size = N;
  span items[N];
  ELASTIC_HOST_DEVICE span const& operator[](int i) const { return items[i]; }
  ELASTIC_HOST_DEVICE span& operator[](int i) { return items[i]; }
};

/// Rows [first, last] of a query tile, cut at the sequence's end.
struct tile_rows {
  int first;
  int last;
  ELASTIC_HOST_DEVICE tile_rows(where const& w, int q_tile, tile_shape shape)
      : first(q_tile * shape.rows), last(minimum(first + shape.rows, w.q_len) - 1) {}
};

/// Causality and length, in key tiles, of one query tile: tiles below `whole` are inside for every row,
/// tiles from `visible` on for none.
struct bounds {
  int visible;
  int whole;
  ELASTIC_HOST_DEVICE bounds(where const& w, int q_tile, tile_shape shape) {
    tile_rows const rows(w, q_tile, shape);
    int const any = w.causal ? minimum(w.k_len, w.position(rows.last) + 1) : w.k_len;
    int const all = w.causal ? minimum(w.k_len, w.position(rows.first) + 1) : w.k_len;
    visible = ceil_div(maximum(any, 0), shape.columns);
    whole = maximum(all, 0) / shape.columns;
  }
};

}  // namespace elastic
