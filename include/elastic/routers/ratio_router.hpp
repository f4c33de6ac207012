// A fraction of the KV heads, rounded to the nearest number n of the H heads, goes to the last route, the
// others to route 0; the same for every sequence and layer. The n heads lie evenly: head h is one of them
// where ⌊(h+1)·n/H⌋ > ⌊h·n/H⌋. For measurements at a set model sparsity.
#pragma once

#include <elastic/routers/router.hpp>

namespace elastic {

struct ratio_router {
  double sparsity = 0.5;  // 0 to 1

  ELASTIC_HOST_DEVICE int sparse_heads(int kv_heads) const { return static_cast<int>(sparsity * kv_heads + 0.5); }

  ELASTIC_HOST_DEVICE int operator()(problem const& p, int, int query_head, int modes) const {
    std::int64_t const n = sparse_heads(p.kv_heads);
    std::int64_t const h = query_head / p.group();
    return (h + 1) * n / p.kv_heads > h * n / p.kv_heads ? modes - 1 : 0;
  }

  void check(problem const& p, int) const {
    require(sparsity >= 0 && sparsity <= 1, "ratio_router.sparsity", sparsity, "0 to 1");
    detail::require_kv_heads(p);
  }
};

static_assert(head_router<ratio_router>);

}  // namespace elastic
