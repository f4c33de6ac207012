// Pooled top-k on the device, in four launches: means of the blocks of keys and of queries, their products
// (in float, so that the order is that of the formula), and for each list its k best. Only heads that come
// to the selector are worked on.
#pragma once

#include <cstdint>

#include <elastic/cuda/launch.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/pooled_top_k.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

inline constexpr int pooling_threads = 128;
inline constexpr int pooled_lists = 8;  // whose products one CTA computes

template <element T>
struct pooled_arguments {
  pooled_top_k selector;
  block_lists lists;
  select_inputs<T> in;
  int key_blocks;  // of the longest sequence, padded to whole CTAs
  float* keys;     // (batch, kv_heads, head_dim, key_blocks): means
  float* queries;  // (batch, query_heads, query_blocks, head_dim)
  float* scores;   // (batch, query_heads, query_blocks, key_blocks)
};

/// mean(element) = the average of rows [first, first + count): threads split the row into chunks of 16 bytes,
/// and the rows among each other.
template <class T, class F>
__device__ void pool_rows(T const* from, std::int64_t stride, int count, int head_dim, F&& mean) {
  constexpr int width = 16 / sizeof(T);
  __shared__ float sums[pooling_threads][width];
  int const thread = static_cast<int>(threadIdx.x), chunks = head_dim / width, slices = pooling_threads / chunks;
  int const chunk = thread % chunks, slice = thread / chunks;
  float own[width] = {};
  for (int row = slice; slice < slices && row < count; row += slices) {
    uint4 const packed = *reinterpret_cast<uint4 const*>(from + row * stride + chunk * width);
    struct chunk_of {
      T at[width];
    };
    auto const values = __builtin_bit_cast(chunk_of, packed);
    for (int i = 0; i < width; ++i) own[i] += static_cast<float>(values.at[i]);
  }
  for (int i = 0; i < width; ++i) sums[thread][i] = own[i];
  __syncthreads();
  for (int d = thread; d < head_dim; d += pooling_threads) {
    float sum = 0;
    for (int s = 0; s < slices; ++s) sum += sums[s * chunks + d / width][d % width];
    mean(d, sum / static_cast<float>(count));
  }
}

/// Grid: key blocks × batch · kv_heads.
template <class T>
__global__ void __launch_bounds__(pooling_threads) pool_keys(__grid_constant__ pooled_arguments<T> const a) {
  problem const& p = a.in.shape;
  int const kv_head = static_cast<int>(blockIdx.y) % p.kv_heads, batch = static_cast<int>(blockIdx.y) / p.kv_heads;
  int const block = static_cast<int>(blockIdx.x), columns = a.selector.block_columns;
  bool asked = false;
  for (int h = kv_head * p.group(); h < (kv_head + 1) * p.group(); ++h) asked |= a.in.comes(batch, h);
  if (!asked) return;
  device_head const head = head_of(a.in, batch, kv_head * p.group());
  int const count = minimum(head.w.k_len - block * columns, columns);
  if (count <= 0) return;
  float* const to = a.keys + std::int64_t{blockIdx.y} * p.head_dim * a.key_blocks + block;
  pool_rows(rows_at(a.in.k, p, batch, kv_head, head.k_start + block * columns), a.in.k.strides[1], count, p.head_dim,
            [&](int d, float mean) { to[std::int64_t{d} * a.key_blocks] = mean; });
}

/// Grid: the lists.
template <class T>
__global__ void __launch_bounds__(pooling_threads) pool_queries(__grid_constant__ pooled_arguments<T> const a) {
  problem const& p = a.in.shape;
  list_item const at(a.lists, blockIdx.x);
  device_head head;
  if (!comes_to_list(a.in, at, a.selector.block_rows, head)) return;
  list_extent const extent(head.w, at.query_block, a.selector.block_rows, a.selector.block_columns);
  float* const to = a.queries + at.row * p.head_dim;
  pool_rows(rows_at(a.in.q, p, at.batch, at.query_head, head.q_start + extent.first), a.in.q.strides[1],
            extent.last - extent.first + 1, p.head_dim, [&](int d, float mean) { to[d] = mean; });
}

/// Grid: key blocks / threads × groups of lists × batch · query_heads. A thread has one key block and the
/// lists of the group.
template <class T>
__global__ void __launch_bounds__(pooling_threads) multiply_pooled(__grid_constant__ pooled_arguments<T> const a) {
  extern __shared__ float queries[];  // (head_dim, pooled_lists)
  problem const& p = a.in.shape;
  int const query_head = static_cast<int>(blockIdx.z) % p.query_heads;
  int const batch = static_cast<int>(blockIdx.z) / p.query_heads, thread = static_cast<int>(threadIdx.x);
  if (!a.in.comes(batch, query_head)) return;
  device_head const head = head_of(a.in, batch, query_head);
  int const first = static_cast<int>(blockIdx.y) * pooled_lists;
  int const blocks = ceil_div(minimum(p.q_end, head.w.q_len), a.selector.block_rows) - a.lists.first_block;
  int const count = minimum(pooled_lists, blocks - first);
  if (count <= 0) return;
  int const visible = a.selector.visible(head.w, a.lists.first_block + first + count - 1);
  if (static_cast<int>(blockIdx.x) * pooling_threads >= visible) return;

  std::int64_t const row = a.lists.row(batch, query_head, a.lists.first_block + first);
  for (int i = thread; i < p.head_dim * pooled_lists; i += pooling_threads)
    queries[i] = i % pooled_lists < count ? a.queries[(row + i % pooled_lists) * p.head_dim + i / pooled_lists] : 0.f;
  __syncthreads();
  int const block = static_cast<int>(blockIdx.x) * pooling_threads + thread;
  if (block >= visible) return;
  float const* const keys =
      a.keys + (std::int64_t{batch} * p.kv_heads + head.w.kv_head) * p.head_dim * a.key_blocks + block;
  float score[pooled_lists] = {};
#pragma unroll 4
  for (int d = 0; d < p.head_dim; ++d) {
    float const key = keys[std::int64_t{d} * a.key_blocks];
#pragma unroll
    for (int i = 0; i < pooled_lists; ++i) score[i] += queries[d * pooled_lists + i] * key;
  }
  for (int i = 0; i < count; ++i) a.scores[(row + i) * a.key_blocks + block] = score[i];
}

