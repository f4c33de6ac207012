// The loaders: two warps that walk the items' tiles and have keys, and values, copied into the stages, over the ends of
// items. A stage holds one tile of 128 keys or two tiles of 64, wherever these lie.
// Rows past the end of the tensor arrive as zeros. Past the end of a packed sequence lie its neighbour's rows: in
// values, which are multiplied by zeros there, they are cleared, since 0 · NaN is NaN.
#pragma once

#include <elastic/cuda/ptx/elect.cuh>
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
  static_assert(sm90_part_columns == 64 && halves <= 2);

  Arguments const& a;
  Shared& shared;
  layout const& memory;
  int const lane;
  bool const split;       // a stage holds two tiles of 64 keys
  ring_place ring{0, 1};  // in the stages of keys, or of values
  int tail_parity = 0;

  __device__ __forceinline__ sm90_loader(Arguments const& arguments, Shared& s, layout const& l, int own_lane)
      : a(arguments), shared(s), memory(l), lane(own_lane), split(tile_of<Kernel>(arguments).columns < columns) {}

  /// Keys of a tile.
  __device__ __forceinline__ int part() const { return split ? sm90_part_columns : columns; }

  /// A tile as a lane keeps it, in few registers.
  struct found {
    int row;   // of the tensor, at which it starts; past its end where there is no tile
    int word;  // flags of its stage, and above them its keys inside the sequence, 0 where there is no tile

    __device__ __forceinline__ int flags() const { return word & 0xff; }
    __device__ __forceinline__ int limit() const { return word >> 8; }
  };
  struct stage {
    found tiles[halves];  // the second without keys where one tile fills the stage
  };

  /// What an item's stages have in common.
  struct place {
    int k_start;
    int head;
    int slab;
  };

  /// Does a tile start at this half of a stage?
  __device__ __forceinline__ bool starts(int half) const { return half == 0 || split; }

  /// The item's tile of this number, or none.
  __device__ __forceinline__ found find(item_type const& item, int number) const {
    int const bits = part() == 64 ? 6 : 7;
    tile const t = number < item.count ? item.tiles[number] : tile{-1, tile_kind::clipped};
    int row = static_cast<int>(a.source.k.extents[1]), limit = 0,
        flags = number + 1 >= item.count ? stage_ends_item : 0;
    if (static_cast<unsigned>(t.index) <= static_cast<unsigned>(item.w.k_len - 1) >> bits) {
      row = item.k_start + (t.index << bits);
      limit = minimum(part(), item.w.k_len - (t.index << bits));
      if (t.kind == tile_kind::partial) flags |= split ? stage_asks << number % 2 : stage_asks * ((1 << halves) - 1);
    }
    if (t.kind != tile_kind::full || limit < part()) flags |= stage_masked;
    return {row, limit << 8 | flags};
  }

  /// What lanes know, to all: the lane `from`, and where a stage holds two tiles the next one.
  __device__ __forceinline__ stage tell(found const& own, int from) const {
    stage s;
#pragma unroll
    for (int h = 0; h < halves; ++h)
      s.tiles[h] =
          starts(h) ? found{__shfl_sync(~0u, own.row, from + h), __shfl_sync(~0u, own.word, from + h)} : found{0, 0};
    return s;
  }

  /// By one lane. Bytes may land before they are expected: no phase ends before the arrival that expects them.
  __device__ __forceinline__ void copy(CUtensorMap const* map, unsigned char* to, ptx::mbarrier& landed, place const& p,
                                       stage const& s) const {
#pragma unroll
    for (int h = 0; h < halves; ++h) {
      if (!starts(h)) continue;
#pragma unroll
      for (int panel = 0; panel < panels_of(Kernel::head_dim); ++panel)
        ptx::load_box(to + panel * panel_bytes(columns) + h * sm90_part_columns * panel_row_bytes, map, landed,
                      panel * panel_columns, s.tiles[h].row, p.head, p.slab, ptx::cache_policy::evict_last);
    }
  }

  __device__ __forceinline__ void load_keys(place const& p, stage const& s) {
    stage_card card = {};
#pragma unroll
    for (int h = 0; h < halves; ++h) {
      int const before = starts(h) ? 0 : h * sm90_part_columns;  // keys of the tile in the half before
      found const t = starts(h) ? s.tiles[h] : s.tiles[0];
      card.flags |= t.flags();
      card.first[h] = t.row - p.k_start + before;
      card.limit[h] = minimum(t.limit() - before, sm90_part_columns);
    }
    ptx::wait(shared.keys_done[ring.at], ring.parity);
    if (ptx::elect()) {
      copy(&a.keys, memory.keys(ring.at), shared.keys_ready[ring.at], p, s);
      shared.cards[ring.parity][ring.at] = card;
      ptx::arrive_expecting(shared.keys_ready[ring.at], layout::stage_bytes);
    }
  }

  __device__ __forceinline__ void load_values(place const& p, stage const& s) {
    bool cut = false;
    if (a.shape.packed())
#pragma unroll
      for (int h = 0; h < halves; ++h) cut |= s.tiles[h].limit() > 0 && s.tiles[h].limit() < part();
    ptx::mbarrier& landed = cut ? shared.tail_landed : shared.values_ready[ring.at];
    ptx::wait(shared.values_done[ring.at], ring.parity);
    if (ptx::elect()) {
      copy(&a.values, memory.values(ring.at), landed, p, s);
      ptx::arrive_expecting(landed, layout::stage_bytes);
    }
    if (cut) {
      ptx::wait(shared.tail_landed, tail_parity);
      tail_parity ^= 1;
#pragma unroll
      for (int h = 0; h < halves; ++h)
        if (int const begin = h * sm90_part_columns, limit = s.tiles[h].limit(); limit > 0)
          clear_rows(memory.values(ring.at), begin + limit, begin + part());
      ptx::fence_async();
      __syncwarp();
      if (lane == 0) ptx::arrive(shared.values_ready[ring.at]);
    }
  }

  __device__ __forceinline__ void clear_rows(unsigned char* stage, int from, int to) const {
    for (int panel = 0; panel < panels_of(Kernel::head_dim); ++panel) {
      unsigned char* const rows = stage + panel * panel_bytes(columns);
      for (int at = from * panel_row_bytes + lane * 16; at < to * panel_row_bytes; at += 32 * 16)
        *reinterpret_cast<uint4*>(rows + at) = uint4{0, 0, 0, 0};
    }
  }

  /// load(place, stage) for every stage of every item. The lanes find 32 tiles at once, each its own: tile by tile it
  /// took most of a stage's time, and issue slots that consumers want.
  template <class Load>
  __device__ __forceinline__ void walk(Load const& load) {
    for (ring_place slot{0, 0};; slot.advance()) {
      ptx::wait(shared.item_ready[slot.at], slot.parity);
      item_type const& item = shared.items[slot.at];
      if (item.count < 0) return;
      place const p{item.k_start, item.w.kv_head, a.shape.packed() ? 0 : item.w.batch};
      // An item without tiles gets a stage of zeros, all masked.
      int const count = maximum(item.count, 1), step = split ? 2 : 1;
      found own;
#pragma unroll 1
      for (int i = 0; i < count; i += step, ring.advance()) {
        if (i % 32 == 0) own = find(item, i + lane);
        __syncwarp();  // a lane that fell a phase behind would wait for ever
        load(p, tell(own, i % 32));
      }
      ptx::arrive(shared.item_done[slot.at]);
    }
  }

  __device__ __forceinline__ void run_keys() {
    walk([this](place const& p, stage const& s) { load_keys(p, s); });
    ptx::wait(shared.keys_done[ring.at], ring.parity);
    if (lane == 0) {
      shared.cards[ring.parity][ring.at].flags = stage_none;
      ptx::arrive(shared.keys_ready[ring.at]);
    }
  }

  __device__ __forceinline__ void run_values() {
    walk([this](place const& p, stage const& s) { load_values(p, s); });
  }
};

}  // namespace elastic::detail
