// Who works on what. An item is one query tile of one (sequence, query head). `plan_work` orders the heads
// by what their last query tile costs, the heaviest first, cuts them into sections whose keys and values
// fit the L2 cache, and zeroes the counter that persistent CTAs draw items from: inside a section the last
// query tiles come first, and the heads of a group are neighbours. Which CTA computes an item changes
// nothing in its result. Everything that lies in device memory is clamped here.
#pragma once

#include <elastic/core/sequence.hpp>
#include <elastic/core/workspace.hpp>
#include <elastic/cuda/call.cuh>
#include <elastic/cuda/ptx/dependent_launch.cuh>
#include <elastic/modes/routed_tiles.hpp>
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

/// Scratch memory of a plan.
inline std::size_t plan_bytes(problem const& p) {
  workspace_cursor cursor;
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  cursor.take<unsigned>(1);
  cursor.take<unsigned>(heads + 1);
  cursor.take<int>(heads);
  return cursor.used();
}

/// Heads whose keys and values fill about half of the L2 cache, a power of two.
inline int section_heads_for(problem const& p, int element_bytes, int l2_bytes) {
  std::int64_t const bytes = maximum<std::int64_t>(std::int64_t{2} * p.k_len * p.head_dim * element_bytes, 1);
  std::int64_t const wanted = maximum<std::int64_t>(l2_bytes / 2 / bytes, 1) * p.group();
  int heads = 1;
  while (heads * 2 <= wanted && heads < planned_at_once) heads *= 2;
  return heads;
}

/// A plan in aligned scratch memory of plan_bytes; plan_work fills it.
inline work_plan bind_plan(problem const& p, int element_bytes, int l2_bytes, workspace scratch) {
  workspace_cursor cursor(scratch.data());
  work_plan plan;
  plan.heads = p.batch * p.query_heads;
  plan.section_heads = section_heads_for(p, element_bytes, l2_bytes);
  plan.next = cursor.take<unsigned>(1);
  plan.first = cursor.take<unsigned>(plan.heads + 1);
  plan.order = cursor.take<int>(plan.heads);
  return plan;
}

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

template <class T>
__device__ __forceinline__ extent key_extent(plain_keys<T> const& source, problem const& p, int batch) {
  return extent_of(p.cu_seqlens_k, batch, p.k_len, source.k.extents[1]);
}

template <class T>
__device__ __forceinline__ extent key_extent(paged_cache<T> const& source, problem const& p, int batch) {
  return {0, clamp(p.k_lengths[batch], 0, minimum<std::int64_t>(p.k_len, source.table.extents[2] * source.run()))};
}

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
/// For one thread, which keeps `section` from item to item.
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

/// One CTA of planned_at_once threads.
template <class Kernel, class Arguments>
__global__ void __launch_bounds__(planned_at_once) plan_work(__grid_constant__ Arguments const a) {
  ptx::let_dependents_start();
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

/// Completes the arguments of a forward kernel, whose tile is settled, and launches the planning; returns the number of
/// items. Where there are none, nothing is launched.
template <class Kernel, class Arguments>
int launch_plan(Arguments& a, int device, workspace scratch) {
  problem const& p = a.shape;
  a.first_tile = p.q_begin / a.tile.rows;
  a.plan = bind_plan(p, sizeof(*a.out.data), device_attribute(cudaDevAttrL2CacheSize, device), scratch);
  std::int64_t const items = std::int64_t{a.plan.heads} * (ceil_div(p.q_end, a.tile.rows) - a.first_tile);
  require(items < (std::int64_t{1} << 31), "q", items, "fewer than 2^31 query tiles in all heads");
  if (items <= 0) return 0;
  plan_work<Kernel><<<1, planned_at_once, 0, static_cast<cudaStream_t>(p.stream)>>>(a);
  cuda_call(cudaGetLastError(), "plan_work");
  return static_cast<int>(items);
}

}  // namespace elastic::detail
