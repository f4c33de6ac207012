// Vertical-slash selection (selectors/vertical_slash.hpp) on the device, in four launches: maxima and sums of
// the last queries' softmax over splits of the keys; with them the sums of columns, and of diagonals inside
// each tile of keys; per head the largest of either by a radix select, written as bits; the lists. Nothing is
// added in an order that could change, but for counts, which are whole numbers.
#pragma once

#include <elastic/cuda/launch.cuh>
#include <elastic/cuda/portable/dot.cuh>
#include <elastic/cuda/portable/list_entries.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/vertical_slash.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

struct vertical_slash_device_scratch {
  static constexpr int keys = 128;        // of a tile
  static constexpr int queries = 64;      // taken at once
  static constexpr int most_splits = 64;  // of the keys

  int tiles;        // of the longest sequence
  int split_tiles;  // tiles of a split
  int splits;
  int rows;          // of the estimate
  float2* softmax;   // (batch, query_heads, splits, rows): maximum, and sum below it
  float* columns;    // (batch, query_heads, k_len)
  float* offsets;    // (batch, query_heads, k_len)
  float* diagonals;  // (batch, query_heads, tiles, keys + rows): sums inside a tile

  vertical_slash_device_scratch(vertical_slash const& s, problem const& p, workspace_cursor& cursor)
      : tiles(ceil_div(p.k_len, keys)),
        split_tiles(maximum(ceil_div(tiles, most_splits), 4)),
        splits(ceil_div(tiles, split_tiles)),
        rows(minimum(s.last, p.q_len)) {
    std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
    softmax = cursor.take<float2>(elements_of({heads, splits, rows}));
    columns = cursor.take<float>(elements_of({heads, p.k_len}));
    offsets = cursor.take<float>(elements_of({heads, p.k_len}));
    diagonals = cursor.take<float>(elements_of({heads, tiles, std::int64_t{keys} + rows}));
  }
};

template <element T>
struct vertical_slash_arguments {
  select_inputs<T> in;
  vertical_slash s;
  vertical_slash::storage storage;
  vertical_slash_device_scratch scratch;
};

/// A CTA of four warps at the last queries of a head, 64 at a time, and one split of its keys.
template <int HeadDim, element T>
struct estimate {
  static constexpr int keys = vertical_slash_device_scratch::keys, queries = vertical_slash_device_scratch::queries;

  vertical_slash_arguments<T> const& a;
  std::int64_t head;  // in the scratch
  int split;
  bool comes;
  device_head at;
  int rows, first;  // the last `rows` queries, from `first` on
  int begin, end;   // keys of the split
  float scale;      // to base 2
  int warp, lane;
  sixteen_rows<T, HeadDim> held;
  head_rows<T const> key_rows;

  __device__ explicit estimate(vertical_slash_arguments<T> const& given)
      : a(given),
        head(blockIdx.x / given.scratch.splits),
        split(static_cast<int>(blockIdx.x % given.scratch.splits)),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32) {
    problem const& p = a.in.shape;
    int const batch = static_cast<int>(head / p.query_heads), query_head = static_cast<int>(head % p.query_heads);
    comes = a.in.comes(batch, query_head);
    if (!comes) return;
    at = head_of(a.in, batch, query_head);
    rows = a.s.rows_of_estimate(at.w);
    first = at.w.q_len - rows;
    begin = minimum(split * a.scratch.split_tiles * keys, at.w.k_len);
    end = minimum((split + 1) * a.scratch.split_tiles * keys, at.w.k_len);
    scale = a.s.scale_of(p) * log2_e;
    key_rows = {rows_at(a.in.k, p, batch, at.w.kv_head, at.k_start), a.in.k.strides[1]};
  }

  /// Takes queries first + group·64 + 16·warp, ….
  __device__ void load(int group) {
    int const row = group * queries + 16 * warp, limit = rows - row;
    if (limit > 0)
      held.load({rows_at(a.in.q, a.in.shape, at.w.batch, at.w.query_head, at.q_start + first + row), a.in.q.strides[1]},
                limit);
    else
      held.load({}, 0);
  }

  /// Keys that row group·64 + 16·warp + lane / 4 + 8·half sees.
  __device__ int seen(int group, int half) const {
    int const row = group * queries + 16 * warp + lane / 4 + 8 * half;
    return row < rows ? at.w.position(first + row) + 1 : 0;
  }

  /// Scaled logits with keys key, … key + 7, to base 2.
  __device__ void logits(int key, float (&s)[4]) const {
    held.dots(head_rows<T const>{key_rows[key], key_rows.stride}, end - key, s);
#pragma unroll
    for (float& x : s) x *= scale;
  }

  __device__ float2* softmax(int of_split) const {
    return a.scratch.softmax + (head * a.scratch.splits + of_split) * a.scratch.rows;
  }
};

