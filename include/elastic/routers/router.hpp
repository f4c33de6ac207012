// A router decides which mode each head takes: it writes a route 0 … routes − 1 for every (sequence,
// query head). Routers that read no data are a pure function of the head; the others are run by the
// backend's route_on.
#pragma once

#include <concepts>

#include <elastic/core/dtype.hpp>
#include <elastic/core/problem.hpp>
#include <elastic/core/view.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

template <class R>
concept router = std::copyable<R> && requires(R const& r, problem const& p) { r.check(p, 2); };

/// Decides from the head alone.
template <class R>
concept head_router = router<R> && requires(R const& r, problem const& p) {
  { r(p, 0, 0) } -> std::same_as<int>;  // (problem, sequence, query head)
};

/// What a router may read; a router throws where a tensor that it needs is absent.
template <element T>
struct route_inputs {
  heads_view<T const> k_pre_rope = {};  // (batch, k_len, kv_heads, head_dim): keys after k-norm, before RoPE
  heads_view<T const> q = {};           // (batch, q_len, query_heads, head_dim)
  heads_view<T const> k = {};           // (batch, k_len, kv_heads, head_dim)
  heads_view<T const> v = {};           // (batch, k_len, kv_heads, head_dim)
};

}  // namespace elastic
