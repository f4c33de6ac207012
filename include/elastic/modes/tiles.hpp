// tiles_of(mode, where, q_tile, shape): the key tiles that a query tile visits, cut by causality and
// length. A small trivially copyable object with a count and [i] → {index, kind}, in descending order.
// Every backend walks this and nothing else.
#pragma once

#include <cstdint>
#include <type_traits>

#include <elastic/core/tile.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

/// A mode with more spans would ask every tile instead.
inline constexpr int span_limit = 64;

/// Tiles of a few spans.
template <int N>
struct span_tiles {
  static constexpr int spans_max = N;
  static_assert(N <= span_limit, "elastic: a mode has 64 spans at most");
  using span_bits = std::conditional_t<(N > 32), std::uint64_t, std::uint32_t>;
  int count = 0;
  int whole = 0;
  span_bits partial = 0;  // bit s: span s needs keeps
  int begin[N];
  int end[N];

  span_tiles() = default;

  template <int M>
    requires(M <= N)
  ELASTIC_HOST_DEVICE span_tiles(span_array<M> const& spans, bounds const& cut) : whole(cut.whole) {
    for (int s = 0; s < N; ++s) {
      begin[s] = end[s] = 0;
      if (s < M) {
        end[s] = minimum(spans.items[s < M ? s : 0].end, cut.visible);
        begin[s] = minimum(maximum(spans.items[s < M ? s : 0].begin, 0), end[s]);
        if (end[s] < begin[s]) begin[s] = end[s];
        if (spans.items[s < M ? s : 0].cover == coverage::partial) partial |= span_bits{1} << s;
        count += end[s] - begin[s];
      }
    }
  }

  ELASTIC_HOST_DEVICE tile operator[](int i) const {
    for (int s = N - 1; s >= 0; --s) {
      int const length = end[s] - begin[s];
      if (i < length) {
        int const index = end[s] - 1 - i;
        bool const asks = (partial >> s & 1) != 0;
        return {index, asks ? tile_kind::partial : index >= whole ? tile_kind::clipped : tile_kind::full};
      }
      i -= length;
    }
    return {0, tile_kind::full};
  }
};

/// Tiles of a descending list of blocks; a block holds `per_block` tiles. The cut is a prefix. Of a list that names
/// blocks which do not exist, as one in device memory may, those in front are cut too; others become tiles past the
/// end.
struct list_tiles {
  int count = 0;
  int whole = 0;
  int skip = 0;
  int per_block = 1;
  std::int32_t const* entries = nullptr;

  list_tiles() = default;

  ELASTIC_HOST_DEVICE list_tiles(block_list const& list, tile_shape shape, bounds const& cut)
      : whole(cut.whole), per_block(list.columns / shape.columns), entries(list.entries) {
    int blocks = list.count;
    int const visible = ceil_div(cut.visible, per_block);  // a list has no more
    while (blocks > 0 && block_list::index_of(entries[0]) >= visible) {
      ++entries;
      --blocks;
    }
    if (blocks > 0) skip = maximum(0, (block_list::index_of(entries[0]) + 1) * per_block - cut.visible);
    count = maximum(minimum(blocks, visible), 0) * per_block - skip;
  }

  ELASTIC_HOST_DEVICE tile operator[](int i) const {
    int block = i + skip, inside = 0;
    if (per_block > 1) {  // a division costs as much as all the rest
      inside = per_block - 1 - block % per_block;
      block /= per_block;
    }
    std::int32_t const entry = entries[block];
    auto const first =
        std::uint64_t{static_cast<unsigned>(block_list::index_of(entry))} * static_cast<unsigned>(per_block);
    int const index = static_cast<int>(minimum<std::uint64_t>(first + static_cast<unsigned>(inside), 1u << 30));
    return {index, entry < 0 ? tile_kind::partial : index >= whole ? tile_kind::clipped : tile_kind::full};
  }
};

/// Tiles of a hybrid in which some routes are spans and some are lists.
template <int N>
struct mixed_tiles {
  static constexpr int spans_max = N;
  int count = 0;
  span_tiles<N> spans;
  list_tiles list;
  bool listed = false;

  ELASTIC_HOST_DEVICE tile operator[](int i) const { return listed ? list[i] : spans[i]; }
};

template <attention_mode M>
ELASTIC_HOST_DEVICE auto tiles_of(M const& mode, where const& w, int q_tile, tile_shape shape) {
  bounds const cut(w, q_tile, shape);
  if constexpr (requires { mode.tiles(w, q_tile, shape, cut); })
    return mode.tiles(w, q_tile, shape, cut);
  else if constexpr (list_mode<M>)
    return list_tiles(mode.list(w, q_tile, shape), shape, cut);
  else if constexpr (span_mode<M>)
    return span_tiles<M::spans_max>(mode.spans(w, q_tile, shape), cut);
  else
    return span_tiles<1>(span_array<1>{{{0, cut.visible, coverage::partial}}}, cut);
}

template <attention_mode M>
using tiles_t = decltype(tiles_of(std::declval<M const&>(), std::declval<where const&>(), 0, tile_shape{}));

}  // namespace elastic
