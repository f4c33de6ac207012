// Who decodes what. A bundle is at most 16 rows (query heads of one KV head × new tokens) that share the
// loads of keys and values. It visits the union of its heads' tiles; all bundles' tiles in a row are cut into
// equal parts, one for each CTA, so that a GPU is busy to the end however dense and sparse heads are mixed.
// A part may end inside a bundle: combine_decode adds up what its CTAs left. Which CTA computes what follows
// from the tile counts alone. Everything that lies in device memory is clamped as in work.cuh.
#pragma once

#include <climits>

#include <elastic/cuda/portable/decode_tuning.hpp>
#include <elastic/cuda/portable/work.cuh>
#include <elastic/cuda/ptx/dependent_launch.cuh>

namespace elastic::detail {

/// The parts [first, last] that a bundle's tiles fall into.
struct part_range {
  int first;
  int last;
};

/// In the caller's scratch memory.
struct decode_plan {
  int* tiles = nullptr;         // (bundles): key tiles to visit
  part_range* parts = nullptr;  // (bundles), of those with tiles
  float* output = nullptr;      // (parts + bundles, slot_rows, head_dim): sums of P·V
  float2* sums = nullptr;       // (parts + bundles, slot_rows): maximum, in powers of two, and sum of P
  int bundles = 0;              // batch · kv_heads · bundles_per_head
  int bundles_per_head = 1;
  int slot_rows = decode_rows;
  int columns = decode_columns;  // keys of a tile
  int parts_most = 1;            // CTAs

  /// What part `part` leaves of bundle `bundle` lies in a slot of its own: a new one begins with either.
  ELASTIC_HOST_DEVICE std::int64_t slot(int part, int bundle) const { return std::int64_t{part} + bundle; }
};

template <class M, class T, class Source>
struct decode_arguments {
  M mode;
  problem shape;
  heads_view<T const> q;  // (batch, few, query_heads, head_dim)
  Source source;
  heads_view<T> out;  // (batch, few, query_heads, head_dim)
  lse_view lse;       // (batch, query_heads, few), or absent
  const_assignment_view assignment;
  decode_plan plan;
};

/// Row r of a bundle is query (first_row + r) mod q_len of head (first_row + r) / q_len of the KV head.
struct bundle {
  int batch;
  int kv_head;
  int first_row;
  int rows;
  int heads;  // that the rows belong to

  __device__ __forceinline__ bundle(problem const& p, decode_plan const& plan, int number) {
    int const of_all = number / plan.bundles_per_head;
    batch = of_all / p.kv_heads;
    kv_head = of_all % p.kv_heads;
    first_row = number % plan.bundles_per_head * decode_rows;
    rows = minimum(decode_rows, p.group() * p.q_len - first_row);
    heads = (first_row + rows - 1) / p.q_len - first_row / p.q_len + 1;
  }

