// Log-sums of the folded product for 16-bit types, sm_80 and newer: R = Q'·K'ᵀ by mma.sync with inner
// dimension stride · head_dim, where the folds are the token rows themselves, q's in reverse inside a fold,
//   logsum[a, piece] = log₂ Σ_{c in piece} 2^(R[a,c] · softmax_scale · log₂e / stride).
// Eight warps own 64 × 64 of a tile of 256 × 128. Steps of 64 inner elements travel by cp.async through a
// ring of slots that runs on from tile to tile; fragments are loaded one product ahead.
#pragma once

#include <elastic/cuda/portable/antidiagonal_store.cuh>
#include <elastic/cuda/portable/forward.cuh>

namespace elastic::detail {

/// Slots of 48 KB in the shared memory of an architecture.
constexpr int antidiagonal_slots(int capability) {
  return minimum(4, (shared_bytes_of(capability) - 2048) / (48 * 1024));
}

template <class T>
struct logsum_kernel {
  static constexpr tile_shape shape{256, 128};
  static constexpr int depth = 64;  // inner elements of a step
  static constexpr int threads = 256;
  static constexpr int slots = antidiagonal_slots(compiled_capability);
  static constexpr int key_offset = shape.rows * depth * 2;
  static constexpr int slot_bytes = (shape.rows + shape.columns) * depth * 2;
  static constexpr int ring = 8;  // items: one being drawn, and those that the slots in flight belong to
  static_assert(slots >= 2 && slots + 1 < ring);
  static_assert(antidiagonal_columns % shape.columns == 0 && depth == 4 * 16);

  using tile = swizzled<depth>;
  using item_type = antidiagonal_item<T>;

  static constexpr int bytes(int capability) {
    return antidiagonal_slots(capability) * slot_bytes + ring * static_cast<int>(sizeof(item_type));
  }

  antidiagonal_arguments<T> const& a;
  item_type* const items;
  std::uint32_t const memory;
  int const thread, lane;
  int const steps;  // of a tile

  float logit[4][8][4];
  std::uint32_t rows_of_step[2][4][4], columns_of_step[2][4][4];  // fragments of two products

  // What is copied next: this thread's chunk of every 32nd fold, in a step of the `drawn`-th item.
  unsigned number;
  int drawn = 0, steps_left = 0;
  T const* query;
  T const* key;
  int query_token, queries_left, key_token, keys_left;
  int phase, offset;  // of the chunk: the token inside the fold, and the element of its row
  bool ended = false;

