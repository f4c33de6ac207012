// Decode for sm_80 and newer: few new tokens against a cache, split over the keys (FlashDecoding). The rows of
// a bundle (decode_work.cuh) fill one mma tile and share every load; each warp takes 16 keys in turn through
// its own ring of cp.async stages, with a softmax of its own, and waits for no other warp until the bundle ends:
//   S = Q·Kᵀ; m' = max(m, rowmax S); P = 2^(c·(S − m')); l' = 2^(c·(m − m'))·l + ΣP; O' = 2^(c·(m − m'))·O + P·V
#pragma once

#include <elastic/cuda/portable/decode_rows.cuh>
#include <elastic/cuda/portable/forward.cuh>

namespace elastic::detail {

template <class M, class T, int HeadDim>
struct decode_kernel {
  static constexpr decode_tiling tiling = decode_tiling_for(compiled_capability, HeadDim);
  static constexpr int warps = tiling.warps;
  static constexpr int threads = tiling.threads();
  static constexpr int stages = tiling.stages;
  static constexpr int chunks = HeadDim / 8;  // of 16 bytes in a row
  static constexpr int half_bytes = decode_step * HeadDim * 2;
  static constexpr int tile_bytes = decode_tile_bytes(tiling, HeadDim);
  static constexpr int pitch = HeadDim + 8;  // floats, of a row that a warp hands over
  static constexpr int spans = tiles_t<M>::spans_max;
  static constexpr int ranges_most = decode_rows * spans;
  static_assert(warps * decode_rows * pitch * 4 <= warps * stages * 2 * half_bytes, "sums go through the ring");

  using tile = swizzled<HeadDim>;

  /// 16 keys on their way.
  struct card {
    T const* keys = nullptr;
    T const* values = nullptr;
    int first = 0;
    int limit = 0;
  };

  struct shared_tail {
    tiles_t<M> tiles[decode_rows];  // of the bundle's heads
    where heads[decode_rows];
    int begin[ranges_most];  // ranges of tiles that the bundle visits
    int before[ranges_most + 1];
    int ranges;
    int2 staged[warps][stages];  // first key and limit
    float2 sums[warps][decode_rows];
    decode_share share;
    int2 scratch[warps];
  };

  float score[2][4];
  float output[HeadDim / 8][4];
  float highest[2];  // of the logits before the factor c
  float total[2];    // of this thread's columns

  __device__ __forceinline__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ __forceinline__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  /// Row of elements 2·half and 2·half + 1 of a fragment.
  __device__ __forceinline__ static int row_of(int half) { return half * 8 + lane() / 4; }

  /// Rows of a bundle's queries, and zeros below them.
  template <class Arguments>
  __device__ __forceinline__ static void load_queries(Arguments const& a, bundle const& b, unsigned char* to) {
    for (int i = static_cast<int>(threadIdx.x); i < decode_rows * chunks; i += threads) {
      int const row = i / chunks, chunk = i % chunks;
      uint4 x{0, 0, 0, 0};
      if (row < b.rows) {
        T const* const from = a.q.data + b.batch * a.q.strides[0] + b.query(a.shape, row) * a.q.strides[1] +
                              b.query_head(a.shape, b.head(a.shape, row)) * a.q.strides[2];
        x = *reinterpret_cast<uint4 const*>(from + chunk * 8);
      }
      *reinterpret_cast<uint4*>(to + tile::at(row, chunk)) = x;
    }
  }

  /// 16 rows by one warp; rows from `limit` on become zeros and are not read.
  __device__ __forceinline__ static void copy(std::uint32_t to, T const* from, std::int64_t stride, int limit) {
    asm volatile("" : "+l"(stride), "+r"(to));  // else what follows from them is kept in registers across the loop
#pragma unroll
    for (int i = 0; i < decode_step * chunks / 32; ++i) {
      int const at = i * 32 + lane(), row = at / chunks, chunk = at % chunks;
      bool const inside = row < limit;
      ptx::copy_16(to + tile::at(row, chunk), inside ? from + row * stride + chunk * 8 : from, inside ? 16 : 0);
    }
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) output[n][e] = 0;
#pragma unroll
    for (int h = 0; h < 2; ++h) highest[h] = minus_infinity, total[h] = 0;
  }

  __device__ __forceinline__ void multiply_keys(std::uint32_t queries, std::uint32_t keys) {
    queries += tile::at(lane() % 16, lane() / 16);
    keys += tile::at(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) score[n][e] = 0;
#pragma unroll
    for (int k = 0; k < HeadDim / 16; ++k) {
      std::uint32_t a[4], b[4];
      ptx::load_matrices(a, tile::step(queries, k));
      ptx::load_matrices(b, tile::step(keys, k));
      ptx::mma<T>(score[0], a, b[0], b[1]);
      ptx::mma<T>(score[1], a, b[2], b[3]);
    }
  }

