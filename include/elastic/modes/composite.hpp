// What modes built of other modes share: a trivially copyable pack of parts, and walks over the tree of
// a composition. A composite holds `parts` and remakes itself around new ones with `with_parts`, which
// is how selectors inside it are replaced by the lists they selected.
#pragma once

#include <utility>

#include <elastic/modes/mode.hpp>
#include <elastic/modes/tiles.hpp>

namespace elastic {

/// A std::tuple that is trivially copyable and works on the device.
template <class First, class... Rest>
struct mode_pack {
  static constexpr int size = 1 + sizeof...(Rest);
  First first;
  mode_pack<Rest...> rest;

  mode_pack() = default;
  ELASTIC_HOST_DEVICE constexpr mode_pack(First the_first, Rest... others) : first(the_first), rest(others...) {}
};

template <class First>
struct mode_pack<First> {
  static constexpr int size = 1;
  First first;

  mode_pack() = default;
  ELASTIC_HOST_DEVICE constexpr mode_pack(First only) : first(only) {}
};

template <class... Ms>
mode_pack(Ms...) -> mode_pack<Ms...>;

/// Part number I.
template <int I, class... Ms>
ELASTIC_HOST_DEVICE auto const& part(mode_pack<Ms...> const& pack) {
  if constexpr (I == 0)
    return pack.first;
  else
    return part<I - 1>(pack.rest);
}

/// f(part) for the part of that number; a number out of range takes the last one.
template <class F, class First, class... Rest>
ELASTIC_HOST_DEVICE auto with_part(mode_pack<First, Rest...> const& pack, int number, F&& f) {
  if constexpr (sizeof...(Rest) == 0)
    return f(pack.first);
  else
    return number <= 0 ? f(pack.first) : with_part(pack.rest, number - 1, f);
}

template <class M>
concept composite_mode = requires(M const& mode) { mode.with_parts(mode.parts); };

/// The same of a composite: of a hybrid the mode of route I.
template <int I, composite_mode M>
ELASTIC_HOST_DEVICE auto const& part(M const& mode) {
  return part<I>(mode.parts);
}

/// Does the composite hand part i the heads of route i (hybrid), or give every head to all parts?
template <class M>
inline constexpr bool parts_by_route = false;

namespace detail {

template <class F, class... Ms, std::size_t... I>
auto map_pack(mode_pack<Ms...> const& pack, F&& f, std::index_sequence<I...>) {
  return mode_pack<decltype(f(part<int(I)>(pack)))...>{f(part<int(I)>(pack))...};
}

}  // namespace detail

/// The same composition with every leaf replaced by f(leaf), left to right.
template <class M, class F>
auto map_leaves(M const& mode, F&& f) {
  if constexpr (composite_mode<M>)
    return mode.with_parts(detail::map_pack(
        mode.parts, [&](auto const& p) { return map_leaves(p, f); },
        std::make_index_sequence<decltype(mode.parts)::size>{}));
  else
    return f(mode);
}

/// The tile that fits every part.
template <class... Ms>
ELASTIC_HOST_DEVICE tile_shape largest_tile_of_parts(mode_pack<Ms...> const& pack) {
  if constexpr (sizeof...(Ms) == 1)
    return largest_tile_of(pack.first);
  else
    return common_tile(largest_tile_of(pack.first), largest_tile_of_parts(pack.rest));
}

template <class... Ms>
void check_parts(mode_pack<Ms...> const& pack, problem const& p) {
  check_mode(pack.first, p);
  if constexpr (sizeof...(Ms) > 1) check_parts(pack.rest, p);
}

inline constexpr int every_route = -1;

/// f(leaf of a, the leaf in the same place of b, route) over two compositions of one shape. `route` is
/// the route whose heads come to this leaf, or every_route.
template <class A, class B, class F>
void zip_leaves(A const& a, B const& b, F&& f, int route = every_route) {
  if constexpr (composite_mode<A>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (zip_leaves(part<int(I)>(a.parts), part<int(I)>(b.parts), f, parts_by_route<A> ? int(I) : route), ...);
    }(std::make_index_sequence<decltype(a.parts)::size>{});
  } else {
    f(a, b, route);
  }
}

}  // namespace elastic
