// MoBA's selection (selectors/moba.hpp) on the device, in two launches: the means of the blocks, then, for
// each tile of 128 query rows, the gates (16 rows of a warp against 8 means at a time), the cut of every row and
// the tile's list. Gates lie in scratch that the CTAs which run at once share out among themselves.
#pragma once

#include <elastic/cuda/launch.cuh>
#include <elastic/cuda/portable/dot.cuh>
#include <elastic/cuda/portable/list_entries.cuh>
#include <elastic/cuda/portable/select_block_lists.cuh>
#include <elastic/selectors/moba.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

inline constexpr int moba_warps = chunk_alignment / 16;

struct moba_device_scratch {
  static constexpr std::int64_t most_gates = std::int64_t{1} << 26;  // floats, unless one CTA needs more

  int blocks;            // of the longest sequence, to a multiple of 8
  int ctas;              // that work on tiles
  float* means;          // (batch, kv_heads, blocks, head_dim)
  std::uint32_t* gates;  // (ctas, blocks, 128), as keys that order like them

  moba_device_scratch(moba const& s, problem const& p, workspace_cursor& cursor)
      : blocks(ceil_div(ceil_div(p.k_len, s.block), 8) * 8) {
    std::int64_t const tiles = ceil_div(p.q_end, chunk_alignment) - p.q_begin / chunk_alignment;
    std::int64_t const items = std::int64_t{p.batch} * p.query_heads * maximum<std::int64_t>(tiles, 0);
    std::int64_t const room =
        maximum<std::int64_t>(most_gates / (std::int64_t{chunk_alignment} * maximum(blocks, 1)), 1);
    ctas = static_cast<int>(minimum<std::int64_t>(items, minimum<std::int64_t>(room, 528)));
    means = cursor.take<float>(elements_of({p.batch, p.kv_heads, blocks, p.head_dim}));
    gates = cursor.take<std::uint32_t>(elements_of({ctas, blocks, chunk_alignment}));
  }
};

template <element T>
struct moba_arguments {
  select_inputs<T> in;
  moba s;
  moba::storage storage;
  moba_device_scratch scratch;
};

/// One CTA for each block of each KV head. Blocks past the sequence's end have zeros for means.
template <int HeadDim, element T>
__global__ void __launch_bounds__(256) means_of_blocks(__grid_constant__ moba_arguments<T> const a) {
  constexpr int width = HeadDim / piece<T>, slots = 256 / width;
  __shared__ float sums[slots][HeadDim];
  problem const& p = a.in.shape;
  int const block = static_cast<int>(blockIdx.x % a.scratch.blocks),
            head = static_cast<int>(blockIdx.x / a.scratch.blocks);
  int const batch = head / p.kv_heads, kv_head = head % p.kv_heads;
  bool wanted = false;
  for (int h = kv_head * p.group(); h < (kv_head + 1) * p.group(); ++h) wanted = wanted || a.in.comes(batch, h);
  if (!wanted) return;
  extent const keys = extent_of(p.cu_seqlens_k, batch, p.k_len, a.in.k.extents[1]);
  std::int64_t const first = std::int64_t{block} * a.s.block;
  int const count = static_cast<int>(maximum<std::int64_t>(minimum<std::int64_t>(a.s.block, keys.length - first), 0));
  int const slot = static_cast<int>(threadIdx.x) / width, column = static_cast<int>(threadIdx.x) % width * piece<T>;
  if (slot < slots) {
    float total[piece<T>] = {};
    if (count > 0)
      add_rows<T>({rows_at(a.in.k, p, batch, kv_head, keys.start + static_cast<int>(first)), a.in.k.strides[1]}, column,
                  slot, count, slots, total);
#pragma unroll
    for (int c = 0; c < piece<T>; ++c) sums[slot][column + c] = total[c];
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < HeadDim; c += 256) {
    float sum = 0;
    for (int i = 0; i < slots; ++i) sum += sums[i][c];
    a.scratch.means[std::int64_t{blockIdx.x} * HeadDim + c] = count > 0 ? sum / static_cast<float>(count) : 0.f;
  }
}

/// The float of a key.
__device__ __forceinline__ float gate_of(std::uint32_t key) {
  return __uint_as_float(key >> 31 != 0 ? key & 0x7fffffffu : ~key);
}

