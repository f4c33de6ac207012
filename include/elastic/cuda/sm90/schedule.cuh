// The scheduler: one thread that draws items, works out their tiles, and has their queries loaded. It is one item ahead
// of the consumers, and has drafted the one after that: to find an item takes half a dozen loads, each for the address
// of the next, which is longer than a short item lasts. The draft lies in shared memory: in the thread's own few
// registers it would not fit.
#pragma once

#include <elastic/cuda/ptx/dependent_launch.cuh>
#include <elastic/cuda/ptx/tma.cuh>
#include <elastic/cuda/sm90/arguments.cuh>
#include <elastic/cuda/sm90/memory.cuh>

namespace elastic::detail {

/// In a loop, for want of registers.
template <class M>
__device__ __forceinline__ void copy_item(sm90_item<M> const& from, sm90_item<M>& to) {
#pragma unroll 1
  for (int i = 0; i < static_cast<int>(sizeof(to) / sizeof(uint4)); ++i)
    reinterpret_cast<uint4*>(&to)[i] = reinterpret_cast<uint4 const*>(&from)[i];
}

template <class Kernel, class Arguments, class Shared>
__device__ __forceinline__ void sm90_schedule(Arguments const& a, Shared& shared,
                                              typename Kernel::layout const& memory) {
  ring_place slot{0, 1};
  int section = 0;
  ptx::wait_for_prerequisites();  // the plan; and all others wait for the first item
  unsigned number = atomicAdd(a.plan.next, 1u);
  for (;; slot.advance()) {
    next_item<Kernel>(a, number, section, shared.draft);
    ptx::wait_long(shared.item_done[slot.at], slot.parity);
    bool const ends = shared.draft.count < 0;
    if (!ends) number = atomicAdd(a.plan.next, 1u);  // no sooner: a drawn item waits for this CTA
    typename Kernel::item_type& next = shared.items[slot.at];
    copy_item(shared.draft, next);
    if (ends) {
      ptx::arrive(shared.item_ready[slot.at]);
      return;
    }
    ptx::arrive_expecting(shared.queries_ready[slot.at], Kernel::layout::slot_bytes);
    ptx::arrive(shared.item_ready[slot.at]);
    // Of the item before, whose number is odd where its slot is.
    if constexpr (Kernel::one_query_slot) ptx::wait_long(shared.queries_done, slot.at ^ 1);
    int const slab = a.shape.packed() ? 0 : next.w.batch;
    for (int w = 0; w < sm90_consumers; ++w)
      for (int panel = 0; panel < panels_of(Kernel::head_dim); ++panel)
        ptx::load_box(memory.queries(slot.at, w) + panel * panel_bytes(sm90_consumer_rows), &a.queries,
                      shared.queries_ready[slot.at], panel * panel_columns,
                      next.q_start + next.first + w * sm90_consumer_rows, next.w.query_head, slab,
                      ptx::cache_policy::evict_first);
  }
}

}  // namespace elastic::detail
