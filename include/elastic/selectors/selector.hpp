// A selector is a data-dependent mode in two steps. It holds parameters; `bind` lays its storage into
// the workspace; a backend's select_on reads Q and K and fills it; `storage.selected()` is then the
// ordinary mode that views what was selected. Heads that are not routed to it get empty rows. Where that mode
// reads q or k again, `storage.check_source(select_inputs)` refuses others than those that were selected from.
#pragma once

#include <concepts>

#include <elastic/core/sequence.hpp>
#include <elastic/core/workspace.hpp>
#include <elastic/modes/composite.hpp>

namespace elastic {

template <class S>
concept selector = std::is_trivially_copyable_v<S> && requires(S const& s, problem const& p, workspace_cursor& cursor) {
  typename S::storage;
  { s.bind(p, cursor) } -> std::same_as<typename S::storage>;
  { s.bind(p, cursor).selected() } -> attention_mode;
  s.check(p);
};

/// What a backend selects from.
template <element T>
struct select_inputs {
  heads_view<T const> q;             // (batch, q_len, query_heads, head_dim)
  heads_view<T const> k;             // (batch, k_len, kv_heads, head_dim)
  problem shape;                     // its [q_begin, q_end) are the query rows to select for
  const_assignment_view assignment;  // (batch, query_heads)
  int route = every_route;           // of the heads that come to this selector

  ELASTIC_HOST_DEVICE bool comes(int batch, int query_head) const {
    return route == every_route || assignment(batch, query_head) == route;
  }
};

/// The storage of every selector inside a composition, laid out in order; static modes stay as they are.
template <class Mode>
auto bind_storage(Mode const& mode, problem const& p, workspace_cursor& cursor) {
  return map_leaves(mode, [&](auto const& leaf) {
    if constexpr (selector<std::remove_cvref_t<decltype(leaf)>>)
      return leaf.bind(p, cursor);
    else
      return leaf;
  });
}

/// The ordinary mode that views a bound composition.
template <class Bound>
auto selected_mode(Bound const& bound) {
  return map_leaves(bound, [](auto const& leaf) {
    if constexpr (requires { leaf.selected(); })
      return leaf.selected();
    else
      return leaf;
  });
}

template <class Mode>
using selected_t = decltype(selected_mode(
    bind_storage(std::declval<Mode const&>(), std::declval<problem const&>(), std::declval<workspace_cursor&>())));

/// Does a composition hold a selector anywhere?
template <class Mode>
inline constexpr bool selects = !std::is_same_v<selected_t<Mode>, Mode>;

namespace detail {

template <class M>
consteval bool holds_host_only();

template <class... Ms>
consteval bool any_host_only(mode_pack<Ms...> const*) {
  return (holds_host_only<Ms>() || ...);
}

template <class M>
consteval bool holds_host_only() {
  if constexpr (requires { M::host_only; })
    return M::host_only;
  else if constexpr (composite_mode<M>)
    return any_host_only(static_cast<decltype(M::parts) const*>(nullptr));
  else
    return false;
}

}  // namespace detail

/// Does a composition hold a selector that says `host_only`: one that no device serves?
template <class Mode>
inline constexpr bool host_only = detail::holds_host_only<Mode>();

}  // namespace elastic
