// Log-sums of the folded product (portable/antidiagonal_logsums.cuh) for compute capability 9.0: tiles of 256 × 192 by
// wgmma. A step is 64 inner elements: one panel of one token of every fold, two boxes by TMA. Steps pass through a ring
// of stages that runs on from tile to tile. Persistent CTAs, one for each multiprocessor:
//   warp 0            producer   draws tiles and has their steps loaded
//   warpgroups 1, 2   consumers  products of 128 rows and their log-sums, one beside the products of the other
// It serves 16-bit types, head dims that are multiples of 64, plain sequences of a fold or more, and strides that TMA
// knows; the portable kernel serves the rest.
#pragma once

#include <elastic/cuda/portable/antidiagonal_store.cuh>
#include <elastic/cuda/ptx/fence.cuh>
#include <elastic/cuda/ptx/setmaxnreg.cuh>
#include <elastic/cuda/ptx/tma.cuh>
#include <elastic/cuda/ptx/wgmma.cuh>
#include <elastic/cuda/sm90/launch.cuh>

namespace elastic::detail {

/// Of the folds, some may lack a last token: the first maps end before those, the second ones behind them.
template <class T>
struct sm90_logsum_arguments : antidiagonal_arguments<T> {
  CUtensorMap queries[2];
  CUtensorMap keys[2];
};

/// A tile for TMA.
struct sm90_logsum_item : antidiagonal_tile {
  int query;  // first folds
  int key;
  int query_head;
  int kv_head;
  int batch;

  template <class Arguments>
  __device__ void place(Arguments const&, folded_head const& f, int row, int column) {
    query = f.first + row;
    key = column;
    query_head = f.head.w.query_head;
    kv_head = f.head.w.kv_head;
    batch = f.head.w.batch;
  }
};

template <class T>
struct sm90_logsum_kernel {
  static constexpr tile_shape shape{256, 192};
  static constexpr int consumer_rows = shape.rows / sm90_consumers;
  static constexpr int halves = consumer_rows / 64;  // a product of wgmma has 64 rows

  static constexpr int stages = 4;
  static constexpr int key_offset = panel_bytes(shape.rows);
  static constexpr int stage_bytes = key_offset + panel_bytes(shape.columns);
  static constexpr int bytes = stages * stage_bytes + 1024;  // with alignment
  static constexpr int ring = 8;  // tiles: one being drawn, those of the steps in the stages, one being stored
  static_assert(stages + 2 <= ring);

  using arguments = sm90_logsum_arguments<T>;

  struct shared_type {
    ptx::mbarrier ready[stages], done[stages];
    sm90_logsum_item items[ring];

    /// By one thread, before a barrier of all.
    __device__ __forceinline__ void init() {
      for (int i = 0; i < stages; ++i) {
        ptx::init(ready[i], 1);
        ptx::init(done[i], 4 * sm90_consumers);
      }
    }
  };
  static_assert(bytes + sizeof(shared_type) <= 227 * 1024);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  arguments const& a;
  shared_type& shared;
  unsigned char* const memory;  // a multiple of 1024
  unsigned number = 0;          // steps before this one, of all tiles

  __device__ __forceinline__ unsigned stage() const { return number % stages; }
  __device__ __forceinline__ int parity() const { return static_cast<int>(number / stages % 2); }

  __device__ __forceinline__ void load(sm90_logsum_item const& item, int phase, int column) {
    problem const& p = a.in.shape;
    int const stride = a.selector.stride, query_phase = stride - 1 - phase;
    unsigned char* const to = memory + stage() * stage_bytes;
    ptx::mbarrier& ready = shared.ready[stage()];
    ptx::wait(shared.done[stage()], parity() ^ 1);
    ptx::arrive_expecting(ready, stage_bytes);
    ptx::load_folded_box(to, &a.queries[query_phase < p.q_len % stride], ready, column, item.query, query_phase,
                         item.query_head, item.batch, ptx::cache_policy::evict_normal);
    ptx::load_folded_box(to + key_offset, &a.keys[phase < p.k_len % stride], ready, column, item.key, phase,
                         item.kv_head, item.batch, ptx::cache_policy::evict_last);
    ++number;
  }

  /// By one warp; lane 0 alone counts steps.
  __device__ __forceinline__ void produce() {
    bool const leads = threadIdx.x % 32 == 0;
    unsigned drawn = draw_antidiagonal(a);
    for (int at = 0;; ++at) {
      sm90_logsum_item& item = shared.items[at % ring];
      next_antidiagonal(a, shape, drawn, item);
      __syncwarp();
      if (item.rows < 0) break;
      if (leads)
        for (int phase = 0; phase < a.selector.stride; ++phase)
          for (int column = 0; column < a.in.shape.head_dim; column += panel_columns) load(item, phase, column);
      __syncwarp();
    }
    if (!leads) return;
    ptx::wait(shared.done[stage()], parity() ^ 1);
    ptx::arrive(shared.ready[stage()]);
  }

  /// Hands the stage of a step back, once for each warp.
  __device__ __forceinline__ void release(unsigned step) {
    if (threadIdx.x % 32 == 0) ptx::arrive(shared.done[step % stages]);
  }

  using products = float[halves][shape.columns / 2];