  /// Number of a row's head inside the bundle, its head of the problem, and its query.
  __device__ __forceinline__ int head(problem const& p, int row) const {
    return (first_row + row) / p.q_len - first_row / p.q_len;
  }
  __device__ __forceinline__ int query_head(problem const& p, int head) const {
    return kv_head * p.group() + first_row / p.q_len + head;
  }
  __device__ __forceinline__ int query(problem const& p, int row) const { return (first_row + row) % p.q_len; }
};

/// Head `head` of a bundle, as its mode sees it.
template <class Arguments>
__device__ __forceinline__ where where_of(Arguments const& a, bundle const& b, int head) {
  problem const& p = a.shape;
  where w;
  w.batch = b.batch;
  w.query_head = b.query_head(p, head);
  w.kv_head = b.kv_head;
  w.query_heads = p.query_heads;
  w.kv_heads = p.kv_heads;
  w.q_len = p.q_len;
  w.k_len = key_extent(a.source, p, b.batch).length;
  w.layer = p.layer;
  w.route = clamp(a.assignment(b.batch, w.query_head), 0, routes<std::remove_cvref_t<decltype(a.mode)>> - 1);
  w.causal = p.causal;
  return w;
}

/// The tiles of one head, none from `b.heads` on.
template <class Arguments>
__device__ __forceinline__ auto tiles_of_head(Arguments const& a, bundle const& b, int head) {
  using tiles = tiles_t<std::remove_cvref_t<decltype(a.mode)>>;
  if (head < b.heads) {
    where const w = where_of(a, b, head);
    if (w.k_len > 0) return tiles_of(a.mode, w, 0, {decode_rows, a.plan.columns});
  }
  tiles none;
  for (int s = 0; s < tiles::spans_max; ++s) none.begin[s] = none.end[s] = 0;
  return none;
}

/// Calls visit(begin, end) for each range of key tiles of which every one is in some lane's spans, ascending.
/// By a whole warp.
template <int N, class Visit>
__device__ __forceinline__ void for_each_range(span_tiles<N> const& tiles, Visit&& visit) {
  for (int at = 0;;) {
    int begin = INT_MAX;
#pragma unroll
    for (int s = 0; s < N; ++s)
      if (tiles.end[s] > maximum(tiles.begin[s], at)) begin = minimum(begin, maximum(tiles.begin[s], at));
    begin = __reduce_min_sync(~0u, begin);
    if (begin == INT_MAX) return;
    for (int end = begin;;) {
      int reach = end;
#pragma unroll
      for (int s = 0; s < N; ++s)
        if (tiles.begin[s] < tiles.end[s] && tiles.begin[s] <= end) reach = maximum(reach, tiles.end[s]);
      reach = __reduce_max_sync(~0u, reach);
      if (reach == end) {
        visit(begin, end);
        at = end;
        break;
      }
      end = reach;
    }
  }
}

inline constexpr int counting_threads = 128;

/// A warp for each bundle.
template <class Arguments>
__global__ void __launch_bounds__(counting_threads) count_decode(__grid_constant__ Arguments const a) {
  ptx::let_dependents_start();
  int const number = static_cast<int>(blockIdx.x) * (counting_threads / 32) + static_cast<int>(threadIdx.x) / 32;
  if (number >= a.plan.bundles) return;
  int const lane = static_cast<int>(threadIdx.x) % 32;
  int count = 0;
  for_each_range(tiles_of_head(a, bundle(a.shape, a.plan, number), lane),
                 [&](int begin, int end) { count += end - begin; });
  if (lane == 0) a.plan.tiles[number] = count;
}

/// How all tiles are shared out, and where one part begins. Tiles cost 1, and beginning a bundle `start`: a part
/// with many short ones gets fewer tiles.
struct decode_share {
  int start;
  int each;    // cost of a part
  int total;   // of all bundles
  int bundle;  // in which the part begins
  int spent;   // of that bundle's cost, by parts before
  ELASTIC_HOST_DEVICE int cost(int tiles) const { return tiles > 0 ? tiles + start : 0; }
};

/// Finds part `part`, for the whole CTA; `scratch` holds two numbers for each warp.
template <int Threads>
__device__ __forceinline__ void find_share(decode_plan const& plan, int part, decode_share& shared, int2* scratch) {
  int const thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int const each = ceil_div(plan.bundles, Threads);
  int const first = minimum(thread * each, plan.bundles), last = minimum(first + each, plan.bundles);
  int2 own{0, 0};  // tiles, bundles that have any
  for (int n = first; n < last; ++n) own.x += plan.tiles[n], own.y += plan.tiles[n] > 0;
  int2 until = own;  // up to this thread's last bundle
  for (int step = 1; step < 32; step *= 2) {
    int2 const below{__shfl_up_sync(~0u, until.x, step), __shfl_up_sync(~0u, until.y, step)};
    if (lane >= step) until.x += below.x, until.y += below.y;
  }
  if (lane == 31) scratch[thread / 32] = until;
  __syncthreads();
  int2 all{0, 0};
  for (int warp = 0; warp < Threads / 32; ++warp) {
    int2 const sum = scratch[warp];
    if (warp < thread / 32) until.x += sum.x, until.y += sum.y;
    all.x += sum.x, all.y += sum.y;
  }
  decode_share share;
  share.start = minimum(decode_start, all.x / plan.parts_most / 8);
  share.total = all.x + share.start * all.y;
  share.each = maximum(ceil_div(share.total, plan.parts_most), ceil_div(2 * 4 * decode_step, plan.columns));
  std::int64_t const begin = std::int64_t{part} * share.each;
  int const end = until.x + share.start * until.y, before = end - own.x - share.start * own.y;
  if (begin >= share.total ? thread == 0 : begin >= before && begin < end) {
    share.bundle = first;
    share.spent = static_cast<int>(minimum<std::int64_t>(begin, share.total)) - before;
    while (begin < share.total && share.spent >= share.cost(plan.tiles[share.bundle]))
      share.spent -= share.cost(plan.tiles[share.bundle++]);
    shared = share;
  }
  __syncthreads();
}

}  // namespace elastic::detail
