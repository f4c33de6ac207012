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
  static constexpr int halves = columns / sm90_part_columns;  // of a stage, or just one

  Arguments const& a;
  Shared& shared;
  layout const& tiles;
  int const lane;
  int const part;       // keys of a tile
  ring_place at{0, 1};  // in the stages of keys, or of values
  int tail_parity = 0;

  /// What a lane knows of a stage: lane h of the half h, the others the same again.
  struct stage {
    int row;    // of the tensor, at which the half's tile starts; past its end where there is no tile
    int limit;  // keys of that tile inside the sequence
    int first;  // the half's first key
    int flags;  // of the whole stage
  };

  __device__ __forceinline__ int half() const { return lane % halves; }
  /// Keys of the half's tile before the half.
  __device__ __forceinline__ int inside() const { return half() * sm90_part_columns % part; }

  __device__ __forceinline__ stage find(item_type const& item, int number) const {
    int const parts = columns / part, at = number * parts + half() * sm90_part_columns / part;
    tile const t = at < item.count ? item.tiles[at] : tile{-1, tile_kind::clipped};
    bool const exists = t.index >= 0 && std::int64_t{t.index} * part < item.w.k_len;
    int const first = exists ? t.index * part : 0, limit = exists ? minimum(part, item.w.k_len - first) : 0;
    int flags = (number + 1) * parts >= item.count ? stage_ends : 0;
    if (t.kind != tile_kind::full || limit < part) flags |= stage_masked;
    if (exists && t.kind == tile_kind::partial) flags |= stage_asks << half();
    return {exists ? item.k_start + first : static_cast<int>(a.source.k.extents[1]), limit, first + inside(),
            static_cast<int>(__reduce_or_sync(~0u, static_cast<unsigned>(flags)))};
  }

  /// The lanes at which a tile starts have it copied. Bytes may land before they are expected: a phase ends with the
  /// arrival that expects them, which lane 0 owes it.
  __device__ __forceinline__ void copy(CUtensorMap const* map, unsigned char* to, ptx::mbarrier& landed,
                                       item_type const& item, stage const& s) const {
    int const slab = a.shape.packed() ? 0 : item.w.batch;
    if (lane < halves && inside() == 0)
#pragma unroll
      for (int panel = 0; panel < panels_of(Kernel::head_dim); ++panel)
        ptx::load_box(to + panel * panel_bytes(columns) + half() * sm90_part_columns * panel_row_bytes, map, landed,
                      panel * panel_columns, s.row, item.w.kv_head, slab, ptx::cache_policy::evict_last);
  }

  __device__ __forceinline__ void load_keys(item_type const& item, int number) {
    stage const s = find(item, number);
    stage_card card;  // of lane 0, which writes it and arrives
    card.flags = s.flags;
#pragma unroll
    for (int h = 0; h < halves; ++h) {
      card.first[h] = __shfl_sync(~0u, s.first, h);
      card.limit[h] = __shfl_sync(~0u, minimum(s.limit - inside(), sm90_part_columns), h);
    }
    ptx::wait(shared.keys_done[at.at], at.parity);
    copy(&a.keys, tiles.keys(at.at), shared.keys_ready[at.at], item, s);
    if (lane == 0) {
      shared.cards[at.parity][at.at] = card;
      ptx::arrive_expecting(shared.keys_ready[at.at], layout::stage_bytes);
    }
  }

  __device__ __forceinline__ void load_values(item_type const& item, int number) {
    stage const s = find(item, number);
    bool const cut = a.shape.packed() && __any_sync(~0u, s.limit > 0 && s.limit < part);
    ptx::mbarrier& landed = cut ? shared.tail_landed : shared.values_ready[at.at];
    ptx::wait(shared.values_done[at.at], at.parity);
    copy(&a.values, tiles.values(at.at), landed, item, s);
    if (lane == 0) ptx::arrive_expecting(landed, layout::stage_bytes);
    if (cut) {
      ptx::wait(shared.tail_landed, tail_parity);
      tail_parity ^= 1;
#pragma unroll
      for (int h = 0; h < halves; ++h) {
        int const limit = __shfl_sync(~0u, s.limit, h), begin = h * sm90_part_columns;
        if (begin % part == 0 && limit > 0) clear_rows(tiles.values(at.at), begin + limit, begin + part);
      }
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
