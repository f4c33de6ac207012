// A router decides which mode each head takes: it writes a route 0 … modes − 1 for every (sequence,
// query head). By convention route 0 retrieves and the last route is sparse; a router that knows two
// classes uses these two. Routers that read no data are a pure function of the head: any callable, a
// lambda too. The others are run by the backend's
// route_on(backend, router, mode, route_inputs, problem, assignment, workspace), and have a check.
#pragma once

#include <concepts>

#include <elastic/core/dtype.hpp>
#include <elastic/core/error.hpp>
#include <elastic/core/problem.hpp>
#include <elastic/core/view.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

template <class R>
concept checked_router = requires(R const& r, problem const& p) { r.check(p, 2); };

/// Decides from the head alone. The problem's kv_heads is 0 where no keys came that tell it.
template <class R>
concept head_router = std::copy_constructible<R> && requires(R const& r, problem const& p) {
  { r(p, 0, 0, 2) } -> std::integral;  // (problem, sequence, query head, modes)
};

template <class R>
concept router = std::copy_constructible<R> && (head_router<R> || checked_router<R>);

/// Throws elastic::error where the router does not fit the problem or the number of modes.
template <class R>
void check_router(R const& router, problem const& p, int modes) {
  if constexpr (checked_router<R>) router.check(p, modes);
}

namespace detail {

/// What a head router decides for one head. Throws elastic::error unless it is one of the routes.
template <head_router R>
std::int32_t decided_route(R const& router, problem const& p, int sequence, int query_head, int modes) {
  auto const route = static_cast<std::int64_t>(router(p, sequence, query_head, modes));
  require(route >= 0 && route < modes, "router", route, "routes 0 to " + std::to_string(modes - 1));
  return static_cast<std::int32_t>(route);
}

/// For routers that treat the query heads of a KV head alike.
inline void require_kv_heads(problem const& p) {
  require(p.kv_heads > 0, "k_pre_rope, k", "no tensor", "keys, which tell the number of KV heads");
}

}  // namespace detail

/// What a router may read; a router throws where a tensor that it needs is absent.
template <element T>
struct route_inputs {
  heads_view<T const> k_pre_rope = {};  // (batch, k_len, kv_heads, head_dim): keys after k-norm, before RoPE
  heads_view<T const> q = {};           // (batch, q_len, query_heads, head_dim)
  heads_view<T const> k = {};           // (batch, k_len, kv_heads, head_dim)
  heads_view<T const> v = {};           // (batch, k_len, kv_heads, head_dim)
};

}  // namespace elastic
