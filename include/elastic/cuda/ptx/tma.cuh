// Bulk tensor copies (TMA, compute capability 9.0) of a box out of a (head_dim, seq, heads, batch) tensor, or one
// whose tokens are folded, (head_dim, fold, phase, heads, batch), between global and shared memory, by one thread. What
// a box has outside the tensor is read as zeros and never written.
#pragma once

#include <cuda.h>

#include <cstdint>

#include <elastic/cuda/ptx/mbarrier.cuh>

namespace elastic::ptx {

/// How long a box should stay in the L2 cache (createpolicy's encodings).
enum class cache_policy : std::uint64_t {
  evict_normal = 0x1000000000000000,
  evict_first = 0x12f0000000000000,
  evict_last = 0x14f0000000000000
};

/// Starts at (column, row, head, batch). `landed` is told the bytes as they land; zeros count too.
__device__ __forceinline__ void load_box(void* to, CUtensorMap const* map, mbarrier& landed, int column, int row,
                                         int head, int batch, cache_policy policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(&landed)), "r"(column), "r"(row), "r"(head), "r"(batch),
      "l"(static_cast<std::uint64_t>(policy))
      : "memory");
}

/// Starts at (column, fold, phase, head, batch).
__device__ __forceinline__ void load_folded_box(void* to, CUtensorMap const* map, mbarrier& landed, int column,
                                                int fold, int phase, int head, int batch, cache_policy policy) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(&landed)), "r"(column), "r"(fold), "r"(phase), "r"(head), "r"(batch),
      "l"(static_cast<std::uint64_t>(policy))
      : "memory");
}

/// Part of this thread's open group of stores.
__device__ __forceinline__ void store_box(CUtensorMap const* map, void const* from, int column, int row, int head,
                                          int batch) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
               "r"(shared_address(from)), "r"(column), "r"(row), "r"(head), "r"(batch)
               : "memory");
}

__device__ __forceinline__ void end_store_group() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Shared memory of this thread's groups may be written again.
__device__ __forceinline__ void wait_stores_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

/// Everything of this thread's groups is written.
__device__ __forceinline__ void wait_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace elastic::ptx
