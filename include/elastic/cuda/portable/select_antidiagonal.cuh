// Antidiagonal selection on the device, in three launches: plan (antidiagonal_work.cuh), the log-sums of
// the folded product, which are all that is kept of it (antidiagonal_logsums.cuh, sm90/antidiagonal_logsums.cuh:
// S² / (8 · stride²) floats for a head), and for each list
//   A[I,J] = Σ_{a∈I} Σ_{pieces of J} 2^(logsum[a, piece] − log₂ Σ of the row),
// its cut and its blocks in descending order. Masses are summed as integers of 2^−40, so that the running
// sum of the rule is exact. Only heads that come to the selector are worked on; the others' lists are empty.
#pragma once

#include <cstdint>
#include <type_traits>

#include <elastic/cuda/launch.cuh>
#include <elastic/cuda/portable/antidiagonal_logsums.cuh>
#include <elastic/cuda/portable/antidiagonal_logsums_float.cuh>
#include <elastic/cuda/sm90/antidiagonal_logsums.cuh>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

/// Block scores of a list that are held in shared memory; longer ones lie in the workspace.
inline constexpr int antidiagonal_scores_held = 8192;
/// Lists of up to this many blocks are cut by fewer threads: reductions cost them more than the blocks.
inline constexpr int antidiagonal_scores_few = 1024;

/// Of every row of one list: the blocks' shares of its softmax, added up. For all threads of a CTA.
template <int Threads, class T>
__device__ void block_scores(antidiagonal_arguments<T> const& a, folded_head const& f, int query_block, int visible,
                             float* scores) {
  constexpr int at_once = 8;
  __shared__ float bases[at_once], shares[at_once];
  int const thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  int const begin = query_block * a.per_block - f.first, end = minimum(begin + a.per_block, f.rows);
  int const pieces = ceil_div(f.columns_of(end - 1), a.piece), of_block = a.per_block / a.piece;
  for (int j = thread; j < visible; j += Threads) scores[j] = 0;
  for (int first = begin; first < end; first += at_once) {
    int const rows = minimum(at_once, end - first);
    float const* const from = a.logsums_of(f.head.w.batch, f.head.w.query_head, first);
    for (int r = thread / 32; r < rows; r += Threads / 32) {
      float const* const x = from + r * std::int64_t{a.pitch};
      float top = minus_infinity, sum = 0;
#pragma unroll 8
      for (int i = lane; i < pieces; i += 32) top = fmaxf(top, x[i]);
      for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
      float const base = top == minus_infinity ? 0.f : top;
#pragma unroll 8
      for (int i = lane; i < pieces; i += 32) sum += ptx::exp2(x[i] - base);
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (lane == 0) bases[r] = base, shares[r] = sum > 0 ? 1 / sum : 0.f;
    }
    __syncthreads();
    for (int j = thread; j < visible; j += Threads) {
      float score = scores[j];
      for (int r = 0; r < rows; ++r) {
        float const* const x = from + r * std::int64_t{a.pitch};
        float mass = 0;
        for (int i = j * of_block; i < minimum((j + 1) * of_block, pieces); ++i) mass += ptx::exp2(x[i] - bases[r]);
        score += mass * shares[r];
      }
      scores[j] = score;
    }
    __syncthreads();
  }
}

template <int Threads, class T>
__global__ void __launch_bounds__(Threads) cut_antidiagonal(__grid_constant__ antidiagonal_arguments<T> const a) {
  ptx::let_dependents_start();
  extern __shared__ float held[];
  __shared__ typename list_writer<Threads>::shared memory;
  block_lists const& lists = a.lists;
  list_item const at(lists, blockIdx.x);
  device_head head;
  int kept = 0;
  if (comes_to_list(a.in, at, a.selector.block, head)) {
    antidiagonal::row const row = a.selector.row_of(head.w, at.query_block);
    int const visible = minimum(row.visible, lists.capacity);
    float* const scores = a.scores != nullptr ? a.scores + at.row * lists.capacity : held;
    block_scores<Threads>(a, folded_head(a, head), at.query_block, visible, scores);

    bool const published = row.rule == selection_rule::first_chunk;
    auto const forced = [&](int j) { return (j >= row.own_begin && j < row.own_end) || (j == 0 && !published); };
    auto const mass = [&](int j) { return scores[j] > 0 ? __float2ull_rn(scores[j] * 0x1p40f) : 0ull; };
    auto const key = [&](int j) { return forced(j) ? 0u : key_of(scores[j]); };
    list_writer<Threads> writer(memory);
    std::uint64_t const total = writer.sum(visible, mass);
    std::uint64_t const own = writer.sum(visible, [&](int j) { return forced(j) ? mass(j) : 0ull; });
    auto const goal = minimum(static_cast<std::uint64_t>(ceil(double(a.selector.threshold) * double(total))), total);
    // The published sum lags one block behind, and so takes one more.
    key_cut const cut = writer.cut(visible, goal > own ? goal - own : 0, published ? 1 : 0, key, mass);
    kept = writer.compact(
        visible,
        [&](int i) {
          int const j = visible - 1 - i;
          return forced(j) || j == 0 || cut.keeps(key(j), j) ? j : list_writer<Threads>::nothing;
        },
        lists.entries_of(at.row));
  }
  if (threadIdx.x == 0) write_extent(lists, at.row, kept);
}