/// Maximum and Σ 2^(x − maximum); −∞ and 0 of nothing.
__device__ __forceinline__ float2 join(float2 a, float2 b) {
  float const highest = fmaxf(a.x, b.x);
  if (highest == -INFINITY) return a;
  return {highest, a.y * ptx::exp2(a.x - highest) + b.y * ptx::exp2(b.x - highest)};
}

template <int HeadDim, element T>
__global__ void __launch_bounds__(128) softmax_of_estimate(__grid_constant__ vertical_slash_arguments<T> const a) {
  estimate<HeadDim, T> e(a);
  if (!e.comes || e.begin >= e.end) return;
  for (int group = 0; group * e.queries < e.rows; ++group) {
    e.load(group);
    float2 sums[2] = {{-INFINITY, 0}, {-INFINITY, 0}};
    int const seen[2] = {e.seen(group, 0), e.seen(group, 1)};
    for (int key = e.begin; key < e.end; key += 32) {
      float s[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) e.logits(key + 8 * i, s[i]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int const left = minimum(seen[half], e.end) - key - e.lane % 4 * 2;  // of this lane's, at 8·i and 8·i + 1
        float2 part{-INFINITY, 0};
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (i / 2 * 8 + i % 2 < left) part.x = fmaxf(part.x, s[i / 2][2 * half + i % 2]);
        if (part.x == -INFINITY) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (i / 2 * 8 + i % 2 < left) part.y += ptx::exp2(s[i / 2][2 * half + i % 2] - part.x);
        sums[half] = join(sums[half], part);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int step = 1; step < 4; step *= 2) {
        float2 const other{__shfl_xor_sync(~0u, sums[half].x, step), __shfl_xor_sync(~0u, sums[half].y, step)};
        bool const later = (e.lane & step) != 0;
        sums[half] = later ? join(other, sums[half]) : join(sums[half], other);
      }
      int const row = group * e.queries + 16 * e.warp + e.lane / 4 + 8 * half;
      if (e.lane % 4 == 0 && row < e.rows) e.softmax(e.split)[row] = sums[half];
    }
  }
}

