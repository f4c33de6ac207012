// A consumer warpgroup: 64 query rows of every item. It sees one endless stream of key stages. In each step
//   S(next) = Q·Kᵀ and O += P·V run together, S first; while P·V still runs, P(next) comes from S(next).
// P has two buffers, and two steps make one loop: stages are known at compile time, and no P moves. In a loop of one
// step P(next) became P, and ptxas gave both the same registers while the product still read them. An item's last card
// says that it ends; its successor's first product then runs beside its own last one.
#pragma once

#include <elastic/cuda/ptx/wgmma.cuh>
#include <elastic/cuda/sm90/epilogue.cuh>

namespace elastic::detail {

template <class Kernel, class Arguments, class Shared>
struct sm90_consumer {
  using T = typename Kernel::element_type;
  using layout = typename Kernel::layout;
  using mode_type = std::remove_cvref_t<decltype(Arguments::mode)>;
  static constexpr int head_dim = Kernel::head_dim;
  static constexpr int columns = Kernel::columns;
  using probabilities = std::uint32_t[columns / 4];

  Arguments const& a;
  Shared& shared;
  layout const& memory;
  int const me;                                             // which warpgroup of consumers
  int const thread;                                         // in it
  float const factor;                                       // c = softmax_scale · log₂e; a hook scales by itself
  std::uint32_t const query_tiles, key_tiles, value_tiles;  // descriptors of slot 0 and stage 0

  float scores[columns / 2];
  float output[head_dim / 2];
  softmax_rows rows;
  ring_place slot{1, 1};  // of the current item
  int phase = 0;
  bool storing = false;       // the item before has not been handed back: its store may still read the slot
  bool holds_values = false;  // of the step before
  bool begins;                // the next keys are the first of an item, or there are none

  __device__ __forceinline__ sm90_consumer(Arguments const& arguments, Shared& s, layout const& l, int warpgroup, int t)
      : a(arguments),
        shared(s),
        memory(l),
        me(warpgroup),
        thread(t),
        factor(scoring_mode<mode_type> ? log2_e : a.shape.softmax_scale * log2_e),
        query_tiles(descriptor_low(ptx::shared_address(l.queries(0, warpgroup)), 16)),
        key_tiles(descriptor_low(ptx::shared_address(l.keys(0)), 16)),
        value_tiles(descriptor_low(ptx::shared_address(l.values(0)), panel_bytes(columns))) {}

  /// Asked anew wherever it is needed: no registers hold it through the loop.
  __device__ __forceinline__ fragment_place at() const {
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    return fragment_place(t / 128 - 1, t % 128);
  }

  /// Hands a stage back, once for each warp.
  __device__ __forceinline__ void release(ptx::mbarrier& done) const {
    if (thread % 32 == 0) ptx::arrive(done);
  }

  /// Where queries have one slot: the next ones travel under the softmax of this item's last keys.
  __device__ __forceinline__ void release_queries(int flags) const {
    if constexpr (Kernel::one_query_slot)
      if (flags & stage_ends_item) release(shared.queries_done);
  }

  /// Of this stage. The first warpgroup's first turn has nobody to wait for. A turn passes as the exponentials begin:
  /// sooner, and both warpgroups take theirs together for longer; later, and the other one waits.
  __device__ __forceinline__ void await_turn(int stage) const {
    if constexpr (Kernel::tiling.turns == sm90_turns::alternate) ptx::wait(shared.turn[me], stage ^ (me == 0));
  }
  __device__ __forceinline__ void pass_turn() const {
    if constexpr (Kernel::tiling.turns == sm90_turns::alternate) release(shared.turn[me ^ 1]);
  }

  /// S = Q·Kᵀ, begun.
  __device__ __forceinline__ void multiply_keys(int stage) {
    std::uint32_t const q = query_tiles + static_cast<std::uint32_t>(slot.at * (layout::slot_step >> 4));
    std::uint32_t const k = key_tiles + static_cast<std::uint32_t>(stage * (layout::stage_bytes >> 4));
    ptx::fence_wgmma();
#pragma unroll
    for (int i = 0; i < head_dim / 16; ++i)
      ptx::wgmma_shared<T, columns>(scores, q + column_step(i, sm90_consumer_rows), k + column_step(i, columns), i > 0);
    ptx::end_wgmma_group();
  }

  /// O += P·V, begun.
  __device__ __forceinline__ void multiply_values(probabilities& p, int stage) {
    std::uint32_t const v = value_tiles + static_cast<std::uint32_t>(stage * (layout::stage_bytes >> 4));
    ptx::fence_wgmma();
#pragma unroll
    for (int i = 0; i < columns / 16; ++i) {
#pragma unroll
      for (int c = 0; c + 128 <= head_dim; c += 128)
        ptx::wgmma_registers<T, 128>(output + c / 2, p + 4 * i, v + row_step(i) + column_step(c / 16, columns));
      if constexpr (constexpr int rest = head_dim % 128; rest > 0)
        ptx::wgmma_registers<T, rest>(output + (head_dim - rest) / 2, p + 4 * i,
                                      v + row_step(i) + column_step((head_dim - rest) / 16, columns));
    }
    ptx::end_wgmma_group();
  }