template <class T>
__global__ void __launch_bounds__(pooling_threads) cut_pooled(__grid_constant__ pooled_arguments<T> const a) {
  ptx::let_dependents_start();
  using writer_type = list_writer<pooling_threads>;
  __shared__ typename writer_type::shared memory;
  list_item const at(a.lists, blockIdx.x);
  device_head head;
  int kept = 0;
  if (comes_to_list(a.in, at, a.selector.block_rows, head)) {
    int const visible = a.selector.visible(head.w, at.query_block);
    float const* const scores = a.scores + at.row * a.key_blocks;
    auto const key = [&](int j) { return key_of(scores[j]); };
    writer_type writer(memory);
    key_cut cut{1, INT_MAX};
    if (visible > a.selector.k)
      cut = writer.cut(visible, static_cast<std::uint64_t>(a.selector.k), 0, key, [](int) { return std::uint64_t{1}; });
    auto const entry = [&](int i) {
      int const j = visible - 1 - i;
      return visible <= a.selector.k || cut.keeps(key(j), j) ? j : writer_type::nothing;
    };
    kept = writer.compact(visible, entry, a.lists.entries_of(at.row));
  }
  if (threadIdx.x == 0) write_extent(a.lists, at.row, kept);
}

template <class T>
pooled_arguments<T> pooled_arguments_of(pooled_top_k const& s, problem const& p, workspace_cursor& cursor) {
  pooled_arguments<T> a;
  a.selector = s;
  workspace_cursor nowhere;
  a.lists = s.bind(p, nowhere);
  a.key_blocks = ceil_div(ceil_div(p.k_len, s.block_columns), pooling_threads) * pooling_threads;
  a.keys = cursor.take<float>(elements_of({p.batch, p.kv_heads, p.head_dim, a.key_blocks}));
  a.queries = cursor.take<float>(elements_of({a.lists.rows(), p.head_dim}));
  a.scores = cursor.take<float>(elements_of({a.lists.rows(), a.key_blocks}));
  return a;
}

}  // namespace detail

template <int... HeadDims>
std::size_t scratch_bytes_on(cuda_for<HeadDims...> const&, pooled_top_k const& s, problem const& p) {
  workspace_cursor cursor;
  detail::pooled_arguments_of<float>(s, p, cursor);
  return cursor.used();
}

template <int... HeadDims, element T>
void select_on(cuda_for<HeadDims...> const& backend, pooled_top_k const& s, block_lists const& lists,
               select_inputs<T> const& in, workspace scratch) {
  problem const& p = in.shape;
  detail::check_alignment("q", in.q);
  detail::check_alignment("k", in.k);
  require(scratch.size() >= scratch_bytes_on(backend, s, p), "scratch", scratch.size(), "scratch_bytes_on bytes");
  int const heads = p.batch * p.query_heads, groups = ceil_div(lists.query_blocks, detail::pooled_lists);
  require(heads < (1 << 16) && groups < (1 << 16), "q", heads, "fewer than 2^16 heads of all sequences");
  unsigned const grid = detail::grid_of(lists);
  if (grid == 0) return;
  cudaStream_t const stream = static_cast<cudaStream_t>(p.stream);
  workspace_cursor cursor(scratch.data());
  auto a = detail::pooled_arguments_of<T>(s, p, cursor);
  a.lists = lists;
  a.in = in;
  constexpr int threads = detail::pooling_threads;
  if (p.k_len > 0) {
    dim3 const key_grid(static_cast<unsigned>(lists.capacity), static_cast<unsigned>(p.batch * p.kv_heads));
    dim3 const product_grid(static_cast<unsigned>(a.key_blocks / threads), static_cast<unsigned>(groups),
                            static_cast<unsigned>(heads));
    detail::pool_keys<T><<<key_grid, threads, 0, stream>>>(a);
    detail::cuda_call(cudaGetLastError(), "pool_keys");
    detail::pool_queries<T><<<grid, threads, 0, stream>>>(a);
    detail::cuda_call(cudaGetLastError(), "pool_queries");
    std::size_t const bytes = static_cast<std::size_t>(p.head_dim) * detail::pooled_lists * sizeof(float);
    detail::multiply_pooled<T><<<product_grid, threads, bytes, stream>>>(a);
    detail::cuda_call(cudaGetLastError(), "multiply_pooled");
  }
  detail::cut_pooled<T><<<grid, threads, 0, stream>>>(a);
  detail::cuda_call(cudaGetLastError(), "cut_pooled");
}

}  // namespace elastic
