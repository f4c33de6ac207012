// What the block selectors share on the device: one CTA writes one list. It finds the cut (the lowest key
// that is kept, and the last index among its equals) by bisection over the bits of the scores, without
// sorting them, and compacts what is kept in order. Weights are integers, so that their sums are exact and
// the same in any order. Kernels that write lists let the next one start early: it waits where it needs the lists, as
// that of auto_dense's flags does. Scans are written out: CUB's headers declare a ::half, which would make the name
// ambiguous wherever namespace elastic is used.
#pragma once

#include <climits>
#include <cstdint>

#include <elastic/cuda/portable/work.cuh>
#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic::detail {

/// One (sequence, query head), with the lengths that device memory holds clamped to the tensors.
struct device_head {
  where w;
  int q_start;  // rows of the tensors at which the sequence starts
  int k_start;
};

template <element T>
__device__ inline device_head head_of(select_inputs<T> const& in, int batch, int query_head) {
  problem const& p = in.shape;
  extent const queries = extent_of(p.cu_seqlens_q, batch, p.q_len, in.q.extents[1]);
  extent const keys = extent_of(p.cu_seqlens_k, batch, p.k_len, in.k.extents[1]);
  device_head h;
  h.w.batch = batch;
  h.w.query_head = query_head;
  h.w.kv_head = query_head / p.group();
  h.w.query_heads = p.query_heads;
  h.w.kv_heads = p.kv_heads;
  h.w.q_len = queries.length;
  h.w.k_len = keys.length;
  h.w.layer = p.layer;
  h.w.route = in.route == every_route ? 0 : in.route;
  h.w.causal = p.causal;
  h.q_start = queries.start;
  h.k_start = keys.start;
  return h;
}

template <element T>
__device__ inline T const* rows_at(heads_view<T const> const& tensor, problem const& p, int batch, int head, int row) {
  std::int64_t const slab = p.packed() ? 0 : batch;
  return tensor.data + slab * tensor.strides[0] + row * tensor.strides[1] + head * tensor.strides[2];
}

/// The list that a CTA writes: the last query blocks first, all heads of one block behind one another.
struct list_item {
  int batch;
  int query_head;
  int query_block;
  std::int64_t row;  // of begin and count
  __device__ list_item(block_lists const& lists, std::int64_t number) {
    int const heads = lists.batch * lists.query_heads, head = static_cast<int>(number % heads);
    batch = head / lists.query_heads;
    query_head = head % lists.query_heads;
    query_block = lists.first_block + lists.query_blocks - 1 - static_cast<int>(number / heads);
    row = lists.row(batch, query_head, query_block);
  }
};

/// Is there anything to write but an empty list? Fills in `head` where there is.
template <element T>
__device__ inline bool comes_to_list(select_inputs<T> const& in, list_item const& at, int block_rows,
                                     device_head& head) {
  if (!in.comes(at.batch, at.query_head)) return false;
  head = head_of(in, at.batch, at.query_head);
  return at.query_block * block_rows < minimum(in.shape.q_end, head.w.q_len);
}

/// For one thread of the list's CTA. Every list is written, empty ones too.
__device__ inline void write_extent(block_lists const& lists, std::int64_t row, int count) {
  lists.begin[row] = row * lists.capacity;
  lists.count[row] = count;
}

