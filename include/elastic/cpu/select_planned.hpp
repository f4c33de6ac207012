// A plan on the CPU: the tiles that the mode itself names are walked, and only its partial ones asked pair
// by pair.
#pragma once

#include <elastic/cpu/select_lists.hpp>
#include <elastic/selectors/planned.hpp>

namespace elastic {

template <class Mode, element T>
void select_on(cpu const&, planned<Mode> const& s, typename planned<Mode>::storage const& storage,
               select_inputs<T> const& in, workspace) {
  block_lists const& lists = storage.lists;
  lists.clear();
  detail::parallel_lists(in, lists.block_rows, [&](where const& w, int query_block) {
    std::int64_t const at = lists.row(w.batch, w.query_head, query_block);
    auto const tiles = tiles_of(s.inner, w, query_block, {lists.block_rows, lists.block_columns});
    for (int i = 0; i < minimum(tiles.count, lists.capacity); ++i) {
      tile const next = tiles[i];
      std::int32_t const entry = next.kind == tile_kind::partial ? s.entry_of(w, query_block, next.index) : next.index;
      if (entry != s.nothing) lists.entries_of(at)[lists.count[at]++] = entry;
    }
  });
}

}  // namespace elastic