  /// R of this warpgroup's rows, of which `own` steps are multiplied: all of them or none.
  __device__ __forceinline__ void multiply(products& product, std::uint32_t rows, std::uint32_t columns, int own,
                                           int steps) {
#pragma unroll
    for (int m = 0; m < halves; ++m)
#pragma unroll
      for (int i = 0; i < shape.columns / 2; ++i) product[m][i] = 0;
    int step = 0;
#pragma unroll 1
    for (; step < own; ++step, ++number) {
      std::uint32_t const at = stage() * (stage_bytes >> 4);
      ptx::wait(shared.ready[stage()], parity());
      ptx::fence_wgmma();
#pragma unroll
      for (int k = 0; k < panel_columns / 16; ++k)
#pragma unroll
        for (int m = 0; m < halves; ++m)
          ptx::wgmma_shared<T, shape.columns>(product[m],
                                              rows + at + (panel_bytes(64 * m) >> 4) + column_step(k, shape.rows),
                                              columns + at + column_step(k, shape.columns), true);
      ptx::end_wgmma_group();
      ptx::wait_wgmma<1>();
      if (step > 0) release(number - 1);
    }
    ptx::wait_wgmma<0>();
#pragma unroll
    for (int m = 0; m < halves; ++m) ptx::pin(product[m]);
    if (own > 0) release(number - 1);
#pragma unroll 1
    for (; step < steps; ++step, ++number) {
      ptx::wait(shared.ready[stage()], parity());
      __syncwarp();  // a lane that fell a phase behind would wait for ever
      release(number);
    }
  }

  __device__ __forceinline__ void store(antidiagonal_tile const& item, products& product, int first_row) {
    int const row = first_row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
    bool const masked = item.columns < shape.columns || item.edge + first_row < shape.columns;
#pragma unroll
    for (int m = 0; m < halves; ++m)
#pragma unroll
      for (int c = 0; c < shape.columns; c += 64)
        if (c < item.columns)  // a row of log-sums ends there
          store_logsums(a, item, product[m] + c / 2, row + 64 * m, c, masked);
  }

  __device__ __forceinline__ void consume(int me) {
    int const first_row = me * consumer_rows, steps = a.selector.stride * (a.in.shape.head_dim / panel_columns);
    std::uint32_t const base = ptx::shared_address(memory);
    std::uint32_t const rows = descriptor_low(base + static_cast<std::uint32_t>(panel_bytes(first_row)), 16);
    std::uint32_t const columns = descriptor_low(base + key_offset, 16);
    products product;
    for (int at = 0;; ++at) {
      ptx::wait(shared.ready[stage()], parity());
      antidiagonal_tile const& item = shared.items[at % ring];
      if (__shfl_sync(~0u, item.rows, 0) < 0) return;
      bool const sees = first_row < item.rows && item.edge + first_row + consumer_rows > 1;
      multiply(product, rows, columns, __shfl_sync(~0u, sees ? steps : 0, 0), steps);
      if (first_row < item.rows) store(item, product, first_row);
    }
  }

  __device__ __forceinline__ void run() {
    int const warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
    if (threadIdx.x == 0) {
      shared.init();
      ptx::fence_barrier_init();
    }
    __syncthreads();
    if (warp < 4) {
      ptx::give_registers_back<sm90_producer_registers>();
      if (warp == 0) produce();
    } else {
      ptx::take_registers<sm90_consumer_registers>();
      consume(warp / 4 - 1);
    }
  }
#endif
};

/// Empty where it is compiled for another architecture than 90a, as sm90_forward is.
template <class T>
__global__ void __launch_bounds__(sm90_threads, 1)
    sm90_antidiagonal_logsums([[maybe_unused]] __grid_constant__ sm90_logsum_arguments<T> const a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(128) unsigned char memory[];
  using kernel_type = sm90_logsum_kernel<T>;
  using shared_type = typename kernel_type::shared_type;
  __shared__ __align__(16) unsigned char shared[sizeof(shared_type)];
  // An offset, not a rounded address, so that accesses stay in the shared window.
  kernel_type kernel{a, *reinterpret_cast<shared_type*>(shared),
                     memory + (1024 - ptx::shared_address(memory) % 1024) % 1024};
  kernel.run();
#endif
}

/// Could the kernel serve, were it compiled for sm_90a? By what the host sees alone.
template <class T>
bool sm90_serves_logsums(antidiagonal_arguments<T> const& a) {
  problem const& p = a.in.shape;
  auto const folds = [&](heads_view<T const> const& view) {
    return tensor_map_describes(view) && view.extents[1] >= a.selector.stride &&
           (view.extents[1] == 1 || view.strides[1] * a.selector.stride < (std::int64_t{1} << 39));
  };
  return sizeof(T) == 2 && p.head_dim % panel_columns == 0 && !p.packed() && folds(a.in.q) && folds(a.in.k);
}

/// Launches on the stream where this kernel serves; false: nothing was done.
template <class T>
bool sm90_launch_logsums(antidiagonal_arguments<T> const& a, int device, int capability, cudaStream_t stream) {
  if (capability != 90 || !sm90_serves_logsums(a)) return false;
  if constexpr (sizeof(T) == 2) {
    using kernel = sm90_logsum_kernel<T>;
    auto const entry = sm90_antidiagonal_logsums<T>;
    if (!compiled_for_sm90a(entry) || tensor_map_encoder() == nullptr) return false;
    cuda_call(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, kernel::bytes),
              "cudaFuncSetAttribute");
    int const stride = a.selector.stride;
    auto const map = [&](heads_view<T const> const& view, int rows, int up) {
      return make_folded_tensor_map(view, stride, (view.extents[1] + up * (stride - 1)) / stride, rows);
    };
    sm90_logsum_arguments<T> const with_maps{
        a,
        {map(a.in.q, kernel::shape.rows, 0), map(a.in.q, kernel::shape.rows, 1)},
        {map(a.in.k, kernel::shape.columns, 0), map(a.in.k, kernel::shape.columns, 1)}};
    launch_logsum_tiles(a, with_maps, entry, kernel::shape, sm90_threads, kernel::bytes, device, stream);
  }
  return true;
}

}  // namespace elastic::detail
