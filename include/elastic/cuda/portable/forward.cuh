// Attention forward for sm_80 and newer: FlashAttention-2's loop (arXiv 2307.08691) over the tiles that
// tiles_of yields, with mma.sync on half or bfloat16 and float accumulators. Persistent CTAs draw items;
// keys and values travel by cp.async through a ring of slots, K0 V0 K1 V1 …
//   S = Q·Kᵀ; m' = max(m, rowmax S); P = 2^(c·(S − m')); l' = 2^(c·(m − m'))·l + ΣP; O' = 2^(c·(m − m'))·O + P·V
// with c = softmax_scale·log₂e; at the end O / l and LSE = ln 2·(c·m + log₂ l).
#pragma once

#include <climits>

#include <elastic/cuda/architecture.hpp>
#include <elastic/cuda/logarithms.hpp>
#include <elastic/cuda/portable/tuning.hpp>
#include <elastic/cuda/portable/work.cuh>
#include <elastic/cuda/ptx/copy.cuh>
#include <elastic/cuda/ptx/ldmatrix.cuh>
#include <elastic/cuda/ptx/mma.cuh>

namespace elastic::detail {

#ifdef __CUDA_ARCH__
inline constexpr int compiled_capability = __CUDA_ARCH__ / 10;
#else
inline constexpr int compiled_capability = oldest_capability;
#endif

/// Rows of `HeadDim` 16-bit elements in shared memory, in chunks of 16 bytes. Chunks are permuted by row
/// inside 128 or 64 bytes, so that eight rows of one column of chunks lie in different banks.
template <int HeadDim>
struct swizzled {
  static constexpr int row_bytes = HeadDim * 2;
  static constexpr int period = HeadDim % 64 == 0 ? 8 : 4;  // chunks that are permuted among each other

  __device__ static constexpr int phase(int row) { return period == 8 ? row & 7 : (row >> 1) & 3; }
  __device__ static constexpr int at(int row, int chunk) { return row * row_bytes + ((chunk ^ phase(row)) << 4); }
  /// at(row, 2·pair + chunk) from at(row, chunk), chunk ≤ 1.
  __device__ static constexpr std::uint32_t step(std::uint32_t from, int pair) {
    return (from ^ ((pair % (period / 2)) << 5)) + (pair / (period / 2)) * period * 16;
  }
};

/// Copies rows of a tensor into a swizzled tile; rows from `limit` on become zeros and are not read.
template <int HeadDim, int Rows, int Threads>
struct tile_copy {
  static constexpr int width = HeadDim % 128 == 0 ? 16 : HeadDim % 64 == 0 ? 8 : 4;  // neighbouring threads, one row
  static constexpr int step = Threads / width;
  static_assert(HeadDim / 8 % width == 0 && Rows % step == 0 && step % 8 == 0);

  template <class T>
  __device__ static void run(int thread, std::uint32_t to, T const* from, std::int64_t stride, int limit) {
    int const row = thread / width, chunk = thread % width;
    to += swizzled<HeadDim>::at(row, chunk);
    asm volatile("" : "+l"(stride));  // else the offset of every row is kept in registers across the loop
    T const* source = from + row * stride + chunk * 8;
#pragma unroll
    for (int i = 0; i < Rows / step; ++i, source += step * stride) {
      bool const inside = row + i * step < limit;
      T const* const address = inside ? source : from;
#pragma unroll
      for (int s = 0; s < HeadDim / 8 / width; ++s)
        ptx::copy_16(to + i * step * HeadDim * 2 + s * width * 16, address + s * width * 8, inside ? 16 : 0);
    }
  }
};

/// The state of one CTA, and its loop.
template <class M, class T, int HeadDim>
struct portable_kernel {
  using element_type = T;
  static constexpr int head_dim = HeadDim;
  static constexpr portable_tiling tiling = portable_tiling_for(compiled_capability, HeadDim, 2);
  static constexpr int rows = tiling.shape.rows;
  static constexpr int columns = tiling.shape.columns;
  static constexpr int threads = tiling.threads();
  static constexpr int slots = tiling.slots;
  static constexpr int fragments = rows / tiling.warps / 16;  // of 16 rows, in each warp
  static constexpr int slot_bytes = columns * HeadDim * 2;
  static constexpr int tile_bytes = portable_tile_bytes(tiling, HeadDim, 2);
  static constexpr bool paired = slots >= 4 && slots % 2 == 0;  // keys and values are waited for together
  static constexpr int keys_pending = paired ? slots - 4 : slots - 2;
  static_assert(columns <= 64, "the mask of a fragment is one word");