/// Writes the bits of the `keep` largest of a row's n gates, ties to the lower block, and of block `own`. For a
/// warp at 16 rows, two lanes for each: one has the even, one the odd of the row's keys, 128 apart; `most` is
/// the largest n. The cut is sought between the highest gate and the lowest, first halfway by value, then by
/// bits; it is found as soon as exactly `keep` gates reach it, and is the k-th largest otherwise.
__device__ inline void write_row_bits(std::uint32_t const* keys, int n, int most, int keep, int own,
                                      std::uint32_t* bits, int words) {
  constexpr int rounds_by_value = 12;
  int const parity = static_cast<int>(threadIdx.x) % 2;
  auto const each = [&](auto&& f) {
#pragma unroll 4
    for (int i = parity; i < most; i += 2)
      if (i < n) f(i, keys[i * chunk_alignment]);
  };
  auto const sum = [](int x) { return x + __shfl_xor_sync(~0u, x, 1); };
  std::uint32_t low = UINT_MAX, high = 0;
  each([&](int, std::uint32_t key) { low = minimum(low, key), high = maximum(high, key); });
  low = minimum(low, __shfl_xor_sync(~0u, low, 1));
  high = maximum(high, __shfl_xor_sync(~0u, high, 1)) + 1;
  bool seeking = 0 < keep && keep < n, exact = !seeking;  // `exact`: all that reach `low` are kept
  if (keep <= 0) low = UINT_MAX;
  for (int round = 0; __any_sync(~0u, seeking && high - low > 1); ++round) {
    std::uint32_t middle = low + (high - low) / 2;
    if (round < rounds_by_value)
      middle = maximum(low + 1, minimum(high - 1, key_of(0.5f * gate_of(low) + 0.5f * gate_of(high))));
    int reach = 0;
    each([&](int, std::uint32_t key) { reach += key >= middle; });
    reach = sum(reach);
    if (!seeking || high - low <= 1) continue;
    (reach >= keep ? low : high) = middle;
    if (reach == keep) exact = true, seeking = false;
  }
  int ties = INT_MAX;
  if (__any_sync(~0u, !exact)) {
    int above = 0;
    each([&](int, std::uint32_t key) { above += key > low; });
    above = sum(above);
    if (!exact) ties = keep - above;
  }
  for (int word = 0; word < words; ++word) {
    std::uint32_t kept = 0, equal = 0;
    int const end = minimum(32, n - 32 * word);
    for (int i = parity; i < end; i += 2) {
      std::uint32_t const key = keys[(32 * word + i) * chunk_alignment];
      kept |= std::uint32_t{key > low} << i;
      equal |= std::uint32_t{key == low} << i;
    }
    kept |= __shfl_xor_sync(~0u, kept, 1);
    equal |= __shfl_xor_sync(~0u, equal, 1);
    int const equals = __popc(equal);
    for (int left = equals; left > ties; --left) equal &= ~(0x80000000u >> __clz(equal));
    ties = ties == INT_MAX ? ties : maximum(ties - equals, 0);
    if (own / 32 == word) kept |= 1u << (own % 32);
    if (parity == 0 && bits != nullptr) bits[word] = kept | equal;
  }
}