template <int HeadDim, element T>
__global__ void __launch_bounds__(128) sums_of_estimate(__grid_constant__ vertical_slash_arguments<T> const a) {
  constexpr int keys = vertical_slash_device_scratch::keys, queries = vertical_slash_device_scratch::queries;
  __shared__ float weights[queries][keys + 8];
  __shared__ float2 softmax[queries];  // maximum, and 1 / sum
  estimate<HeadDim, T> e(a);
  if (!e.comes || e.begin >= e.end) return;
  int const thread = static_cast<int>(threadIdx.x), groups = ceil_div(e.rows, queries);
  int const used_splits = ceil_div(e.at.w.k_len, a.scratch.split_tiles * keys);
  int const width = keys + a.scratch.rows;
  int loaded = -1;
  for (int tile = e.begin; tile < e.end; tile += keys) {
    float column = 0;
    float* const diagonals = a.scratch.diagonals + (e.head * a.scratch.tiles + tile / keys) * width;
    for (int i = thread; i < width; i += 128) diagonals[i] = 0;
    for (int group = 0; group < groups; ++group) {
      if (group != loaded) {
        __syncthreads();
        if (thread < queries) {
          int const row = group * queries + thread;
          float2 sum{-INFINITY, 0};
          if (row < e.rows)
            for (int i = 0; i < used_splits; ++i) sum = join(sum, e.softmax(i)[row]);
          softmax[thread] = {sum.x, sum.y > 0 ? 1 / sum.y : 0};
        }
        e.load(group);
        loaded = group;
      }
      __syncthreads();
      int const row = 16 * e.warp + e.lane / 4;
      int const seen[2] = {minimum(e.seen(group, 0), e.end), minimum(e.seen(group, 1), e.end)};
#pragma unroll 4
      for (int i = 0; i < keys; i += 8) {
        float s[4];
        e.logits(tile + i, s);
        int const column_at = i + e.lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float2 const of_row = softmax[row + j / 2 * 8];
          s[j] = tile + column_at + j % 2 < seen[j / 2] ? ptx::exp2(s[j] - of_row.x) * of_row.y : 0.f;
        }
        *reinterpret_cast<float2*>(&weights[row][column_at]) = make_float2(s[0], s[1]);
        *reinterpret_cast<float2*>(&weights[row + 8][column_at]) = make_float2(s[2], s[3]);
      }
      __syncthreads();
#pragma unroll 8
      for (int r = 0; r < queries; ++r) column += weights[r][thread];
      // Diagonal i of the tile: row r meets key keys − 1 − (i − r).
      for (int i = thread; i < keys + queries - 1; i += 128) {
        float sum = 0;
        for (int r = maximum(i - (keys - 1), 0); r <= minimum(i, queries - 1); ++r) sum += weights[r][keys - 1 - i + r];
        if (group * queries + i < width) diagonals[group * queries + i] += sum;
      }
    }
    if (tile + thread < e.end) a.scratch.columns[e.head * a.in.shape.k_len + tile + thread] = column;
  }
}

/// The sum of a diagonal, from the tiles that it passes through.
__device__ inline float offset_sum(vertical_slash_device_scratch const& scratch, std::int64_t head, where const& w,
                                   int rows, int offset) {
  constexpr int keys = vertical_slash_device_scratch::keys;
  if (rows == 0) return 0;
  int const first = w.position(w.q_len - rows) - offset;  // the key that the first row meets
  int const tiles = ceil_div(w.k_len, keys), last_tile = minimum(floor_div(first + rows - 1, keys), tiles - 1);
  float sum = 0;
  for (int tile = maximum(floor_div(first, keys), 0); tile <= last_tile; ++tile)
    sum += scratch.diagonals[(head * scratch.tiles + tile) * (keys + scratch.rows) + tile * keys + keys - 1 - first];
  return sum;
}

