// Attention forward for compute capability 9.0: FlashAttention-3's pieces (arXiv 2407.08608: TMA, wgmma, specialised
// warps) around a stream of key tiles that flows on from item to item. Persistent CTAs, one for each multiprocessor:
//   warp 0           scheduler  items, their tiles and queries (schedule.cuh)
//   warps 1, 2       loaders    keys, and values, into the stages (load.cuh)
//   warpgroups 1, 2  consumers  products, softmax, output (consume.cuh)
// Modes appear where tiles are looked up (scheduler, loaders), in masks, hooks and sinks: full tiles of any mode run
// the same loop.
#pragma once

#include <elastic/cuda/ptx/elect.cuh>
#include <elastic/cuda/ptx/fence.cuh>
#include <elastic/cuda/ptx/setmaxnreg.cuh>
#include <elastic/cuda/sm90/consume.cuh>
#include <elastic/cuda/sm90/load.cuh>
#include <elastic/cuda/sm90/schedule.cuh>

namespace elastic::detail {

template <class M, class T, int HeadDim>
struct sm90_kernel {
  using element_type = T;
  using item_type = sm90_item<M>;
  using shared_type = sm90_shared<M>;
  using layout = sm90_layout<HeadDim>;
  static constexpr int head_dim = HeadDim;
  static constexpr sm90_tiling tiling = sm90_tiling_for(HeadDim);
  static constexpr int columns = tiling.shape.columns;
  static constexpr bool one_query_slot = tiling.query_slots == 1;
  static_assert(tiling.serves() && tiling.shape.rows == sm90_consumers * sm90_consumer_rows);

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  template <class Arguments>
  __device__ __forceinline__ static void run(Arguments const& a, unsigned char* memory, shared_type& shared) {
    // An offset, not a rounded address, so that accesses stay in the shared window.
    layout const tiles{memory + (1024 - ptx::shared_address(memory) % 1024) % 1024};
    int const warpgroup = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) {
      shared.init();
      ptx::fence_barrier_init();
    }
    __syncthreads();
    if (warpgroup == 0) {
      ptx::give_registers_back<sm90_producer_registers>();
      int const warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
      int const lane = static_cast<int>(threadIdx.x) % 32;
      if (warp == 0 && ptx::elect()) sm90_schedule<sm90_kernel>(a, shared, tiles);
      sm90_loader<sm90_kernel, Arguments, shared_type> loader(a, shared, tiles, lane);
      if (warp == 1) loader.run_keys();
      if (warp == 2) loader.run_values();
    } else {
      ptx::take_registers<sm90_consumer_registers>();
      sm90_consumer<sm90_kernel, Arguments, shared_type> consumer(a, shared, tiles, warpgroup - 1,
                                                                  static_cast<int>(threadIdx.x) % 128);
      consumer.run();
    }
  }
#endif
};

/// Compiled for another architecture than 90a it is empty, and has no static shared memory: so the host tells.
template <class Kernel, class Arguments>
__global__ void __launch_bounds__(sm90_threads, 1) sm90_forward([[maybe_unused]] __grid_constant__ Arguments const a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(128) unsigned char memory[];
  using shared_type = typename Kernel::shared_type;
  __shared__ __align__(16) unsigned char shared[sizeof(shared_type)];  // barriers and items begin as raw memory
  Kernel::run(a, memory, *reinterpret_cast<shared_type*>(shared));
#endif
}

}  // namespace elastic::detail
