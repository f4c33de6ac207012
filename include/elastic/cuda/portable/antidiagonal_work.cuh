// The work of antidiagonal selection: tiles of the folded product R of one head, each independent of all
// others, since of every row and piece of columns only log₂ Σ 2^(c·R) is kept. A piece is the largest power
// of two up to 8 that divides a block's folds. Persistent CTAs draw tiles: groups of column tiles whose
// keys, with the queries of the rows in work, fit the L2 cache; inside a group all heads that share the
// keys. Packed sequences: Δ is seen on the device alone; where stride does not divide it, row a sees the
// columns up to a + ⌊Δ/stride⌋.
#pragma once

#include <climits>
#include <cstdint>

#include <elastic/cuda/call.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/antidiagonal.hpp>

namespace elastic::detail {

/// Column tiles of a group.
inline constexpr int antidiagonal_group = 16;
/// Folds that a row of log-sums is padded to.
inline constexpr int antidiagonal_columns = 128;
inline constexpr int antidiagonal_plan_threads = 1024;

template <element T>
struct antidiagonal_arguments {
  antidiagonal selector;
  block_lists lists;
  select_inputs<T> in;
  float factor;               // softmax_scale · log₂e / stride
  int per_block;              // folds of a block
  int piece;                  // folds of a log-sum
  int rows;                   // folded query rows of each head
  int pitch;                  // log-sums of a row
  int groups;                 // of the longest sequence
  float* logsums;             // (batch, query_heads, rows, pitch)
  float* scores = nullptr;    // (lists, capacity), where they do not fit in shared memory
  unsigned* next = nullptr;   // the next tile to hand out
  unsigned* first = nullptr;  // (batch · query_heads · groups + 1): tiles before each entry

  ELASTIC_HOST_DEVICE int entries() const { return in.shape.batch * in.shape.query_heads * groups; }
  ELASTIC_HOST_DEVICE float* logsums_of(int batch, int query_head, int row) const {
    return logsums + ((std::int64_t{batch} * in.shape.query_heads + query_head) * rows + row) * pitch;
  }
};

/// A head in folds.
struct folded_head {
  device_head head;
  int first;    // the row that is kept as row 0
  int rows;     // from `first` on
  int columns;  // of keys
  int shift;    // row a sees the columns up to a + shift

  template <class T>
  __device__ folded_head(antidiagonal_arguments<T> const& a, device_head const& h) : head(h) {
    int const stride = a.selector.stride, blocks = ceil_div(minimum(a.in.shape.q_end, h.w.q_len), a.selector.block);
    first = a.lists.first_block * a.per_block;
    rows = minimum(blocks * a.per_block, ceil_div(h.w.q_len, stride)) - first;
    columns = ceil_div(h.w.k_len, stride);
    shift = h.w.causal ? floor_div(h.w.shift(), stride) : columns;
  }

  /// Columns that row first + i sees.
  __device__ int columns_of(int i) const { return maximum(minimum(columns, first + i + shift + 1), 0); }

  /// Columns that are read of row first + i: those that the last row of its block sees.
  template <class T>
  __device__ int columns_read(antidiagonal_arguments<T> const& a, int i) const {
    return columns_of(minimum((i / a.per_block + 1) * a.per_block, rows) - 1);
  }
};

/// One group of column tiles of one head: the tiles of an entry are numbered row by row.
struct antidiagonal_entry {
  int batch, query_head;
  int first_column;  // in tiles
  int width;         // column tiles; 0: nothing to do
  int first_row;     // in tiles
  int tiles;

  template <class T>
  __device__ antidiagonal_entry(antidiagonal_arguments<T> const& a, int number) {
    problem const& p = a.in.shape;
    int const per_kv_head = a.groups * p.group();
    int const kv_head = number / per_kv_head, within = number % per_kv_head;
    batch = kv_head / p.kv_heads;
    query_head = kv_head % p.kv_heads * p.group() + within % p.group();
    first_column = within / p.group() * antidiagonal_group;
    width = tiles = first_row = 0;
  }

  template <class T>
  __device__ void count(antidiagonal_arguments<T> const& a, folded_head const& f, tile_shape shape) {
    if (f.rows <= 0) return;
    width = minimum(antidiagonal_group, ceil_div(f.columns_of(f.rows - 1), shape.columns) - first_column);
    if (width <= 0) return;
    // The first row tile of which the group's first column is read.
    int const row = maximum(first_column * shape.columns - f.shift - f.first, 0);
    first_row = row / a.per_block * a.per_block / shape.rows;
    tiles = (ceil_div(f.rows, shape.rows) - first_row) * width;
  }
};

/// What is stored of a tile of R.
struct antidiagonal_tile {
  float* logsums;  // of its first row and column
  int rows;        // folded; −1: no more work
  int columns;     // folded, that exist
  int edge;        // row r sees the columns below edge + r
};

/// A tile for kernels that read tokens by their address.
template <class T>
struct antidiagonal_item : antidiagonal_tile {
  T const* queries;  // the first token of its rows
  T const* keys;
  int queries_left;  // tokens from `queries` on
  int keys_left;

