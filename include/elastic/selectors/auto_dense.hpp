// A selector that falls back to full attention where it would lose. The user writes it on purpose, for a head that
// goes dense sees every key. It decides by a backend's cost model (cost_model.hpp),
//   before selection, for the whole problem and from its shape, where the caller gives a `density`, or where selection
//   and the rows of lists cost more than full attention, whatever is found: goes_dense(p). Where it says so, select
//   does nothing, and forward is that of `full`. With a `density` the selector's own forward is the other choice;
//   without one the decision comes after selection, for each head from the lengths of its lists:
//   selected().is_dense(w) says which went dense. The lists are those of one call of select: each chunk of query rows
//   decides for itself.
// Inside a composition it is asked as a part: part<1>(attend.mode()), part<1>(attend.selected_in(p, memory)).
#pragma once

#include <optional>

#include <elastic/modes/dense_heads.hpp>
#include <elastic/selectors/block_mask.hpp>
#include <elastic/selectors/cost_model.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

template <class Selector>
struct auto_dense;

namespace detail {

template <class Mode>
inline constexpr bool is_auto_dense = false;
template <class Selector>
inline constexpr bool is_auto_dense<auto_dense<Selector>> = true;

}  // namespace detail

template <class Selector>
struct auto_dense {
  static_assert(!detail::is_auto_dense<Selector>, "elastic: auto_dense inside auto_dense: one is enough");
  static_assert(selector<Selector>,
                "elastic: auto_dense takes a selector (antidiagonal, moba, ...): full attention and other static modes "
                "have no selection to save; hybrids and hooks go around it");
  static_assert(!selector<Selector> || list_mode<selected_t<Selector>>,
                "elastic: auto_dense compares the lengths of lists, and this selector writes none");

  Selector inner = {};
  cost_model costs = {};              // costs_on(…) of a backend (cost_model.hpp), or the caller's own. A part of the
                                      // mode: with the same costs every backend decides alike
  std::optional<float> density = {};  // expected, of full attention's pairs: the share in listed blocks. Empty: the
                                      // decision comes after selection, where that can repay at all

  static constexpr bool host_only = elastic::host_only<Selector>;

  struct storage {
    typename Selector::storage inner;
    std::int32_t* flags = nullptr;  // (batch, query_heads): not 0 where the head went dense
    int batch = 0;
    int query_heads = 0;
    dense_choice choice = dense_choice::by_flags;  // all: the storage is empty; flags is null but for by_flags

    dense_heads<selected_t<Selector>> selected() const {
      return {inner.selected(), {flags, {batch, query_heads}}, choice};
    }

    template <element T>
      requires requires(typename Selector::storage const& s, select_inputs<T> const& in) { s.check_source(in); }
    void check_source(select_inputs<T> const& in) const {
      if (choice != dense_choice::all) inner.check_source(in);
    }
  };

  storage bind(problem const& p, workspace_cursor& cursor) const {
    workspace_cursor nothing;  // hands out null: where all are dense, no memory is taken
    storage made;
    if (goes_dense(p))
      made.choice = dense_choice::all;
    else if (density)
      made.choice = dense_choice::none;
    made.inner = inner.bind(p, made.choice == dense_choice::all ? nothing : cursor);
    made.batch = p.batch;
    made.query_heads = p.query_heads;
    if (made.choice == dense_choice::by_flags)
      made.flags = cursor.take<std::int32_t>(elements_of({p.batch, p.query_heads}));
    return made;
  }

  /// The decision before selection. By the lengths as the host knows them, the longest of packed sequences, and not by
  /// [q_begin, q_end): all chunks of a problem decide alike.
  bool goes_dense(problem const& p) const { return density.value_or(0) > break_even(p); }

  /// The density above which goes_dense says yes; below 0 it always does.
  double break_even(problem const& p) const {
    return costs.break_even(p, has_partial_of<selected_t<Selector>> ? costs.partial : costs.listed);
  }

  void check(problem const& p) const {
    check_mode(inner, p);
    costs.check(has_partial_of<selected_t<Selector>>);
    require(!density || (*density >= 0 && *density <= 1), "auto_dense.density", density.value_or(0),
            "a share of the pairs, 0 to 1");
  }

  /// Decode is that of the selector.
  auto at_decode() const
    requires requires(Selector const& s) { s.at_decode(); }
  {
    return inner.at_decode();
  }
};

template <class Selector>
auto_dense(Selector, cost_model = {}, std::optional<float> = {}) -> auto_dense<Selector>;

static_assert(selector<auto_dense<block_mask>>);

namespace detail {

/// What a query tile of a mode with lists visits, in tiles of the lists' blocks.
template <list_mode M>
ELASTIC_HOST_DEVICE visited_tiles visited_by(M const& mode, where const& w, int q_tile) {
  tile_shape const shape = largest_tile_of(mode);
  auto const tiles = tiles_of(mode, w, q_tile, shape);
  visited_tiles visited{bounds(w, q_tile, shape).visible, tiles.count, 0, 1};
  if constexpr (has_partial_of<M>)
    for (int i = 0; i < tiles.count; ++i) visited.partial += tiles[i].kind == tile_kind::partial;
  visited.listed -= visited.partial;
  return visited;
}

}  // namespace detail

template <class Backend, class Selector>
  requires requires(Backend const& b, Selector const& s, problem const& p) { scratch_bytes_on(b, s, p); }
std::size_t scratch_bytes_on(Backend const& backend, auto_dense<Selector> const& s, problem const& p) {
  return s.goes_dense(p) ? 0 : scratch_bytes_on(backend, s.inner, p);
}

/// On every host backend that serves the selector: its own selection, then the flags where they decide.
template <class Backend, class Selector, element T>
void select_on(Backend const& backend, auto_dense<Selector> const& s,
               typename auto_dense<Selector>::storage const& storage, select_inputs<T> const& in, workspace scratch)
  requires(Backend::on_host && requires { select_on(backend, s.inner, storage.inner, in, scratch); })
{
  if (storage.choice == dense_choice::all) return;
  select_on(backend, s.inner, storage.inner, in, scratch);
  if (storage.choice == dense_choice::none) return;
  problem const& p = in.shape;
  auto const mode = storage.inner.selected();
  tile_shape const block = largest_tile_of(mode);
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, in.assignment(b, h));
      visited_tiles visited;
      for (int i = p.q_begin / block.rows; in.comes(b, h) && i < ceil_div(minimum(p.q_end, w.q_len), block.rows); ++i)
        visited += detail::visited_by(mode, w, i);
      storage.flags[std::int64_t{b} * p.query_heads + h] = s.costs.prefers_dense(visited, block.columns);
    }
}

}  // namespace elastic
