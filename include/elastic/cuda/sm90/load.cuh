// The loaders: two warps that walk the items' tiles and have keys, and values, copied into the stages, over the ends of
// items. A stage holds one tile of 128 keys or two tiles of 64, wherever these lie.
// Rows past the end of the tensor arrive as zeros. Past the end of a packed sequence lie its neighbour's rows: in
// values, which are multiplied by zeros there, they are cleared, since 0 · NaN is NaN.
#pragma once

#include <elastic/cuda/ptx/fence.cuh>
#include <elastic/cuda/ptx/tma.cuh>
#include <elastic/cuda/sm90/arguments.cuh>
#include <elastic/cuda/sm90/memory.cuh>

namespace elastic::detail {

template <class Kernel, class Arguments, class Shared>
struct sm90_loader {
  using layout = typename Kernel::layout;
  using item_type = typename Kernel::item_type;
  static constexpr int columns = Kernel::columns;
  static constexpr int most_parts = columns / sm90_part_columns;

  Arguments const& a;
  Shared& shared;
  layout const& tiles;
  int const lane;
  int const part;  // keys of a tile
  ring_place at{0, 1};  // in the stages of keys, or of values
  int tail_parity = 0;

  /// The tiles of one stage.
  struct stage {
    int row[most_parts];    // of the tensor; past its end where there is no tile
    int limit[most_parts];  // keys inside the sequence
  };

  __device__ __forceinline__ stage find(item_type const& item, int number, stage_card& card) const {
    stage s;
    int const parts = columns / part;
    card.flags = (number + 1) * parts >= item.count ? stage_ends : 0;
#pragma unroll
    for (int i = 0; i < most_parts; ++i) {
      s.row[i] = static_cast<int>(a.source.k.extents[1]);
      s.limit[i] = 0;
      if (i >= parts) continue;
      int const at = number * parts + i;
      tile const t = at < item.count ? item.tiles[at] : tile{-1, tile_kind::clipped};
      bool const exists = t.index >= 0 && std::int64_t{t.index} * part < item.w.k_len;
      int const first = exists ? t.index * part : 0;
      if (exists) {
        s.row[i] = item.k_start + first;
        s.limit[i] = minimum(part, item.w.k_len - first);
      }
      if (t.kind != tile_kind::full || s.limit[i] < part) card.flags |= stage_masked;
      int const asks = exists && t.kind == tile_kind::partial ? stage_asks : 0;
#pragma unroll
      for (int half = 0; half < most_parts; ++half) {
        int const inside = half - i * (part / sm90_part_columns);
        if (inside < 0 || inside >= part / sm90_part_columns) continue;
        card.first[half] = first + inside * sm90_part_columns;
        card.limit[half] = minimum(s.limit[i] - inside * sm90_part_columns, sm90_part_columns);
        card.flags |= asks << half;
      }
    }
    return s;
  }

  /// By one lane.
  __device__ __forceinline__ void copy(CUtensorMap const* map, unsigned char* to, ptx::mbarrier& landed,
                                       item_type const& item, stage const& s) const {
    ptx::arrive_expecting(landed, layout::stage_bytes);
    int const slab = a.shape.packed() ? 0 : item.w.batch;
#pragma unroll
    for (int i = 0; i < most_parts; ++i)
      if (i * part < columns)
#pragma unroll
        for (int panel = 0; panel < panels_of(Kernel::head_dim); ++panel)
          ptx::load_box(to + panel * panel_bytes(columns) + i * part * panel_row_bytes, map, landed,
                        panel * panel_columns, s.row[i], item.w.kv_head, slab, ptx::cache_policy::evict_last);
  }

  __device__ __forceinline__ void load_keys(item_type const& item, int number) {
    stage_card card;
    stage const s = find(item, number, card);
    ptx::wait(shared.keys_done[at.at], at.parity);
    if (lane == 0) {
      shared.cards[at.parity][at.at] = card;
      copy(&a.keys, tiles.keys(at.at), shared.keys_ready[at.at], item, s);
    }
  }

  __device__ __forceinline__ void load_values(item_type const& item, int number) {
    stage_card card;  // the other loader's affair
    stage const s = find(item, number, card);
    bool cut = false;
    if (a.shape.packed())
#pragma unroll
      for (int i = 0; i < most_parts; ++i) cut |= s.limit[i] > 0 && s.limit[i] < part;
    ptx::wait(shared.values_done[at.at], at.parity);
    if (lane == 0)
      copy(&a.values, tiles.values(at.at), cut ? shared.tail_landed : shared.values_ready[at.at], item, s);
    if (cut) {
      ptx::wait(shared.tail_landed, tail_parity);
      tail_parity ^= 1;
#pragma unroll
      for (int i = 0; i < most_parts; ++i)
        if (s.limit[i] > 0) clear_rows(tiles.values(at.at), i * part + s.limit[i], (i + 1) * part);
      ptx::fence_async();
      __syncwarp();
      if (lane == 0) ptx::arrive(shared.values_ready[at.at]);
    }
  }

  __device__ __forceinline__ void clear_rows(unsigned char* stage, int from, int to) const {
    for (int panel = 0; panel < panels_of(Kernel::head_dim); ++panel) {
      unsigned char* const rows = stage + panel * panel_bytes(columns);
      for (int at = from * panel_row_bytes + lane * 16; at < to * panel_row_bytes; at += 32 * 16)
        *reinterpret_cast<uint4*>(rows + at) = uint4{0, 0, 0, 0};
    }
  }

  /// load(item, number) for every stage of every item.
  template <class Load>
  __device__ __forceinline__ void walk(Load const& load) {
    for (ring_place slot{0, 0};; slot.advance()) {
      ptx::wait(shared.item_ready[slot.at], slot.parity);
      item_type const& item = shared.items[slot.at];
      if (item.count < 0) return;
      // An item without tiles gets a stage of zeros, all masked.
      int const stages = maximum(ceil_div(item.count, columns / part), 1);
#pragma unroll 1
      for (int i = 0; i < stages; ++i, at.advance()) {
        __syncwarp();  // a lane that fell a phase behind would wait for ever
        load(item, i);
      }
      ptx::arrive(shared.item_done[slot.at]);
    }
  }

  __device__ __forceinline__ void run_keys() {
    walk([this](item_type const& item, int number) { load_keys(item, number); });
    ptx::wait(shared.keys_done[at.at], at.parity);
    if (lane == 0) {
      shared.cards[at.parity][at.at].flags = stage_last;
      ptx::arrive(shared.keys_ready[at.at]);
    }
  }

  __device__ __forceinline__ void run_values() {
    walk([this](item_type const& item, int number) { load_values(item, number); });
  }
};

}  // namespace elastic::detail