  /// At a row of the head's, kept ones counted, and a column.
  __device__ void place(antidiagonal_arguments<T> const& a, folded_head const& f, int row, int column) {
    where const& w = f.head.w;
    int const stride = a.selector.stride, q = (f.first + row) * stride, k = column * stride;
    queries = rows_at(a.in.q, a.in.shape, w.batch, w.query_head, f.head.q_start + q);
    keys = rows_at(a.in.k, a.in.shape, w.batch, w.kv_head, f.head.k_start + k);
    queries_left = minimum(w.q_len - q, rows * stride);
    keys_left = w.k_len - k;
  }
};

/// One CTA: counts the tiles of every entry, the heads left out that are routed elsewhere.
template <class T>
__global__ void __launch_bounds__(antidiagonal_plan_threads)
    plan_antidiagonal(__grid_constant__ antidiagonal_arguments<T> const a, tile_shape const shape) {
  constexpr int warps = antidiagonal_plan_threads / 32;
  __shared__ unsigned sums[warps];
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  unsigned before = 0;
  if (threadIdx.x == 0) *a.next = 0;
  for (int base = 0; base < a.entries(); base += antidiagonal_plan_threads) {
    int const number = base + static_cast<int>(threadIdx.x);
    unsigned tiles = 0;
    if (number < a.entries()) {
      antidiagonal_entry entry(a, number);
      if (a.in.comes(entry.batch, entry.query_head)) {
        entry.count(a, folded_head(a, head_of(a.in, entry.batch, entry.query_head)), shape);
        tiles = static_cast<unsigned>(entry.tiles);
      }
    }
    unsigned upto = tiles;  // with those of the warp's lower lanes
    for (int step = 1; step < 32; step *= 2) {
      unsigned const lower = __shfl_up_sync(~0u, upto, step);
      if (lane >= step) upto += lower;
    }
    if (lane == 31) sums[warp] = upto;
    __syncthreads();
    unsigned total = 0;
    for (int i = 0; i < warps; ++i) {
      if (i < warp) upto += sums[i];
      total += sums[i];
    }
    if (number < a.entries()) a.first[number] = before + upto - tiles;
    before += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) a.first[a.entries()] = before;
}

/// Draws the next tile of which something is read; for one whole warp. `number` is kept from call to call,
/// and starts as what draw_antidiagonal gives.
template <class T>
__device__ unsigned draw_antidiagonal(antidiagonal_arguments<T> const& a) {
  return threadIdx.x % 32 == 0 ? atomicAdd(a.next, 1u) : 0u;
}

template <class T, class Item>
__device__ void next_antidiagonal(antidiagonal_arguments<T> const& a, tile_shape shape, unsigned& number, Item& item) {
  int const lane = static_cast<int>(threadIdx.x % 32);
  for (;;) {
    unsigned const own = __shfl_sync(~0u, number, 0);
    if (own >= __ldg(a.first + a.entries())) {
      if (lane == 0) item.rows = -1;
      return;
    }
    number = draw_antidiagonal(a);  // in flight while this one is located
    // The last entry that starts at or before `own`, found among 32 at a time.
    int low = 0, high = a.entries();
    while (high - low > 1) {
      int const step = ceil_div(high - low, 32), probe = low + lane * step;
      unsigned const starts = __ballot_sync(~0u, probe < high && __ldg(a.first + probe) <= own);
      int const last = 31 - __clz(static_cast<int>(starts));
      low += last * step;
      high = minimum(low + step, high);
    }
    antidiagonal_entry entry(a, low);
    folded_head const f(a, head_of(a.in, entry.batch, entry.query_head));
    entry.count(a, f, shape);
    int const within = static_cast<int>(own - __ldg(a.first + low));
    int const row = (entry.first_row + within / entry.width) * shape.rows;
    int const column = (entry.first_column + within % entry.width) * shape.columns;
    int const rows = minimum(shape.rows, f.rows - row);
    if (column >= f.columns_read(a, row + rows - 1)) continue;
    if (lane == 0) {
      item.logsums = a.logsums_of(entry.batch, entry.query_head, row) + column / a.piece;
      item.rows = rows;
      item.columns = f.columns - column;
      item.edge = f.head.w.causal ? f.first + row + f.shift + 1 - column : INT_MAX / 2;
      item.place(a, f, row, column);
    }
    return;
  }
}

/// Plans tiles of `shape`, and launches the kernel that draws them. Its arguments hold those of the plan.
template <class T, class Arguments>
void launch_logsum_tiles(antidiagonal_arguments<T> const& a, Arguments const& of_entry, void (*entry)(Arguments),
                         tile_shape shape, int threads, int bytes, int device, cudaStream_t stream) {
  std::int64_t const tiles = std::int64_t{ceil_div(a.rows, shape.rows)} * ceil_div(a.pitch * a.piece, shape.columns) *
                             a.in.shape.batch * a.in.shape.query_heads;
  require(tiles < (std::int64_t{1} << 31), "q", tiles, "fewer than 2^31 tiles of folded queries and keys");
  int const at_once = ctas_at_once(entry, threads, bytes, device);
  plan_antidiagonal<T><<<1, antidiagonal_plan_threads, 0, stream>>>(a, shape);
  cuda_call(cudaGetLastError(), "plan_antidiagonal");
  auto const grid = static_cast<unsigned>(minimum<std::int64_t>(tiles, at_once));
  entry<<<grid, static_cast<unsigned>(threads), static_cast<std::size_t>(bytes), stream>>>(of_entry);
  cuda_call(cudaGetLastError(), "antidiagonal_logsums");
}

}  // namespace elastic::detail