  using item_type = work_item<M, T>;
  using card_type = tile_card<T>;

  struct shared_tail {
    card_type cards[2 * portable_cards];
    item_type item;
    int section;  // thread 0's alone; kept here to leave a register to the accumulators
  };
  static_assert(sizeof(shared_tail) <= portable_tail_bytes);

  float score[fragments][columns / 8][4];
  float output[fragments][HeadDim / 8][4];
  float highest[fragments][2];  // of the logits before the factor c
  float total[fragments][2];    // of this thread's columns

  int thread;

  __device__ __forceinline__ int lane() const { return thread % 32; }
  __device__ __forceinline__ int warp_row() const { return thread / 32 * fragments * 16; }
  /// Row of the tile that holds elements 2·half and 2·half + 1 of a fragment.
  __device__ __forceinline__ int row_of(int fragment, int half) const {
    return warp_row() + fragment * 16 + half * 8 + lane() / 4;
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int f = 0; f < fragments; ++f) {
#pragma unroll
      for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) output[f][n][e] = 0;
#pragma unroll
      for (int h = 0; h < 2; ++h) highest[f][h] = minus_infinity, total[f][h] = 0;
    }
  }

  /// score = Q·Kᵀ
  __device__ __forceinline__ void multiply_keys(std::uint32_t queries, std::uint32_t keys) {
    using tile = swizzled<HeadDim>;
    queries += tile::at(warp_row() + lane() % 16, lane() / 16);
    keys += tile::at(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2);
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int n = 0; n < columns / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) score[f][n][e] = 0;
    // Fragments are loaded one step ahead of the products that take them.
    constexpr int pairs = columns / 16, steps = HeadDim / 16 * pairs;
    std::uint32_t a[2][fragments][4], b[2][4];
    auto const load_queries = [&](int k) {
#pragma unroll
      for (int f = 0; f < fragments; ++f)
        ptx::load_matrices(a[k % 2][f], tile::step(queries, k) + f * 16 * tile::row_bytes);
    };
    auto const load_keys = [&](int step) {
      ptx::load_matrices(b[step % 2], tile::step(keys, step / pairs) + step % pairs * 16 * tile::row_bytes);
    };
    load_queries(0);
    load_keys(0);
#pragma unroll
    for (int k = 0; k < HeadDim / 16; ++k)
#pragma unroll
      for (int n = 0; n < pairs; ++n) {
        int const step = k * pairs + n;
        if (step + 1 < steps) load_keys(step + 1);
        if (n == 0 && step + pairs < steps) load_queries(k + 1);
#pragma unroll
        for (int f = 0; f < fragments; ++f) {
          ptx::mma<T>(score[f][2 * n], a[k % 2][f], b[step % 2][0], b[step % 2][1]);
          ptx::mma<T>(score[f][2 * n + 1], a[k % 2][f], b[step % 2][2], b[step % 2][3]);
        }
      }
  }

  /// P = 2^(c·(S − m)), l += ΣP, output += P·V. The exponentials of 16 keys stand beside the products of the
  /// 16 before, so that the special function units and the tensor cores work at once.
  __device__ __forceinline__ void multiply_values(std::uint32_t values, float factor) {
    using tile = swizzled<HeadDim>;
    values += tile::at(lane() % 16, lane() / 16);
    float offset[fragments][2];
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int h = 0; h < 2; ++h) offset[f][h] = highest[f][h] == minus_infinity ? 0.f : highest[f][h] * factor;
    constexpr int pairs = HeadDim / 16, steps = columns / 16 * pairs;
    std::uint32_t b[2][4];
    auto const load_values = [&](int step) {
      ptx::load_matrices_transposed(b[step % 2],
                                    tile::step(values, step % pairs) + step / pairs * 16 * tile::row_bytes);
    };
    load_values(0);