  __device__ logsum_kernel(antidiagonal_arguments<T> const& arguments, unsigned char* shared)
      : a(arguments),
        items(reinterpret_cast<item_type*>(shared + slots * slot_bytes)),
        memory(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
        thread(static_cast<int>(threadIdx.x)),
        lane(thread % 32),
        steps(ceil_div(a.selector.stride * a.in.shape.head_dim, depth)) {}

  __device__ int first_row() const { return thread / 64 * 64; }
  __device__ int first_column() const { return thread / 32 % 2 * 64; }

  __device__ void draw(int at) {
    if (thread < 32) next_antidiagonal(a, shape, number, items[at % ring]);
  }

  /// Turns to the next item where the one in work is copied, and draws the one after it. Beyond the last
  /// item zeros are copied.
  __device__ __forceinline__ void begin_copy() {
    if (steps_left > 0) return;
    int const stride = a.selector.stride, head_dim = a.in.shape.head_dim, row = thread / 8;
    item_type const& item = items[drawn % ring];
    ended = ended || item.rows < 0;
    if (!ended) draw(++drawn);
    steps_left = steps;
    phase = thread % 8 * 8 / head_dim;
    offset = thread % 8 * 8 % head_dim;
    query_token = row * stride + stride - 1 - phase;
    key_token = row * stride + phase;
    query = (ended ? a.in.q.data : item.queries + query_token * a.in.q.strides[1]) + offset;
    key = (ended ? a.in.k.data : item.keys + key_token * a.in.k.strides[1]) + offset;
    queries_left = ended ? 0 : item.queries_left;
    keys_left = ended ? 0 : item.keys_left;
  }

  /// A quarter of a step. Tokens past the limit become zeros and are not read.
  __device__ __forceinline__ void copy(std::uint32_t slot, int quarter) {
    constexpr int folds = threads / 8, row_copies = shape.rows / folds / 4, column_copies = shape.columns / folds / 4;
    std::uint32_t const to = slot + static_cast<std::uint32_t>(tile::at(thread / 8, thread % 8));
    int const tokens = folds * a.selector.stride;
    bool const inside = phase < a.selector.stride;
#pragma unroll
    for (int i = quarter * row_copies; i < (quarter + 1) * row_copies; ++i)
      ptx::copy_16(to + i * folds * tile::row_bytes, query + i * (tokens * a.in.q.strides[1]),
                   inside && query_token + i * tokens < queries_left ? 16 : 0);
#pragma unroll
    for (int i = quarter * column_copies; i < (quarter + 1) * column_copies; ++i)
      ptx::copy_16(to + key_offset + i * folds * tile::row_bytes, key + i * (tokens * a.in.k.strides[1]),
                   inside && key_token + i * tokens < keys_left ? 16 : 0);
  }

  /// To the next step of the item: on in the row, or to the next token of the folds, q's in reverse.
  __device__ __forceinline__ void end_copy() {
    ptx::end_copy_group();
    int const head_dim = a.in.shape.head_dim;
    query += depth;
    key += depth;
    offset += depth;
#pragma unroll
    for (int i = 0; i < depth / 32; ++i)
      if (offset >= head_dim) {
        offset -= head_dim;
        ++phase;
        query -= head_dim + a.in.q.strides[1];
        key += a.in.k.strides[1] - head_dim;
        --query_token;
        ++key_token;
      }
    --steps_left;
  }

  /// The fragments of product `k` of the step in a slot.
  __device__ __forceinline__ void load(std::uint32_t slot, int k) {
    std::uint32_t const rows = slot + static_cast<std::uint32_t>(tile::at(first_row() + lane % 16, lane / 16));
    std::uint32_t const columns =
        slot + key_offset +
        static_cast<std::uint32_t>(tile::at(first_column() + lane % 8 + lane / 16 * 8, lane / 8 % 2));
#pragma unroll
    for (int f = 0; f < 4; ++f) {
      ptx::load_matrices(rows_of_step[k % 2][f], tile::step(rows, k) + f * 16 * tile::row_bytes);
      ptx::load_matrices(columns_of_step[k % 2][f], tile::step(columns, k) + f * 16 * tile::row_bytes);
    }
  }

  __device__ __forceinline__ void multiply(int k) {
#pragma unroll
    for (int n = 0; n < 8; ++n)
#pragma unroll
      for (int f = 0; f < 4; ++f)
        ptx::mma<T>(logit[f][n], rows_of_step[k % 2][f], columns_of_step[k % 2][n / 2][n % 2 * 2],
                    columns_of_step[k % 2][n / 2][n % 2 * 2 + 1]);
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int f = 0; f < 4; ++f)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) logit[f][n][e] = 0;
  }

  /// Of the whole tile, from the accumulators to memory.
  __device__ __forceinline__ void store(item_type const& item) {
    bool const masked = item.columns < shape.columns || item.edge < shape.columns;
#pragma unroll
    for (int f = 0; f < 4; ++f)
      store_logsums(a, item, logit[f][0], first_row() + f * 16 + lane / 4, first_column(), masked);
  }

  __device__ __forceinline__ void run() {
    if (thread < 32) number = draw_antidiagonal(a);
    draw(0);
    for (int i = 0; i < slots - 1; ++i) {
      __syncthreads();
      begin_copy();
      for (int k = 0; k < 4; ++k) copy(memory + i * slot_bytes, k);
      end_copy();
    }
    ptx::wait_copy_groups<slots - 2>();
    __syncthreads();
    load(memory, 0);
    std::uint32_t const end = memory + slots * slot_bytes;
    std::uint32_t slot = memory, last = end - slot_bytes;  // the step in work, and the one before it
    for (int at = 0; items[at % ring].rows >= 0; ++at) {
      clear();
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        std::uint32_t const next = slot + slot_bytes == end ? memory : slot + slot_bytes;
        begin_copy();
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          copy(last, k);  // every warp is done with it
          if (k == 3) {
            end_copy();
            ptx::wait_copy_groups<slots - 2>();
            __syncthreads();
          }
          load(k == 3 ? next : slot, (k + 1) % 4);
          multiply(k);
        }
        last = slot;
        slot = next;
      }
      store(items[at % ring]);
    }
    ptx::wait_copy_groups<0>();
  }
};

template <class T>
__global__ void __launch_bounds__(logsum_kernel<T>::threads, 1)
    antidiagonal_logsums(__grid_constant__ antidiagonal_arguments<T> const a) {
  extern __shared__ __align__(128) unsigned char memory[];
  logsum_kernel<T> kernel(a, memory);
  kernel.run();
}

}  // namespace elastic::detail
