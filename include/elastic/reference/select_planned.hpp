// A plan on the reference backend: every block of every list is asked pair by pair; no tile is believed.
#pragma once

#include <elastic/reference/select_lists.hpp>
#include <elastic/selectors/planned.hpp>

namespace elastic {

template <class Mode, element T>
void select_on(reference const&, planned<Mode> const& s, typename planned<Mode>::storage const& storage,
               select_inputs<T> const& in, workspace) {
  block_lists const& lists = storage.lists;
  lists.clear();
  detail::for_each_list(in, lists.block_rows, [&](where const& w, int query_block) {
    std::int64_t const at = lists.row(w.batch, w.query_head, query_block);
    for (int j = ceil_div(w.k_len, lists.block_columns) - 1; j >= 0; --j) {
      std::int32_t const entry = s.entry_of(w, query_block, j);
      if (entry != s.nothing) lists.entries_of(at)[lists.count[at]++] = entry;
    }
  });
}

}  // namespace elastic