#pragma unroll
    for (int k = 0; k < columns / 16; ++k) {
      std::uint32_t a[fragments][4];
#pragma unroll
      for (int f = 0; f < fragments; ++f)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          int const n = 2 * k + e / 2, h = e % 2;
          float const low = ptx::exp2(fmaf(score[f][n][2 * h], factor, -offset[f][h]));
          float const high = ptx::exp2(fmaf(score[f][n][2 * h + 1], factor, -offset[f][h]));
          total[f][h] += low + high;
          a[f][e] = ptx::pack<T>(low, high);
        }
#pragma unroll
      for (int n = 0; n < pairs; ++n) {
        int const step = k * pairs + n;
        if (step + 1 < steps) load_values(step + 1);
#pragma unroll
        for (int f = 0; f < fragments; ++f) {
          ptx::mma<T>(output[f][2 * n], a[f], b[step % 2][0], b[step % 2][1]);
          ptx::mma<T>(output[f][2 * n + 1], a[f], b[step % 2][2], b[step % 2][3]);
        }
      }
    }
  }

  /// The mode's hook on the scaled logits. Queries and keys outside are asked as the last ones inside.
  __device__ __forceinline__ void apply_hook(M const& mode, item_type const& item, int first, float softmax_scale) {
    where const w = item.w;
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int n = 0; n < columns / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          int const q = item.first + minimum(row_of(f, e / 2), item.rows - 1);
          int const k = minimum(first + n * 8 + lane() % 4 * 2 + e % 2, w.k_len - 1);
          score[f][n][e] = score_of(mode, w, score[f][n][e] * softmax_scale, q, k);
        }
  }

  /// Causality, the sequence's end, and in partial tiles keeps.
  __device__ __forceinline__ void mask(M const& mode, item_type const& item, card_type const& card) {
    where const w = item.w;
    int const column = lane() % 4 * 2;
#pragma unroll
    for (int f = 0; f < fragments; ++f) {
      int edge[2];  // columns of this thread that are inside, counted from its first
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        int const causal = w.causal ? w.position(item.first + row_of(f, h)) + 1 - card.first : columns;
        edge[h] = minimum(card.limit, causal) - column;
      }
      if (M::has_partial && card.asks) {
        // A loop that is not unrolled gathers the answers in a word: keeps may be long, and stays small code.
        std::uint32_t kept = 0;
#pragma unroll 1
        for (int n = 0; n < columns / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            int const q = item.first + minimum(row_of(f, e / 2), item.rows - 1);
            bool const keeps = n * 8 + e % 2 < edge[e / 2] && mode.keeps(w, q, card.first + column + n * 8 + e % 2);
            kept |= static_cast<std::uint32_t>(keeps) << (n * 4 + e);
          }
#pragma unroll
        for (int n = 0; n < columns / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if ((kept >> (n * 4 + e) & 1u) == 0) score[f][n][e] = minus_infinity;
      } else {
#pragma unroll
        for (int n = 0; n < columns / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (n * 8 + e % 2 >= edge[e / 2]) score[f][n][e] = minus_infinity;
      }
    }
  }

  /// The running maximum follows only where it would grow by more than 2^8 in some row of the warp: until
  /// then P stays below 2^8, and O and l need no rescaling.
  __device__ __forceinline__ void raise_maximum(float factor) {
    constexpr float slack = 8;
    float top[fragments][2];
    bool grows = false;
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float most = fmaxf(score[f][0][2 * h], score[f][0][2 * h + 1]);
#pragma unroll
        for (int n = 1; n < columns / 8; ++n) most = fmaxf(most, fmaxf(score[f][n][2 * h], score[f][n][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        top[f][h] = most;
        grows |= (most - highest[f][h]) * factor > slack;
      }
    if (__any_sync(~0u, grows)) {
#pragma unroll
      for (int f = 0; f < fragments; ++f)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float const now = fmaxf(highest[f][h], top[f][h]);
          // A row that has seen no key yet has nothing to rescale; −∞ − −∞ must not be formed.
          float const scale = highest[f][h] == minus_infinity ? 0.f : ptx::exp2((highest[f][h] - now) * factor);
          highest[f][h] = now;
          total[f][h] *= scale;
#pragma unroll
          for (int n = 0; n < HeadDim / 8; ++n) output[f][n][2 * h] *= scale, output[f][n][2 * h + 1] *= scale;
        }
    }
  }

  /// O / l and LSE, the sink logit included. O passes through the warp's own rows of the query tile.
  template <class Arguments>
  __device__ __forceinline__ void store(Arguments const& a, item_type const& item, unsigned char* queries,
                                        float factor) {
    using tile = swizzled<HeadDim>;
    where const& w = item.w;
    std::int64_t const slab = a.shape.packed() ? 0 : w.batch;
    __syncwarp();
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float sum = total[f][h];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        float top = sum > 0 ? highest[f][h] * factor : minus_infinity;  // in powers of two from here on
        float weight = sum > 0 ? 1 / sum : 0.f;
        if constexpr (sink_logit_mode<M>) {
          float const sink = a.mode.sink_logit(w) * log2_e;
          float const now = fmaxf(top, sink);
          if (now > minus_infinity) {
            float const own = sum > 0 ? ptx::exp2(top - now) : 0.f;
            sum = own * sum + ptx::exp2(sink - now);
            weight = own / sum;
            top = now;
          }
        }
        int const row = row_of(f, h);
        if (a.lse && lane() % 4 == 0 && row < item.rows)
          a.lse.data[slab * a.lse.strides[0] + w.query_head * a.lse.strides[1] +
                     (std::int64_t{item.q_start} + item.first + row) * a.lse.strides[2]] =
              top > minus_infinity ? (top + log2f(sum)) * ln_2 : minus_infinity;
#pragma unroll
        for (int n = 0; n < HeadDim / 8; ++n)
          *reinterpret_cast<std::uint32_t*>(queries + tile::at(row, n) + lane() % 4 * 4) =
              ptx::pack<T>(output[f][n][2 * h] * weight, output[f][n][2 * h + 1] * weight);
      }
    __syncwarp();
    T* const out = a.out.data + slab * a.out.strides[0] + w.query_head * a.out.strides[2] +
                   (std::int64_t{item.q_start} + item.first) * a.out.strides[1];
    constexpr int chunks = HeadDim / 8;
#pragma unroll
    for (int i = 0; i < fragments * 16 * chunks / 32; ++i) {
      int const row = warp_row() + (i * 32 + lane()) / chunks, chunk = (i * 32 + lane()) % chunks;
      if (row < item.rows)
        *reinterpret_cast<uint4*>(out + row * a.out.strides[1] + chunk * 8) =
            *reinterpret_cast<uint4 const*>(queries + tile::at(row, chunk));
    }
  }

  template <class Arguments>
  __device__ __forceinline__ void run(Arguments const& a, unsigned char* memory) {
    auto& tail = *reinterpret_cast<shared_tail*>(memory + tile_bytes);
    item_type& item = tail.item;
    std::uint32_t const queries = static_cast<std::uint32_t>(__cvta_generic_to_shared(memory));
    // Slot of half-tile u: the keys of tile i are half-tile 2i, its values 2i + 1.
    auto const slot_of = [&](int u) {
      return queries + rows * HeadDim * 2 + static_cast<std::uint32_t>(u % slots) * slot_bytes;
    };
    thread = static_cast<int>(threadIdx.x);

    // c > 0 may be folded into the exponent. A hook, or a scale that is not positive, wants it applied before.
    bool const scale_first = scoring_mode<M> || a.shape.softmax_scale < 1e-20f;
    float const factor = scale_first ? log2_e : a.shape.softmax_scale * log2_e;

    unsigned number = 0;
    if (thread == 0) {
      number = atomicAdd(a.plan.next, 1u);
      tail.section = 0;
    }
    for (;;) {
      asm volatile("" : "+r"(thread));  // else every address of a thread is kept in registers across the items
      if (thread == 0) {
        next_item<portable_kernel>(a, number, tail.section, item);
        if (item.count >= 0) number = atomicAdd(a.plan.next, 1u);  // in flight while this item is worked on
      }
      __syncthreads();
      int const count = item.count;
      if (count < 0) return;

      std::int64_t const slab = a.shape.packed() ? 0 : item.w.batch;
      T const* const from = a.q.data + slab * a.q.strides[0] + item.w.query_head * a.q.strides[2] +
                            (std::int64_t{item.q_start} + item.first) * a.q.strides[1];
      tile_copy<HeadDim, rows, threads>::run(thread, queries, from, a.q.strides[1], item.rows);
      for (int i = thread; i < minimum(2 * portable_cards, count); i += threads)
        write_card<portable_kernel>(a, item, i, tail.cards[i]);
      __syncthreads();

      auto const load_keys = [&](int i) {
        if (i < count) {
          card_type const& card = tail.cards[i % (2 * portable_cards)];
          tile_copy<HeadDim, columns, threads>::run(thread, slot_of(2 * i), card.rows.keys, key_stride(a.source),
                                                    card.limit);
        }
        ptx::end_copy_group();
      };
      auto const load_values = [&](int i) {
        if (i < count) {
          card_type const& card = tail.cards[i % (2 * portable_cards)];
          tile_copy<HeadDim, columns, threads>::run(thread, slot_of(2 * i + 1), card.rows.values,
                                                    value_stride(a.source), card.limit);
        }
        ptx::end_copy_group();
      };
#pragma unroll
      for (int u = 0; u < (paired ? slots - 2 : slots - 1); ++u)
        if (u % 2 == 0)
          load_keys(u / 2);
        else
          load_values(u / 2);

      clear();
      int const last_row = minimum(warp_row() + fragments * 16, item.rows) - 1;
      int const last_position = last_row < warp_row() ? INT_MIN
                                : item.w.causal       ? item.w.position(item.first + last_row)
                                                      : INT_MAX;
      for (int i = 0; i < count; ++i) {
        // The keys have landed, and every warp is done with what the next copies overwrite.
        ptx::wait_copy_groups<keys_pending>();
        __syncthreads();
        if (i % portable_cards == 0 && i > 0 && thread < portable_cards && i + portable_cards + thread < count)
          write_card<portable_kernel>(a, item, i + portable_cards + thread,
                                      tail.cards[(i + portable_cards + thread) % (2 * portable_cards)]);
        if constexpr (paired) {
          load_keys(i + slots / 2 - 1);
          load_values(i + slots / 2 - 1);
        } else if constexpr (slots % 2 == 0) {
          load_values(i + (slots - 2) / 2);
        } else {
          load_keys(i + (slots - 1) / 2);
        }

        card_type const& card = tail.cards[i % (2 * portable_cards)];
        // Rows before every key of the tile, and warps without rows, sit it out.
        bool const sees = last_position >= card.first;
        if (sees) {
          multiply_keys(queries, slot_of(2 * i));
          if constexpr (scoring_mode<M>) {
            apply_hook(a.mode, item, card.first, a.shape.softmax_scale);
          } else if (scale_first) {
#pragma unroll
            for (int f = 0; f < fragments; ++f)
#pragma unroll
              for (int n = 0; n < columns / 8; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) score[f][n][e] *= a.shape.softmax_scale;
          }
          if (card.masked) mask(a.mode, item, card);
          raise_maximum(factor);
        }

        if constexpr (!paired) {
          ptx::wait_copy_groups<slots - 2>();
          __syncthreads();
          if constexpr (slots % 2 == 0)
            load_keys(i + slots / 2);
          else
            load_values(i + (slots - 1) / 2);
        }
        if (sees) multiply_values(slot_of(2 * i + 1), factor);
      }
      if (count == 0) {  // the queries must have landed before their rows are reused
        ptx::wait_copy_groups<0>();
        __syncthreads();
      }
      store(a, item, memory, factor);
      __syncthreads();
    }
  }
};

template <class Kernel, class Arguments>
__global__ void __launch_bounds__(Kernel::threads, Kernel::tiling.residents)
    portable_forward(__grid_constant__ Arguments const a) {
  extern __shared__ __align__(128) unsigned char memory[];
  Kernel kernel;
  kernel.run(a, memory);
}

}  // namespace elastic::detail