/// Bits of the `forced` first and the largest others of n sums, `count` in all, ties to the lower index. By one
/// CTA of 1024 threads; zeros up to `words`.
__device__ inline void write_top_bits(float const* sums, int n, int count, int forced, std::uint32_t* bits, int words) {
  constexpr int threads = 1024;
  __shared__ int bins[256];
  __shared__ std::uint32_t prefix;
  __shared__ int left, equal, tie;
  int const thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  auto const key = [&](int i) { return i < forced ? UINT_MAX : key_of(sums[i]); };
  if (thread == 0) {
    prefix = 0;
    left = count;  // still to be found among those that begin with the prefix
    equal = n;
    tie = INT_MAX;
  }
  bool const all = count >= n;
  for (int shift = 24; shift >= 0 && !all && count > 0; shift -= 8) {
    if (thread < 256) bins[thread] = 0;
    __syncthreads();
    std::uint32_t const begins = prefix;
    for (int base = 0; base < n; base += threads) {
      int const i = base + thread;
      std::uint32_t const own = i < n ? key(i) : 0;
      bool const counts = i < n && (shift == 24 || own >> (shift + 8) == begins);
      unsigned const active = __ballot_sync(~0u, counts);
      if (!counts) continue;
      int const bin = static_cast<int>(own >> shift & 255u);
      unsigned const same = __match_any_sync(active, bin);
      if (__ffs(same) - 1 == lane) atomicAdd(&bins[bin], __popc(same));
    }
    __syncthreads();
    if (thread == 0) {
      int bin = 255;
      for (; bin > 0 && bins[bin] < left; --bin) left -= bins[bin];
      prefix = begins << 8 | static_cast<std::uint32_t>(bin);
      equal = bins[bin];
    }
    __syncthreads();
  }
  __syncthreads();
  std::uint32_t const low = prefix;
  if (!all && count > 0 && left < equal) {  // some of the equals: up to which index?
    int found = 0;
    for (int base = 0; base < n; base += threads) {
      bool const own = base + thread < n && key(base + thread) == low;
      int const here = __syncthreads_count(own);
      if (found + here >= left) {  // the last of those that are kept lies in this stretch
        unsigned const equals = __ballot_sync(~0u, own);
        if (lane == 0) bins[thread / 32] = __popc(equals);
        __syncthreads();
        int rank = found + __popc(equals & ((1u << lane) - 1u));
        for (int i = 0; i < thread / 32; ++i) rank += bins[i];
        if (own && rank == left - 1) tie = base + thread;
        break;
      }
      found += here;
    }
    __syncthreads();
  }
  int const last_tie = tie;
  for (int word = thread / 32; word < words; word += threads / 32) {
    int const i = 32 * word + lane;
    bool kept = i < n && all;
    if (!all && i < n && count > 0) {
      std::uint32_t const own = key(i);
      kept = own > low || (own == low && i <= last_tie);
    }
    std::uint32_t const kept_bits = __ballot_sync(~0u, kept);
    if (lane == 0) bits[word] = kept_bits;
  }
  __syncthreads();
}

/// Two CTAs for each head: one takes the columns, one the offsets.
template <element T>
__global__ void __launch_bounds__(1024) take_top(__grid_constant__ vertical_slash_arguments<T> const a) {
  problem const& p = a.in.shape;
  std::int64_t const head = blockIdx.x / 2;
  bool const of_columns = blockIdx.x % 2 == 0;
  int const batch = static_cast<int>(head / p.query_heads), query_head = static_cast<int>(head % p.query_heads);
  int const thread = static_cast<int>(threadIdx.x);
  vertical_slash::storage const& storage = a.storage;
  bit_rows const& bits = of_columns ? storage.columns : storage.offsets;
  bit_rows const& differences = storage.differences;
  bool const comes = a.in.comes(batch, query_head);
  where w;
  if (comes) w = head_of(a.in, batch, query_head).w;
  int const n = comes ? w.k_len : 0;
  float* const sums = (of_columns ? a.scratch.columns : a.scratch.offsets) + head * p.k_len;
  if (!of_columns) {
    int const rows = comes ? a.s.rows_of_estimate(w) : 0;
    for (int i = thread; i < n; i += 1024) sums[i] = offset_sum(a.scratch, head, w, rows, i);
  } else if (comes && w.q_len == 0) {
    for (int i = thread; i < n; i += 1024) sums[i] = 0;  // no query estimated them
  }
  __syncthreads();
  int const count = comes ? of_columns ? a.s.columns_of(w) : a.s.offsets_of(w) : 0;
  write_top_bits(sums, n, count, of_columns ? a.s.forced_columns : a.s.forced_offsets, bits.row(head),
                 bits.words_per_row);
  if (of_columns) return;
  int const blocks = ceil_div(n, storage.slash_block);
  for (int word = thread / 32; word < differences.words_per_row; word += 1024 / 32) {
    int const difference = 32 * word + thread % 32;
    std::uint32_t const on = __ballot_sync(~0u, difference < blocks && storage.on_slash(w, difference));
    if (thread % 32 == 0) differences.row(head)[word] = on;
  }
}