  __device__ __forceinline__ void multiply_values(std::uint32_t values, float factor) {
    values += tile::at(lane() % 16, lane() / 16);
    std::uint32_t a[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int const n = e / 2, h = e % 2;
      float const offset = highest[h] == minus_infinity ? 0.f : highest[h] * factor;
      float const low = ptx::exp2(fmaf(score[n][2 * h], factor, -offset));
      float const high = ptx::exp2(fmaf(score[n][2 * h + 1], factor, -offset));
      total[h] += low + high;
      a[e] = ptx::pack<T>(low, high);
    }
#pragma unroll
    for (int n = 0; n < HeadDim / 16; ++n) {
      std::uint32_t b[4];
      ptx::load_matrices_transposed(b, tile::step(values, n));
      ptx::mma<T>(output[2 * n], a, b[0], b[1]);
      ptx::mma<T>(output[2 * n + 1], a, b[2], b[3]);
    }
  }

  /// The running maximum, as in the forward kernel: it follows only where it would grow by more than 2^8.
  __device__ __forceinline__ void raise_maximum(float factor) {
    constexpr float slack = 8;
    float top[2];
    bool grows = false;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = fmaxf(fmaxf(score[0][2 * h], score[0][2 * h + 1]), fmaxf(score[1][2 * h], score[1][2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      top[h] = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      grows |= (top[h] - highest[h]) * factor > slack;
    }
    if (__any_sync(~0u, grows)) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float const now = fmaxf(highest[h], top[h]);
        float const scale = highest[h] == minus_infinity ? 0.f : ptx::exp2((highest[h] - now) * factor);
        highest[h] = now;
        total[h] *= scale;
#pragma unroll
        for (int n = 0; n < HeadDim / 8; ++n) output[n][2 * h] *= scale, output[n][2 * h + 1] *= scale;
      }
    }
  }