/// Ascends with the number, and is the same for −0 and 0. NaN is 1, below every number; 0 is left for what
/// is no candidate.
__device__ inline std::uint32_t key_of(float score) {
  if (!(score == score)) return 1;
  std::uint32_t const bits = __float_as_uint(score + 0.f);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

/// The lowest key of what is kept, and the last index kept among its equals.
struct key_cut {
  std::uint32_t key = UINT_MAX;  // so: keeps nothing
  int tie = -1;
  __device__ bool keeps(std::uint32_t other, int index) const { return other > key || (other == key && index <= tie); }
};

/// A CTA of `Threads` threads at one list. Every member is called by all of them together.
template <int Threads>
class list_writer {
  static constexpr int warps = Threads / 32;
  static constexpr int held = 16;  // candidates of a thread that are kept in registers

 public:
  struct shared {
    std::uint64_t parts[2][warps];
    int counts[2][warps];
    int found;
  };

  __device__ explicit list_writer(shared& memory) : memory_(memory) {}

  template <class F>
  __device__ std::uint64_t sum(int n, F&& weight) {
    std::uint64_t own = 0;
    for (int i = thread(); i < n; i += Threads) own += weight(i);
    return add(own);
  }

  template <class F>
  __device__ std::uint32_t highest(int n, F&& value) {
    std::uint32_t own = 0;
    for (int i = thread(); i < n; i += Threads) own = maximum<std::uint32_t>(own, value(i));
    return highest_of(own);
  }

  /// The fewest of n candidates, by descending key and then ascending index, that weigh `goal` together,
  /// and `more` beyond them. Equal keys have equal weights; key 0 is never kept.
  template <class Key, class Weight>
  __device__ key_cut cut(int n, std::uint64_t goal, int more, Key&& key, Weight&& weight) {
    key_cut c;
    std::uint64_t ties = 0, equal = 0;
    if (goal > 0) {
      std::uint32_t keys[held];
      std::uint64_t weights[held];
      std::uint32_t top = 0, bottom = 0;  // the highest key, and the complement of the lowest
#pragma unroll
      for (int t = 0; t < held; ++t) {
        int const i = t * Threads + thread();
        keys[t] = i < n ? key(i) : 0;
        weights[t] = keys[t] > 0 ? weight(i) : 0;
        top = maximum(top, keys[t]);
        bottom = maximum(bottom, keys[t] > 0 ? ~keys[t] : 0);
      }
      for (int i = held * Threads + thread(); i < n; i += Threads) {
        std::uint32_t const own = key(i);
        top = maximum(top, own);
        bottom = maximum(bottom, own > 0 ? ~own : 0);
      }
      auto const weight_where = [&](auto const& passes) {
        std::uint64_t own = 0;
#pragma unroll
        for (int t = 0; t < held; ++t)
          if (t * Threads < n && passes(keys[t])) own += weights[t];
        for (int i = held * Threads + thread(); i < n; i += Threads) {
          std::uint32_t const at = key(i);
          if (at > 0 && passes(at)) own += weight(i);
        }
        return add(own);
      };
      top = highest_of(top);
      std::uint32_t const differing = top ^ ~highest_of(bottom);
      int const bits = 32 - __clz(static_cast<int>(differing));  // below these, all candidates are the same
      std::uint32_t low = bits == 32 ? 0 : top >> bits << bits;
      for (int bit = bits - 1; bit >= 0; --bit) {
        std::uint32_t const tried = low | 1u << bit;
        if (weight_where([&](std::uint32_t k) { return k >= tried; }) >= goal) low = tried;
      }
      std::uint64_t const above = weight_where([&](std::uint32_t k) { return k > low; });
      std::uint64_t const at = weight_where([&](std::uint32_t k) { return k == low; });
      if (above + at < goal || at == 0) return {1, INT_MAX};  // beyond reach: all
      equal = sum(n, [&](int i) { return std::uint64_t{key(i) == low}; });
      c.key = low;
      ties = minimum(equal, ceil_div(goal - above, at / equal));
    }
    for (; more > 0; --more) {
      if (ties < equal) {
        ++ties;
        continue;
      }
      std::uint32_t const next = highest(n, [&](int i) {
        std::uint32_t const own = key(i);
        return own < c.key ? own : 0;
      });
      if (next == 0) break;
      c.key = next;
      ties = 1;
      equal = sum(n, [&](int i) { return std::uint64_t{key(i) == next}; });
    }
    c.tie = ties == equal ? INT_MAX : index_of(n, static_cast<int>(ties), [&](int i) { return key(i) == c.key; });
    return c;
  }

  /// Writes entry(0), entry(1), … entry(n − 1) behind one another, those left out that are `nothing`; returns
  /// how many. entry may read what it overwrites.
  static constexpr std::int32_t nothing = INT_MIN;

  template <class F>
  __device__ int compact(int n, F&& entry, std::int32_t* entries) {
    int written = 0;
    for (int base = 0; base < n; base += Threads) {
      int const i = base + thread();
      std::int32_t const own = i < n ? entry(i) : nothing;
      int total;
      int const at = written + rank(own != nothing, total);
      if (own != nothing) entries[at] = own;
      written += total;
    }
    return written;
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  /// The sum over all threads. A warp adds numbers of 32 bits at once: 27 bits of each thread at a time.
  __device__ std::uint64_t add(std::uint64_t own) {
    constexpr unsigned low = (1u << 27) - 1;
    own = __reduce_add_sync(~0u, static_cast<unsigned>(own) & low) +
          (std::uint64_t{__reduce_add_sync(~0u, static_cast<unsigned>(own >> 27) & low)} << 27) +
          (std::uint64_t{__reduce_add_sync(~0u, static_cast<unsigned>(own >> 54))} << 54);
    auto const& parts = exchange(own);
    own = 0;
    for (int i = 0; i < warps; ++i) own += parts[i];
    return own;
  }

  __device__ std::uint32_t highest_of(std::uint32_t own) {
    auto const& parts = exchange(__reduce_max_sync(~0u, own));
    std::uint64_t most = 0;
    for (int i = 0; i < warps; ++i) most = maximum(most, parts[i]);
    return static_cast<std::uint32_t>(most);
  }

  /// One number of every warp. Two arrays in turn, so that one barrier is enough.
  __device__ auto exchange(std::uint64_t own) -> std::uint64_t const (&)[warps] {
    auto& parts = memory_.parts[turn_ ^= 1];
    if (thread() % 32 == 0) parts[thread() / 32] = own;
    __syncthreads();
    return parts;
  }

  /// How many threads before this one pass, and how many in all.
  __device__ int rank(bool passes, int& total) {
    unsigned const votes = __ballot_sync(~0u, passes);
    auto& counts = memory_.counts[turn_ ^= 1];
    if (thread() % 32 == 0) counts[thread() / 32] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << (thread() % 32)) - 1u));
    total = 0;
    for (int i = 0; i < warps; ++i) {
      before += i < thread() / 32 ? counts[i] : 0;
      total += counts[i];
    }
    return before;
  }

  /// The index of the `count`-th item that passes.
  template <class F>
  __device__ int index_of(int n, int count, F&& passes) {
    for (int base = 0; base < n; base += Threads) {
      int const i = base + thread();
      bool const own = i < n && passes(i);
      int total;
      int const before = rank(own, total);
      if (own && before == count - 1) memory_.found = i;
      if (count <= total) {
        __syncthreads();
        return memory_.found;
      }
      count -= total;
    }
    return n - 1;
  }

  shared& memory_;
  int turn_ = 0;
};

/// The number of CTAs, one for each list.
inline unsigned grid_of(block_lists const& lists) {
  require(lists.rows() < (std::int64_t{1} << 31), "q", lists.rows(), "fewer than 2^31 lists");
  return static_cast<unsigned>(lists.rows());
}

}  // namespace elastic::detail
