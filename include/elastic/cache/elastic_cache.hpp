// The elastic KV cache: a paged cache whose pages are handed back once no query to come sees any of their
// keys. A KV head's pages go only where all its query heads have forgotten them (modes/forgets.hpp), so that
// after prefill the cache holds
//   2·head_dim·sizeof(T)·Σ over (sequence, KV head) of (sparse ? min(N, sink + local) : N)
// bytes, rounded up to pages. The table marks what was handed back as absent (−1); the pages belong to the
// caller, and the kernels never touch an absent one. Hand back again as the cache grows.
#pragma once

#include <algorithm>
#include <vector>

#include <elastic/core/check.hpp>
#include <elastic/core/readable.hpp>
#include <elastic/modes/forgets.hpp>

namespace elastic {

/// (batch, kv_heads, pages of the longest sequence): the pages of a cache, for writing.
using page_table = strided_view<std::int32_t, 3>;

inline constexpr std::int32_t absent_page = -1;

/// What a call handed back.
struct handed_back {
  std::vector<std::int32_t> pages;  // that the table named and names no more, ascending
  std::size_t bytes = 0;            // of their keys and values
};

namespace detail {

/// Pages [first, last) of a KV head that no query of its group at `position` or later sees.
template <class M>
key_range forgotten_pages(M const& mode, problem const& p, const_assignment_view const& assignment, int batch,
                          int kv_head, int page_size, int pending) {
  key_range keys{0, longest_sequence};
  for (int h = kv_head * p.group(); h < (kv_head + 1) * p.group(); ++h) {
    where const w = locate(p, batch, h, assignment(batch, h));
    keys = common_keys(keys, forgotten_by(mode, w, maximum(w.k_len - pending, 0)));
  }
  return {ceil_div(keys.begin, page_size), maximum(keys.end, 0) / page_size};
}

/// `p`, `named` (the table as it is) and `assignment` in host memory; absent(batch, kv_head, pages) writes the table.
template <class T, class M, class Write>
handed_back hand_back_pages(M const& mode, problem const& p, paged_cache<T> const& cache,
                            strided_view<std::int32_t const, 3> const& named, const_assignment_view const& assignment,
                            int pending, Write&& absent) {
  std::int64_t const pages = cache.k_pages.extents[0];
  std::vector<char> dropped(static_cast<std::size_t>(pages)), kept(dropped.size());
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.kv_heads; ++h) {
      key_range const gone = forgotten_pages(mode, p, assignment, b, h, cache.run(), pending);
      for (int i = 0; i < static_cast<int>(named.extents[2]); ++i)
        if (std::int32_t const page = named(b, h, i); page >= 0 && page < pages)
          (i >= gone.begin && i < gone.end ? dropped : kept)[static_cast<std::size_t>(page)] = 1;
      if (gone.size() > 0) absent(b, h, gone);
    }
  handed_back result;
  for (std::int32_t page = 0; page < pages; ++page)  // a page that other rows of the table still name stays
    if (dropped[static_cast<std::size_t>(page)] && !kept[static_cast<std::size_t>(page)]) result.pages.push_back(page);
  result.bytes = result.pages.size() * static_cast<std::size_t>(cache.run()) *
                 static_cast<std::size_t>(cache.k_pages.extents[2]) * 2 * sizeof(T);
  return result;
}

}  // namespace detail

}  // namespace elastic
