// A mode planned ahead: for each block of query rows, which blocks of keys hold a kept pair at all, and
// which hold nothing but kept pairs, so that the others are not visited and keeps is asked in few. For
// bare predicates, intersections and unions, whose tiles are otherwise all partial. It attends exactly as
// the inner mode does; the plan reads no data, costs one keeps per pair of an undecided tile, and serves
// every call of the same shapes.
#pragma once

#include <elastic/modes/listed.hpp>
#include <elastic/selectors/block_lists.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

template <class Mode>
struct planned {
  static_assert(attention_mode<Mode>, "elastic: planned takes a mode that reads no data, not a selector");
  static_assert(routes<Mode> == 1, "elastic: plan the modes inside a hybrid, not the hybrid");

  Mode inner;

  planned() = default;
  planned(Mode mode) : inner(mode) {}

  struct storage {
    Mode inner;
    block_lists lists;
    listed<Mode> selected() const { return {inner, lists.selected()}; }
  };

  /// Of the lists: 128 × 128, or what the inner mode's own blocks divide it into.
  ELASTIC_HOST_DEVICE tile_shape blocks() const {
    return common_tile(largest_tile_of(inner), {chunk_alignment, chunk_alignment});
  }

  storage bind(problem const& p, workspace_cursor& cursor) const {
    return {inner, block_lists::bind(p, blocks().rows, blocks().columns, cursor)};
  }

  void check(problem const& p) const { check_mode(inner, p); }

  /// What decode uses: there the cache grows, and a plan would not fit it.
  Mode const& at_decode() const { return inner; }

  /// The list's entry for a block by asking every pair in bounds: its index, ~index where some pairs are
  /// not kept, or `nothing`.
  static constexpr std::int32_t nothing = std::numeric_limits<std::int32_t>::min();

  ELASTIC_HOST_DEVICE std::int32_t entry_of(where const& w, int query_block, int key_block) const {
    tile_shape const shape = blocks();
    tile_rows const rows(w, query_block, shape);
    int const end = minimum((key_block + 1) * shape.columns, w.k_len);
    bool some = false, all = true;
    for (int q = rows.first; q <= rows.last; ++q)
      for (int k = key_block * shape.columns; k < end && w.admits(q, k); ++k) {
        bool const kept = inner.keeps(w, q, k);
        some |= kept;
        all &= kept;
        if (some && !all) return ~key_block;
      }
    return some ? key_block : nothing;
  }
};

template <class Mode>
planned(Mode) -> planned<Mode>;

static_assert(selector<planned<block_sparse>>);

}  // namespace elastic