  /// Causality, the sequence's end, heads that do not visit this tile, and in partial tiles keeps.
  template <class Arguments>
  __device__ __forceinline__ void mask(Arguments const& a, shared_tail const& tail, bundle const& b, int first,
                                       int limit) {
    int const index = first / a.plan.columns;
    bool visits = false, asks = false;
    if (lane() < b.heads) {
      tiles_t<M> const& own = tail.tiles[lane()];
#pragma unroll
      for (int s = 0; s < spans; ++s)
        if (own.begin[s] <= index && index < own.end[s]) visits = true, asks |= (own.partial >> s & 1u) != 0;
    }
    std::uint32_t const visitors = __ballot_sync(~0u, visits), askers = __ballot_sync(~0u, asks);
    where const& any = tail.heads[0];
    bool const whole = limit == decode_step && visitors == (1u << b.heads) - 1 && askers == 0 &&
                       !(any.causal && first + decode_step - 1 > any.position(0));
    if (whole) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int const row = minimum(row_of(h), b.rows - 1);
      int const head = b.head(a.shape, row), query = b.query(a.shape, row);
      int edge = any.causal ? minimum(limit, any.position(query) + 1 - first) : limit;
      if ((visitors >> head & 1u) == 0) edge = 0;
      bool const asked = M::has_partial && (askers >> head & 1u) != 0;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int const column = e / 2 * 8 + lane() % 4 * 2 + e % 2;
        bool kept = column < edge;
        if constexpr (M::has_partial)
          if (kept && asked) kept = a.mode.keeps(tail.heads[head], query, first + column);
        if (!kept) score[e / 2][2 * h + e % 2] = minus_infinity;
      }
    }
  }

  /// The mode's hook on the scaled logits. Queries and keys outside are asked as the last ones inside.
  template <class Arguments>
  __device__ __forceinline__ void apply_hook(Arguments const& a, shared_tail const& tail, bundle const& b, int first) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      int const row = minimum(row_of(h), b.rows - 1);
      where const& w = tail.heads[b.head(a.shape, row)];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int const k = minimum(first + e / 2 * 8 + lane() % 4 * 2 + e % 2, w.k_len - 1);
        float& s = score[e / 2][2 * h + e % 2];
        s = score_of(a.mode, w, s * a.shape.softmax_scale, b.query(a.shape, row), k);
      }
    }
  }

  /// Step `i` of the tiles [from, to) of the bundle, in steps of 16 keys.
  template <class Arguments>
  __device__ __forceinline__ static card card_of(Arguments const& a, shared_tail const& tail,
                                                 key_cursor<T> const& cursor, int from, int to, int i) {
    card made;
    int const per_tile = a.plan.columns / decode_step, at = from + i / per_tile;
    if (at >= to) return made;
    int range = 0;
    while (range + 1 < tail.ranges && at >= tail.before[range + 1]) ++range;
    where const& w = tail.heads[0];
    made.first = (tail.begin[range] + at - tail.before[range]) * a.plan.columns + i % per_tile * decode_step;
    if (made.first >= w.k_len) return made;
    auto const rows = rows_from(a.source, cursor, w, made.first);
    made.keys = rows.keys;
    made.values = rows.values;
    made.limit = rows.keys != nullptr ? minimum(decode_step, w.k_len - made.first) : 0;
    return made;
  }

  /// The tiles [from, to) of a bundle, into the sums of this warp.
  template <class Arguments>
  __device__ __forceinline__ void walk(Arguments const& a, shared_tail& tail, bundle const& b, std::uint32_t queries,
                                       std::uint32_t ring, int from, int to, bool scale_first, float factor) {
    int const steps = (to - from) * (a.plan.columns / decode_step);
    int const mine = ceil_div(maximum(steps - warp(), 0), warps);
    key_cursor<T> const cursor = cursor_of(a.source, a.shape, tail.heads[0], 0);
    std::int64_t const key_step = key_stride(a.source), value_step = value_stride(a.source);
    // A lane knows one of the next 32 steps, and, looked up that much earlier, one of the 32 after them.
    card now, next = card_of(a, tail, cursor, from, to, lane() * warps + warp());
    auto const load = [&](int i, int stage) {
      if (i < mine) {
        if (i % 32 == 0) {
          now = next;
          next = card_of(a, tail, cursor, from, to, (i + 32 + lane()) * warps + warp());
        }
        int const source = i % 32;
        auto const share = [&](T const* p) {
          return reinterpret_cast<T const*>(__shfl_sync(~0u, reinterpret_cast<unsigned long long>(p), source));
        };
        T const* const keys = share(now.keys);
        T const* const values = share(now.values);
        int const first = __shfl_sync(~0u, now.first, source), limit = __shfl_sync(~0u, now.limit, source);
        copy(ring + stage * 2 * half_bytes, keys, key_step, limit);
        copy(ring + stage * 2 * half_bytes + half_bytes, values, value_step, limit);
        if (lane() == 0) tail.staged[warp()][stage] = {first, limit};
      }
      ptx::end_copy_group();
    };
    for (int i = 0; i < stages - 1; ++i) load(i, i);
    for (int i = 0, stage = 0, free = stages - 1; i < mine; ++i) {
      ptx::wait_copy_groups<stages - 2>();
      __syncwarp();  // what all lanes copied has landed, and all are done with the stage that is free
      load(i + stages - 1, free);
      int2 const staged = tail.staged[warp()][stage];
      if (staged.y > 0) {
        multiply_keys(queries, ring + stage * 2 * half_bytes);
        if constexpr (scoring_mode<M>) {
          apply_hook(a, tail, b, staged.x);
        } else if (scale_first) {
#pragma unroll
          for (int e = 0; e < 8; ++e) score[e / 4][e % 4] *= a.shape.softmax_scale;
        }
        mask(a, tail, b, staged.x, staged.y);
        raise_maximum(factor);
        multiply_values(ring + stage * 2 * half_bytes + half_bytes, factor);
      }
      free = stage;
      stage = stage + 1 == stages ? 0 : stage + 1;
    }
    ptx::wait_copy_groups<0>();
  }

  /// Adds up the warps' sums through the ring and ends the rows, or leaves them to combine_decode.
  template <class Arguments>
  __device__ __forceinline__ void hand_over(Arguments const& a, shared_tail& tail, bundle const& b, float* ring,
                                            bool ends, std::int64_t slot, float factor) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float sum = total[h];
      sum += __shfl_xor_sync(~0u, sum, 1);
      sum += __shfl_xor_sync(~0u, sum, 2);
      if (lane() % 4 == 0) tail.sums[warp()][row_of(h)] = {sum > 0 ? highest[h] * factor : minus_infinity, sum};
      float* const to = ring + (warp() * decode_rows + row_of(h)) * pitch + lane() % 4 * 2;
