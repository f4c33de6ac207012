// What the portable kernels add to items (cuda/work.cuh): where keys and values lie, in tensors or in the pages of a
// cache, and a card for each key tile.
#pragma once

#include <elastic/cuda/work.cuh>

namespace elastic::detail {

/// Where a head's keys and values lie.
template <class T>
struct key_cursor {
  T const* keys;
  T const* values;
};

template <class T>
__device__ __forceinline__ key_cursor<T> cursor_of(plain_keys<T> const& s, problem const& p, where const& w,
                                                   int start) {
  std::int64_t const slab = p.packed() ? 0 : w.batch;
  return {s.k.data + slab * s.k.strides[0] + start * s.k.strides[1] + w.kv_head * s.k.strides[2],
          s.v.data + slab * s.v.strides[0] + start * s.v.strides[1] + w.kv_head * s.v.strides[2]};
}

template <class T>
__device__ __forceinline__ key_cursor<T> rows_from(plain_keys<T> const& s, key_cursor<T> const& at, where const&,
                                                   int first) {
  return {at.keys + first * s.k.strides[1], at.values + first * s.v.strides[1]};
}

template <class T>
__device__ __forceinline__ std::int64_t key_stride(plain_keys<T> const& s) {
  return s.k.strides[1];
}
template <class T>
__device__ __forceinline__ std::int64_t value_stride(plain_keys<T> const& s) {
  return s.v.strides[1];
}

template <class T>
__device__ __forceinline__ key_cursor<T> cursor_of(paged_cache<T> const& s, problem const&, where const&, int) {
  return {s.k_pages.data, s.v_pages.data};
}

/// An absent page has null keys.
template <class T>
__device__ __forceinline__ key_cursor<T> rows_from(paged_cache<T> const& s, key_cursor<T> const&, where const& w,
                                                   int first) {
  std::int64_t const page = s.table(w.batch, w.kv_head, first / s.run());
  if (page < 0 || page >= s.k_pages.extents[0]) return {nullptr, nullptr};
  return {&s.k_pages(page, first % s.run(), 0), &s.v_pages(page, first % s.run(), 0)};
}

template <class T>
__device__ __forceinline__ std::int64_t key_stride(paged_cache<T> const& s) {
  return s.k_pages.strides[1];
}
template <class T>
__device__ __forceinline__ std::int64_t value_stride(paged_cache<T> const& s) {
  return s.v_pages.strides[1];
}

/// One query tile of one head.
template <class M, class T>
struct work_item {
  where w;
  int q_start;  // row of the tensor at which the sequence starts
  int first;    // first query of the tile
  int rows;     // queries of the tile
  int count;    // key tiles; −1: no more work
  key_cursor<T> keys;
  tiles_t<M> tiles;
};

/// Tells an item where its sequence's keys start.
template <class Arguments, class M, class T>
__device__ __forceinline__ void place_keys(Arguments const& a, work_item<M, T>& item, int k_start) {
  item.keys = cursor_of(a.source, a.shape, item.w, k_start);
}

/// A key tile as the loop needs it.
template <class T>
struct tile_card {
  key_cursor<T> rows;
  int first;  // its first key
  int limit;  // its keys inside the sequence; 0 where a list names no block that exists
  bool masked;
  bool asks;  // keeps
};

template <class Kernel, class Arguments, class Item, class T>
__device__ __forceinline__ void write_card(Arguments const& a, Item const& item, int i, tile_card<T>& card) {
  int const columns = tile_of<Kernel>(a).columns;
  tile const t = item.tiles[i];
  bool const exists = t.index >= 0 && std::int64_t{t.index} * columns < item.w.k_len;
  card.first = exists ? t.index * columns : 0;
  card.rows = rows_from(a.source, item.keys, item.w, card.first);
  card.limit = exists && card.rows.keys != nullptr ? minimum(columns, item.w.k_len - card.first) : 0;
  card.masked = t.kind != tile_kind::full || card.limit < Kernel::tiling.shape.columns;
  card.asks = t.kind == tile_kind::partial;
}

}  // namespace elastic::detail
