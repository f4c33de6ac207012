// An explicit block mask into lists on the CPU, parallel over the lists.
#pragma once

#include <elastic/cpu/select_lists.hpp>
#include <elastic/selectors/block_mask.hpp>

namespace elastic {

template <element T>
void select_on(cpu const&, block_mask const& s, block_lists const& lists, select_inputs<T> const& in, workspace) {
  lists.clear();
  detail::parallel_lists(in, s.block_rows, [&](where const& w, int query_block) {
    std::int64_t const at = lists.row(w.batch, w.query_head, query_block);
    lists.count[at] = s.keep(w, query_block, lists.entries_of(at));
  });
}

}  // namespace elastic