#pragma unroll
      for (int n = 0; n < HeadDim / 8; ++n)
        *reinterpret_cast<float2*>(to + n * 8) = {output[n][2 * h], output[n][2 * h + 1]};
    }
    __syncthreads();
    constexpr int quads = HeadDim / 4;
    for (int i = static_cast<int>(threadIdx.x); i < b.rows * quads; i += threads) {
      int const row = i / quads, column = i % quads * 4;
      float top = minus_infinity, sum = 0, all[4] = {};
#pragma unroll
      for (int of = 0; of < warps; ++of) top = fmaxf(top, tail.sums[of][row].x);
#pragma unroll
      for (int of = 0; of < warps; ++of) {
        float2 const own = tail.sums[of][row];
        float const scale = own.x > minus_infinity ? ptx::exp2(own.x - top) : 0.f;
        float4 const x = *reinterpret_cast<float4 const*>(ring + (of * decode_rows + row) * pitch + column);
        sum += own.y * scale;
        all[0] += x.x * scale, all[1] += x.y * scale, all[2] += x.z * scale, all[3] += x.w * scale;
      }
      if (ends) {
        where const& w = tail.heads[b.head(a.shape, row)];
        int const query = b.query(a.shape, row);
        row_end const end = end_row(a.mode, w, top, sum);
        store_four(a.out, w, query, column, all, end.weight);
        if (column == 0) store_lse(a, w, query, end.lse);
      } else {
        std::int64_t const at = slot * a.plan.slot_rows + row;
        *reinterpret_cast<float4*>(a.plan.output + at * HeadDim + column) = {all[0], all[1], all[2], all[3]};
        if (column == 0) a.plan.sums[at] = {top, sum};
      }
    }
  }

  template <class Arguments>
  __device__ __forceinline__ void run(Arguments const& a, unsigned char* memory) {
    auto& tail = *reinterpret_cast<shared_tail*>(memory + tile_bytes);
    unsigned char* const rings = memory + decode_rows * HeadDim * 2;
    std::uint32_t const queries = static_cast<std::uint32_t>(__cvta_generic_to_shared(memory));
    std::uint32_t const ring =
        static_cast<std::uint32_t>(__cvta_generic_to_shared(rings)) + warp() * stages * 2 * half_bytes;
    bool const scale_first = scoring_mode<M> || a.shape.softmax_scale < 1e-20f;
    float const factor = scale_first ? decode_log2_e : a.shape.softmax_scale * decode_log2_e;

    int const part = static_cast<int>(blockIdx.x);
    ptx::let_dependents_start();
    ptx::wait_for_prerequisites();
    find_share<threads>(a.plan, part, tail.share, tail.scratch);
    decode_share const share = tail.share;
    std::int64_t const before = std::int64_t{part} * share.each;
    int left = static_cast<int>(maximum<std::int64_t>(minimum<std::int64_t>(share.each, share.total - before), 0));
    for (int number = share.bundle, spent = share.spent; left > 0; ++number, spent = 0) {
      int const count = a.plan.tiles[number], cost = minimum(share.cost(count) - spent, left);
      int const from = maximum(spent - share.start, 0), to = maximum(spent + cost - share.start, 0);
      left -= cost;
      if (to == from) continue;
      bundle const b(a.shape, a.plan, number);
      load_queries(a, b, memory);
      if (warp() == 0) {
        auto const own = tiles_of_head(a, b, lane());
        if (lane() < b.heads) {
          tail.tiles[lane()] = own;
          tail.heads[lane()] = where_of(a, b, lane());
        }
        int ranges = 0, before = 0;
        for_each_range(own, [&](int begin, int end) {
          if (lane() == 0 && ranges < ranges_most) {
            tail.begin[ranges] = begin;
            tail.before[ranges] = before;
          }
          ++ranges;
          before += end - begin;
        });
        if (lane() == 0) tail.ranges = minimum(ranges, ranges_most);
      }
      if (from == 0 && threadIdx.x == 0) {
        int const last = part + ceil_div(count - to, share.each);
        a.plan.parts[number] = {part, last};
      }
      __syncthreads();
      clear();
      walk(a, tail, b, queries, ring, from, to, scale_first, factor);
      __syncthreads();
      hand_over(a, tail, b, reinterpret_cast<float*>(rings), from == 0 && to == count, a.plan.slot(part, number),
                factor);
      __syncthreads();
    }
  }
};

template <class Kernel, class Arguments>
__global__ void __launch_bounds__(Kernel::threads, Kernel::tiling.residents)
    portable_decode(__grid_constant__ Arguments const a) {
  extern __shared__ __align__(128) unsigned char memory[];
  Kernel kernel;
  kernel.run(a, memory);
}

}  // namespace elastic::detail