/// One warp for each list.
template <element T>
__global__ void __launch_bounds__(128) write_lists(__grid_constant__ vertical_slash_arguments<T> const a) {
  ptx::let_dependents_start();
  block_lists const& lists = a.storage.lists;
  std::int64_t const number = std::int64_t{blockIdx.x} * 4 + threadIdx.x / 32;
  if (number >= lists.rows()) return;
  int const lane = static_cast<int>(threadIdx.x) % 32;
  list_item const item(lists, number);
  device_head head;
  int count = 0;
  if (comes_to_list(a.in, item, chunk_alignment, head)) {
    constexpr int columns = vertical_slash::list_columns;
    where const& w = head.w;
    tile_rows const rows(w, item.query_block, {chunk_alignment, columns});
    int const first = maximum(w.position(rows.first), 0), end = maximum(w.position(rows.last) + 1, 0);
    int const tiles = ceil_div(end, columns);
    for (int base = (ceil_div(tiles, 32) - 1) * 32; base >= 0; base -= 32) {
      vertical_slash::storage::sight seen;
      if (base + lane < tiles) seen = a.storage.sight_of(a.storage.selected().row(w), first, end, base + lane);
      count = append_entries(lists.entries_of(item.row), count, base, __ballot_sync(~0u, seen.some),
                             __ballot_sync(~0u, seen.every));
    }
  }
  if (lane == 0) {
    lists.begin[item.row] = item.row * lists.capacity;
    lists.count[item.row] = count;
  }
}

template <int HeadDim, element T>
void launch_vertical_slash(vertical_slash_arguments<T> const& a) {
  problem const& p = a.in.shape;
  cudaStream_t const stream = static_cast<cudaStream_t>(p.stream);
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  std::int64_t const estimates = heads * a.scratch.splits;
  require(heads < 1 << 24 && a.storage.lists.rows() < std::int64_t{1} << 31, "q", heads, "fewer heads and query tiles");
  if (estimates > 0 && a.scratch.rows > 0) {
    softmax_of_estimate<HeadDim, T><<<static_cast<unsigned>(estimates), 128, 0, stream>>>(a);
    cuda_call(cudaGetLastError(), "softmax_of_estimate");
    sums_of_estimate<HeadDim, T><<<static_cast<unsigned>(estimates), 128, 0, stream>>>(a);
    cuda_call(cudaGetLastError(), "sums_of_estimate");
  }
  if (heads > 0) {
    take_top<T><<<static_cast<unsigned>(2 * heads), 1024, 0, stream>>>(a);
    cuda_call(cudaGetLastError(), "take_top");
  }
  if (a.storage.lists.rows() > 0) {
    write_lists<T><<<static_cast<unsigned>(ceil_div<std::int64_t>(a.storage.lists.rows(), 4)), 128, 0, stream>>>(a);
    cuda_call(cudaGetLastError(), "write_lists");
  }
}

}  // namespace detail

template <int... HeadDims>
std::size_t scratch_bytes_on(cuda_for<HeadDims...> const&, vertical_slash const& s, problem const& p) {
  workspace_cursor cursor;
  detail::vertical_slash_device_scratch(s, p, cursor);
  return cursor.used();
}

template <int... HeadDims, element T>
void select_on(cuda_for<HeadDims...> const&, vertical_slash const& s, vertical_slash::storage const& storage,
               select_inputs<T> const& in, workspace memory) {
  problem const& p = in.shape;
  detail::check_alignment("q", in.q);
  detail::check_alignment("k", in.k);
  require(((p.head_dim == HeadDims) || ...), "q head_dim", p.head_dim, "one that this backend was compiled for");
  detail::current_device();
  workspace_cursor cursor(memory.data());
  detail::vertical_slash_arguments<T> const a{in, s, storage, {s, p, cursor}};
  ((p.head_dim == HeadDims && (detail::launch_vertical_slash<HeadDims>(a), true)) || ...);
}

}  // namespace elastic