/// Shapes, and memory taken from the scratch.
template <class T>
antidiagonal_arguments<T> antidiagonal_arguments_of(antidiagonal const& s, problem const& p, workspace_cursor& cursor) {
  antidiagonal_arguments<T> a;
  a.selector = s;
  workspace_cursor nowhere;
  a.lists = s.bind(p, nowhere);
  a.factor = p.softmax_scale / static_cast<float>(s.stride) * log2_e;
  a.per_block = s.block / s.stride;
  a.piece = gcd(a.per_block, 8);
  a.rows = a.lists.query_blocks * a.per_block;
  int const tiles = ceil_div(ceil_div(p.k_len, s.stride), antidiagonal_columns);
  a.pitch = tiles * (antidiagonal_columns / a.piece);
  require(a.pitch < 1 << 28, "k", p.k_len, "fewer than 2^28 pieces of antidiagonals: a larger block, or stride");
  a.groups = ceil_div(tiles * 2, antidiagonal_group);  // the smallest tiles are half as wide
  a.logsums = cursor.take<float>(elements_of({p.batch, p.query_heads, a.rows, a.pitch}));
  if (a.lists.capacity > antidiagonal_scores_held)
    a.scores = cursor.take<float>(elements_of({a.lists.rows(), a.lists.capacity}));
  a.next = cursor.take<unsigned>(1);
  a.first = cursor.take<unsigned>(elements_of({p.batch, p.query_heads, a.groups}) + 1);
  return a;
}

template <class T>
void portable_launch_logsums(antidiagonal_arguments<T> const& a, int device, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    using kernel = float_logsum_kernel;
    launch_logsum_tiles(a, a, antidiagonal_logsums_float<T>, kernel::shape, kernel::threads, 0, device, stream);
  } else {
    using kernel = logsum_kernel<T>;
    auto const entry = antidiagonal_logsums<T>;
    // The slots are those of the architecture that the loaded code was compiled for.
    int const bytes = kernel::bytes(attributes_of(entry).ptxVersion);
    cuda_call(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
    launch_logsum_tiles(a, a, entry, kernel::shape, kernel::threads, bytes, device, stream);
  }
}

/// By the Hopper kernel where it serves.
template <class T>
void launch_logsums(antidiagonal_arguments<T> const& a, cuda_device const& device, cudaStream_t stream) {
  if constexpr (sm90_is_built)
    if (sm90_launch_logsums(a, device.number, device.capability, stream)) return;
  portable_launch_logsums(a, device.number, stream);
}

}  // namespace detail

template <int... HeadDims>
std::size_t scratch_bytes_on(cuda_for<HeadDims...> const&, antidiagonal const& s, problem const& p) {
  workspace_cursor cursor;
  detail::antidiagonal_arguments_of<float>(s, p, cursor);
  return cursor.used();
}

template <int... HeadDims, element T>
void select_on(cuda_for<HeadDims...> const& backend, antidiagonal const& s, block_lists const& lists,
               select_inputs<T> const& in, workspace scratch) {
  problem const& p = in.shape;
  detail::check_alignment("q", in.q);
  detail::check_alignment("k", in.k);
  require(scratch.size() >= scratch_bytes_on(backend, s, p), "scratch", scratch.size(), "scratch_bytes_on bytes");
  detail::cuda_device const device = detail::current_device();
  cudaStream_t const stream = static_cast<cudaStream_t>(p.stream);
  workspace_cursor cursor(scratch.data());
  auto a = detail::antidiagonal_arguments_of<T>(s, p, cursor);
  a.lists = lists;
  a.in = in;
  unsigned const grid = detail::grid_of(lists);
  if (grid == 0) return;
  if (p.k_len > 0) detail::launch_logsums(a, device, stream);
  int const held = a.scores != nullptr ? 0 : lists.capacity * static_cast<int>(sizeof(float));
  bool const is_long = lists.capacity > detail::antidiagonal_scores_few;
  auto const cut = is_long ? detail::cut_antidiagonal<256, T> : detail::cut_antidiagonal<64, T>;
  cut<<<grid, is_long ? 256 : 64, static_cast<std::size_t>(held), stream>>>(a);
  detail::cuda_call(cudaGetLastError(), "cut_antidiagonal");
}

}  // namespace elastic
