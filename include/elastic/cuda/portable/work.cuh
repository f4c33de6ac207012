// Who works on what. An item is one query tile of one (sequence, query head). `plan_work` orders the heads
// by what their last query tile costs, the heaviest first, cuts them into sections whose keys and values
// fit the L2 cache, and zeroes the counter that persistent CTAs draw items from: inside a section the last
// query tiles come first, and the heads of a group are neighbours. Which CTA computes an item changes
// nothing in its result. Everything that lies in device memory is clamped here.
#pragma once

#include <elastic/core/sequence.hpp>
#include <elastic/modes/hybrid.hpp>
#include <elastic/modes/tiles.hpp>

namespace elastic::detail {

/// The plan in the caller's scratch memory.
struct work_plan {
  unsigned* next = nullptr;   // the next item to hand out
  unsigned* first = nullptr;  // (sections + 1): items before each section
  int* order = nullptr;       // (heads): heads by descending cost
  int heads = 0;              // batch · query_heads
  int section_heads = 1;      // a power of two, at most planned_at_once

  ELASTIC_HOST_DEVICE int sections() const { return ceil_div(heads, section_heads); }
};

/// Heads that are ranked among each other.
inline constexpr int planned_at_once = 1024;

template <class M, class T, class Source>
struct forward_arguments {
  M mode;
  problem shape;
  heads_view<T const> q;  // (batch, q_len, query_heads, head_dim)
  Source source;
  heads_view<T> out;  // (batch, q_len, query_heads, head_dim)
  lse_view lse;       // (batch, query_heads, q_len), or absent
  const_assignment_view assignment;
  work_plan plan;
  tile_shape tile;  // of tiles_of, where lists bind it
  int first_tile;   // query tiles before q_begin
};

/// Modes with lists take their tile from the lists' blocks at run time, the others the kernel's own.
template <class M>
inline constexpr bool lists_bind_tile = spans_in<tiles_t<M>> == 0;

template <class Kernel, class Arguments>
__device__ __forceinline__ tile_shape tile_of(Arguments const& a) {
  if constexpr (lists_bind_tile<decltype(a.mode)>)
    return a.tile;
  else
    return Kernel::tiling.shape;
}

__device__ __forceinline__ int clamp(std::int64_t x, std::int64_t low, std::int64_t high) {
  return static_cast<int>(maximum(low, minimum(x, high)));
}

/// Where the rows of a sequence start, and how many there are, inside a tensor of `rows`.
struct extent {
  int start;
  int length;
};

__device__ __forceinline__ extent extent_of(std::int32_t const* starts, int batch, int most, std::int64_t rows) {
  if (starts == nullptr) return {0, most};
  int const start = clamp(starts[batch], 0, rows);
  return {start, clamp(std::int64_t{starts[batch + 1]} - start, 0, minimum<std::int64_t>(most, rows - start))};
}

/// Where a head's keys and values lie.
template <class T>
struct key_cursor {
  T const* keys;
  T const* values;
};

template <class T>
__device__ __forceinline__ extent key_extent(plain_keys<T> const& source, problem const& p, int batch) {
  return extent_of(p.cu_seqlens_k, batch, p.k_len, source.k.extents[1]);
}

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
__device__ __forceinline__ extent key_extent(paged_cache<T> const& source, problem const& p, int batch) {
  return {0, clamp(p.k_lengths[batch], 0, minimum<std::int64_t>(p.k_len, source.table.extents[2] * source.run()))};
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

/// Fills in everything but the tiles; returns the number of query tiles that the head has.
template <class Kernel, class Arguments, class Item>
__device__ __forceinline__ int locate_head(Arguments const& a, int head, Item& item, int& k_start) {
  problem const& p = a.shape;
  int const batch = head / p.query_heads, query_head = head % p.query_heads;
  where& w = item.w;
  w.batch = batch;
  w.query_head = query_head;
  w.kv_head = query_head / p.group();
  w.query_heads = p.query_heads;
  w.kv_heads = p.kv_heads;
  w.layer = p.layer;
  w.causal = p.causal;
  w.route = clamp(a.assignment(batch, query_head), 0, routes<std::remove_cvref_t<decltype(a.mode)>> - 1);
  extent const queries = extent_of(p.cu_seqlens_q, batch, p.q_len, a.q.extents[1]);
  extent const keys = key_extent(a.source, p, batch);
  w.q_len = queries.length;
  w.k_len = keys.length;
  item.q_start = queries.start;
  k_start = keys.start;
  return maximum(ceil_div(minimum(p.q_end, w.q_len), tile_of<Kernel>(a).rows) - a.first_tile, 0);
}

/// Turns a number from the counter into an item. Skips heads that are shorter than their section's longest.
/// For one thread, which keeps `number` and `section` from item to item.
template <class Kernel, class Arguments, class Item>
__device__ __forceinline__ void next_item(Arguments const& a, unsigned number, int& section, Item& item) {
  work_plan const& plan = a.plan;
  int const sections = plan.sections();
  tile_shape const shape = tile_of<Kernel>(a);
  for (;; number = atomicAdd(plan.next, 1u)) {
    while (section < sections && number >= plan.first[section + 1]) ++section;
    if (section >= sections) {
      item.count = -1;
      return;
    }
    unsigned const width =
        static_cast<unsigned>(minimum(plan.section_heads, plan.heads - section * plan.section_heads));
    unsigned const within = number - plan.first[section];
    int const head = plan.order[section * plan.section_heads + static_cast<int>(within % width)];
    int k_start;
    int const at = locate_head<Kernel>(a, head, item, k_start) - 1 - static_cast<int>(within / width);
    if (at < 0) continue;
    int const q_tile = a.first_tile + at;
    item.first = q_tile * shape.rows;
    item.rows = minimum(shape.rows, item.w.q_len - item.first);
    place_keys(a, item, k_start);
    auto const tiles = tiles_of(a.mode, item.w, q_tile, shape);
    item.tiles = tiles;
    item.count = item.w.k_len > 0 ? tiles.count : 0;
    return;
  }
}

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

/// One CTA of planned_at_once threads.
template <class Kernel, class Arguments>
__global__ void __launch_bounds__(planned_at_once) plan_work(__grid_constant__ Arguments const a) {
  __shared__ int cost[planned_at_once], tiles[planned_at_once], longest[planned_at_once];
  int const i = static_cast<int>(threadIdx.x);
  work_plan const& plan = a.plan;
  unsigned items = 0;
  if (i == 0) *plan.next = 0, plan.first[0] = 0;
  for (int base = 0; base < plan.heads; base += planned_at_once) {
    int const n = minimum(planned_at_once, plan.heads - base);
    int own = -1, length = 0;
    if (i < n) {
      struct {
        where w;
        int q_start;
      } item;
      int k_start;
      length = locate_head<Kernel>(a, base + i, item, k_start);
      if (length > 0) own = tiles_of(a.mode, item.w, a.first_tile + length - 1, tile_of<Kernel>(a)).count;
    }
    cost[i] = own;
    longest[i] = 0;
    __syncthreads();
    if (i < n) {
      int rank = 0;
      for (int j = 0; j < n; ++j) rank += cost[j] > own || (cost[j] == own && j < i);
      plan.order[base + rank] = base + i;
      tiles[rank] = length;
    }
    __syncthreads();
    if (i < n) atomicMax(&longest[i / plan.section_heads], tiles[i]);
    __syncthreads();
    if (i == 0)
      for (int s = 0; s * plan.section_heads < n; ++s) {
        items += static_cast<unsigned>(longest[s]) *
                 static_cast<unsigned>(minimum(plan.section_heads, n - s * plan.section_heads));
        plan.first[base / plan.section_heads + s + 1] = items;
      }
    __syncthreads();
  }
}

}  // namespace elastic::detail