template <int HeadDim, element T>
__global__ void __launch_bounds__(32 * moba_warps) select_blocks(__grid_constant__ moba_arguments<T> const a) {
  ptx::let_dependents_start();
  problem const& p = a.in.shape;
  moba::storage const& storage = a.storage;
  block_lists const& lists = storage.lists;
  moba_selected const selected = storage.selected();
  int const warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int const words = storage.blocks.words_per_row;
  std::uint32_t* const gates =
      a.scratch.gates + std::int64_t{blockIdx.x} * a.scratch.blocks * chunk_alignment + 16 * warp;

  for (std::int64_t number = blockIdx.x; number < lists.rows(); number += gridDim.x) {
    list_item const item(lists, number);
    device_head head;
    bool const comes = comes_to_list(a.in, item, chunk_alignment, head);
    if (!comes) head = head_of(a.in, item.batch, item.query_head);
    where const& w = head.w;
    int const first = item.query_block * chunk_alignment + 16 * warp;
    int const limit = comes ? minimum(w.q_len - first, 16) : 0;  // rows of this warp inside the sequence

    // Gates of the blocks before the last row's own; causality cuts them per row below.
    int const earlier = limit > 0 ? maximum(w.position(first + limit - 1), 0) / a.s.block : 0;
    if (earlier > 0 && a.s.k > 1) {
      sixteen_rows<T, HeadDim> queries;
      queries.load({rows_at(a.in.q, p, w.batch, w.query_head, head.q_start + first), a.in.q.strides[1]}, limit);
      float const* const means =
          a.scratch.means + (std::int64_t{w.batch} * p.kv_heads + w.kv_head) * a.scratch.blocks * HeadDim;
      for (int block = 0; block < earlier; block += 8) {
        float sums[4];
        queries.dots(head_rows<float const>{means + std::int64_t{block} * HeadDim, HeadDim}, 8, sums);
#pragma unroll
        for (int i = 0; i < 4; ++i)
          gates[(block + lane % 4 * 2 + i % 2) * chunk_alignment + lane / 4 + i / 2 * 8] = key_of(sums[i]);
      }
      __syncwarp();
    }
    {
      int const r = lane / 2, position = r < limit ? w.position(first + r) : -1;
      int const own = position < 0 ? -1 : position / a.s.block;
      bool const stored = first + r < p.q_end;
      write_row_bits(gates + r, a.s.k > 1 ? maximum(own, 0) : 0, earlier, own < 0 ? 0 : a.s.k - 1,
                     own < 0 ? INT_MAX : own, stored ? storage.blocks.row(selected.row(w, first + r)) : nullptr, words);
    }
    __syncthreads();

    if (warp == 0) {
      int count = 0;
      tile_rows const tile(w, item.query_block, {chunk_alignment, a.s.block});
      if (comes)
        for (int word = bit_rows::words_for(storage.visible(w, tile.last)) - 1; word >= 0; --word) {
          std::uint32_t some = 0, every = ~0u;
          for (int q = tile.first + lane; q <= tile.last; q += 32) storage.add_row(w, q, word, some, every);
          some = __reduce_or_sync(~0u, some);
          every = __reduce_and_sync(~0u, every);
          count = append_entries(lists.entries_of(item.row), count, 32 * word, some, every);
        }
      if (lane == 0) {
        lists.begin[item.row] = item.row * lists.capacity;
        lists.count[item.row] = count;
      }
    }
  }
}

template <int HeadDim, element T>
void launch_moba(moba_arguments<T> const& a) {
  problem const& p = a.in.shape;
  cudaStream_t const stream = static_cast<cudaStream_t>(p.stream);
  require(a.scratch.blocks < 1 << 24, "moba.block", a.s.block, "fewer than 2^24 blocks of keys");
  std::int64_t const means = std::int64_t{p.batch} * p.kv_heads * a.scratch.blocks;
  require(means < std::int64_t{1} << 31, "moba.block", a.s.block, "fewer than 2^31 blocks in all heads");
  if (means > 0 && a.s.k > 1) {
    means_of_blocks<HeadDim, T><<<static_cast<unsigned>(means), 256, 0, stream>>>(a);
    cuda_call(cudaGetLastError(), "means_of_blocks");
  }
  select_blocks<HeadDim, T><<<static_cast<unsigned>(a.scratch.ctas), 32 * moba_warps, 0, stream>>>(a);
  cuda_call(cudaGetLastError(), "select_blocks");
}

}  // namespace detail

template <int... HeadDims>
std::size_t scratch_bytes_on(cuda_for<HeadDims...> const&, moba const& s, problem const& p) {
  workspace_cursor cursor;
  detail::moba_device_scratch(s, p, cursor);
  return cursor.used();
}

template <int... HeadDims, element T>
void select_on(cuda_for<HeadDims...> const&, moba const& s, moba::storage const& storage, select_inputs<T> const& in,
               workspace memory) {
  problem const& p = in.shape;
  detail::check_alignment("q", in.q);
  detail::check_alignment("k", in.k);
  require(((p.head_dim == HeadDims) || ...), "q head_dim", p.head_dim, "one that this backend was compiled for");
  detail::current_device();
  workspace_cursor cursor(memory.data());
  detail::moba_arguments<T> const a{in, s, storage, {s, p, cursor}};
  if (a.scratch.ctas == 0) return;
  ((p.head_dim == HeadDims && (detail::launch_moba<HeadDims>(a), true)) || ...);
}

}  // namespace elastic
