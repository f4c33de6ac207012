// Checks of what the host did not write itself: lists and row offsets in a backend's memory are read
// (core/readable.hpp) and then judged by the very checks, and in the words, that host memory gets.
#pragma once

#include <string>

#include <elastic/core/check.hpp>
#include <elastic/core/readable.hpp>
#include <elastic/modes/block_sparse.hpp>
#include <elastic/modes/dense_heads.hpp>

namespace elastic::detail {

/// Row offsets as check_cu_seqlens wants them, of sequences no longer than the host was told.
inline void validate_starts(char const* name, strided_view<std::int32_t const, 1> const& starts, std::int64_t rows,
                            char const* most_name, int most) {
  int const longest = check_cu_seqlens(name, {starts.data, static_cast<std::size_t>(starts.extents[0])}, rows);
  require(longest <= most, most_name, most, "the longest sequence's " + std::to_string(longest) + " rows or more");
}

/// The same lists with memory that the host can read.
struct readable_lists {
  readable<std::int32_t const, 1> entries;
  readable<std::int64_t const, 3> begin;
  readable<std::int32_t const, 3> count;

  template <class Backend>
  readable_lists(Backend const& backend, block_sparse const& lists, void* stream)
      : entries(readable_on(backend, strided_view<std::int32_t const, 1>(lists.entries, {lists.size}), stream)),
        begin(readable_on(backend, lists.begin, stream)),
        count(readable_on(backend, lists.count, stream)) {}

  block_sparse in_place_of(block_sparse lists) const {
    lists.entries = entries.view.data;
    lists.begin = begin.view;
    lists.count = count.view;
    return lists;
  }
};

/// The lists of a mode, be they the mode itself or a part of it; `p` with cu_seqlens in host memory.
template <class Backend, class Mode>
void validate_lists(Backend const& backend, Mode const& mode, problem const& p, void* stream) {
  if constexpr (std::is_same_v<Mode, block_sparse>) {
    readable_lists(backend, mode, stream).in_place_of(mode).validate(p);
  } else if constexpr (requires {
                         block_sparse(mode.lists);
                         mode.validate(p);
                       }) {
    readable_lists const lists(backend, mode.lists, stream);
    Mode read = mode;
    read.lists = lists.in_place_of(mode.lists);
    read.validate(p);
  } else if constexpr (Backend::on_host && requires { mode.validate(p); }) {
    mode.validate(p);
  }
}

/// Any flag is a valid one; lists there are where not all heads are dense.
template <class Backend, class Inner>
void validate_lists(Backend const& backend, dense_heads<Inner> const& mode, problem const& p, void* stream) {
  if (mode.choice != dense_choice::all) validate_lists(backend, mode.inner, p, stream);
}

}  // namespace elastic::detail
