// What later queries can no longer see: of a head's keys, one range that no query at `position` or after it
// asks for. A mode says it by arithmetic, with the hook
//   key_range forgets(where, position)
// and a mode without the hook forgets nothing. A sliding window forgets what lies before it, streaming what
// lies between sink and window; a hybrid what the head's own mode forgets; a union what both parts forget, an
// intersection the more of the two. The elastic cache (cache/elastic_cache.hpp) hands such keys back.
#pragma once

#include <elastic/modes/combine.hpp>
#include <elastic/modes/hybrid.hpp>

namespace elastic {

ELASTIC_HOST_DEVICE key_range common_keys(key_range a, key_range b) {
  return {maximum(a.begin, b.begin), minimum(a.end, b.end)};
}

template <class M>
concept forgetful_mode = requires(M const& mode, where const& w) {
  { mode.forgets(w, 0) } -> std::same_as<key_range>;
};

/// Keys that no query of the head at `position` or later sees, cut to the keys [0, k_len).
template <class M>
ELASTIC_HOST_DEVICE key_range forgotten_by(M const& mode, where const& w, int position);

namespace detail {

template <class M>
ELASTIC_HOST_DEVICE key_range forgotten_by_parts(M const& mode, where const& w, int position) {
  if constexpr (parts_by_route<M>)
    return with_part(mode.parts, w.route, [&](auto const& part) { return forgotten_by(part, w, position); });
  else if constexpr (decltype(mode.parts)::size == 1)
    return forgotten_by(mode.parts.first, w, position);
  else
    return {};
}

template <class A, class B>
ELASTIC_HOST_DEVICE key_range forgotten_by_parts(intersection_of<A, B> const& mode, where const& w, int position) {
  key_range const a = forgotten_by(mode.parts.first, w, position);
  key_range const b = forgotten_by(mode.parts.rest.first, w, position);
  return a.size() < b.size() ? b : a;
}

template <class A, class B>
ELASTIC_HOST_DEVICE key_range forgotten_by_parts(union_of<A, B> const& mode, where const& w, int position) {
  return common_keys(forgotten_by(mode.parts.first, w, position), forgotten_by(mode.parts.rest.first, w, position));
}

}  // namespace detail

template <class M>
ELASTIC_HOST_DEVICE key_range forgotten_by(M const& mode, where const& w, int position) {
  if constexpr (forgetful_mode<M>)
    return common_keys(mode.forgets(w, position), {0, w.k_len});
  else if constexpr (composite_mode<M>)
    return detail::forgotten_by_parts(mode, w, position);
  else
    return {};
}

}  // namespace elastic
