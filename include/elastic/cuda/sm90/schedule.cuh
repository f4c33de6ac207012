// The scheduler: one thread that draws items, one ahead of the consumers, works out their tiles, and has their
// queries loaded. It writes an item where it will be read: in its own few registers one would not fit.
#pragma once

#include <elastic/cuda/ptx/dependent_launch.cuh>
#include <elastic/cuda/ptx/tma.cuh>
#include <elastic/cuda/sm90/arguments.cuh>
#include <elastic/cuda/sm90/memory.cuh>

namespace elastic::detail {

template <class Kernel, class Arguments, class Shared>
__device__ __forceinline__ void sm90_schedule(Arguments const& a, Shared& shared,
                                              typename Kernel::layout const& tiles) {
  ring_place slot{0, 1};
  int section = 0;
  ptx::wait_for_prerequisites();  // the plan; and all others wait for the first item
  unsigned number = atomicAdd(a.plan.next, 1u);
  for (;; slot.advance()) {
    ptx::wait_long(shared.item_done[slot.at], slot.parity);
    typename Kernel::item_type& next = shared.items[slot.at];
    next_item<Kernel>(a, number, section, next);
    if (next.count >= 0) number = atomicAdd(a.plan.next, 1u);  // in flight until it is needed
    if (next.count < 0) {
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
        ptx::load_box(tiles.queries(slot.at, w) + panel * panel_bytes(sm90_consumer_rows), &a.queries,
                      shared.queries_ready[slot.at], panel * panel_columns,
                      next.q_start + next.first + w * sm90_consumer_rows, next.w.query_head, slab,
                      ptx::cache_policy::evict_first);
  }
}

}  // namespace elastic::detail