  /// What a stage's card says, in all lanes. Lane 0 reads it, which hands stages back: so the loader writes the next
  /// card there after all reads.
  __device__ __forceinline__ int read(int const& word) const {
    int value = 0;
    if (thread % 32 == 0) value = word;
    return __shfl_sync(~0u, value, 0);
  }

  __device__ __forceinline__ stage_card read(stage_card const& card) const {
    stage_card all;
    all.flags = read(card.flags);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      all.first[half] = read(card.first[half]);
      all.limit[half] = read(card.limit[half]);
    }
    return all;
  }

  /// What a stage's card says of it, once its keys are there; the same in all threads.
  __device__ __forceinline__ int flags_of(int stage, int parity) const {
    return read(shared.cards[parity ^ 1][stage].flags);
  }

  __device__ __forceinline__ void await_queries() {
    slot.advance();
    ptx::wait(shared.queries_ready[slot.at], slot.parity);
  }

  __device__ __forceinline__ void start_item() {
#pragma unroll
    for (int i = 0; i < head_dim / 2; ++i) output[i] = 0;
    int const exist = shared.items[slot.at].rows;
    rows.start(at().row(0) < exist, at().row(1) < exist);
  }

  __device__ __forceinline__ void end_item(int slot_of_item) {
    auto const& item = shared.items[slot_of_item];
    float2 const weight = finish_rows(a, item, at(), rows, factor);
    if constexpr (Kernel::one_query_slot)
      store_registers<head_dim, T>(a, item, at(), weight, output);
    else
      store_output<head_dim, T>(a, item, me, thread, weight, output, memory.queries(slot_of_item, me));
  }

  // Keys are handed back before their card is read: a stage has two cards, in turn.
  __device__ __forceinline__ void hook(int stage, int parity) {
    if constexpr (scoring_mode<mode_type>)
      apply_hook(a.mode, shared.items[slot.at], read(shared.cards[parity ^ 1][stage]), at(), a.shape.softmax_scale,
                 scores);
  }
  __device__ __forceinline__ void mask(int stage, int parity) {
    apply_mask(a.mode, shared.items[slot.at], read(shared.cards[parity ^ 1][stage]), at(), scores);
  }

  __device__ __forceinline__ void take(probabilities& p) {
    rows.take<T>(scores, p, factor, [this] { pass_turn(); });
  }

  /// Keys in `Stage`, values in the other one. False: that was the last.
  template <int Stage>
  __device__ __forceinline__ bool step(probabilities& now, probabilities& next) {
    int const parity = Stage == 1 ? phase : phase ^ 1;
    if (storing) {
      if (thread == 0) ptx::wait_stores_read();
      ptx::arrive(shared.item_done[slot.at ^ 1]);
    }
    storing = false;
    ptx::wait(shared.keys_ready[Stage], parity);
    ptx::wait_wgmma<0>();
    ptx::pin(output);
    if (holds_values) release(shared.values_done[Stage]);
    if (rows.corrects) rows.correct(output);

    bool const first = begins, stop = first && (flags_of(Stage, parity) & stage_none);
    if (first && !stop) await_queries();
    await_turn(Stage);
    multiply_keys(Stage);  // after the last stage too, to no use: ptxas serialises a conditional wgmma
    ptx::wait(shared.values_ready[1 - Stage], phase);
    multiply_values(now, 1 - Stage);
    holds_values = true;
    int const flags = flags_of(Stage, parity);
    ptx::wait_wgmma<1>();
    ptx::pin(scores);
    release(shared.keys_done[Stage]);
    begins = flags & stage_ends_item;
    release_queries(flags);
    if (!stop) hook(Stage, parity);
    if ((flags & stage_masked) || first) {
      if (flags & stage_masked) mask(Stage, parity);
      if (first) {
        ptx::wait_wgmma<0>();
        ptx::pin(output);
        release(shared.values_done[1 - Stage]);
        holds_values = false;
        end_item(stop ? slot.at : slot.at ^ 1);
        if (stop) {
          pass_turn();  // the other warpgroup waits for it before its own stop
          return false;
        }
        storing = true;
        start_item();
      }
    }
    take(next);
    return true;
  }

  __device__ __forceinline__ void run() {
    ptx::wait(shared.keys_ready[0], 0);
    int const flags = flags_of(0, 0);
    if (flags & stage_none) return;
    begins = flags & stage_ends_item;
    probabilities even, odd;
    await_queries();
    await_turn(0);
    multiply_keys(0);
    start_item();
    ptx::wait_wgmma<0>();
    ptx::pin(scores);
    release(shared.keys_done[0]);
    release_queries(flags);
    hook(0, 0);
    if (flags & stage_masked) mask(0, 0);
    take(even);
#pragma unroll 1
    for (;; phase ^= 1) {
      if (!step<1>(even, odd)) break;
      if (!step<0>(odd, even)) break;
    }
    if (thread == 0) ptx::wait_stores();
  }
};

}  // namespace elastic::detail
