// The MLP router by its formulas: double precision, one head after the other.
#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <elastic/core/sequence.hpp>
#include <elastic/core/workspace.hpp>
#include <elastic/routers/mlp_router.hpp>

namespace elastic {

struct reference;

/// Pooled keys, features and logits of every (sequence, KV head).
template <class T>
mlp_activations<double> activations_on(reference const&, mlp_router const& router, heads_view<T> const& k_pre_rope,
                                       problem const& p) {
  using E = std::remove_const_t<T>;
  heads_view<E const> const keys(k_pre_rope);
  router.check(p, 2);
  detail::check_mlp_input(keys, p);

  mlp_activations<double> result;
  mlp_layer const& layer = router.weights.layer(p.layer);
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.kv_heads; ++h) {
      int const length = locate(p, b, 0, 0).k_len;
      head_rows<E const> const rows = rows_of(keys, p.cu_seqlens_k, b, h);
      detail::pooled_rows const pooled(router.pooling, length);
      std::vector<double> x(static_cast<std::size_t>(p.head_dim), 0.);
      for (int d = 0; d < p.head_dim; ++d) {
        double& sum = x[static_cast<std::size_t>(d)];
        for (int i = 0; i < pooled.head; ++i) sum += static_cast<double>(static_cast<float>(rows[i][d]));
        for (int i = length - pooled.tail; i < length; ++i) sum += static_cast<double>(static_cast<float>(rows[i][d]));
        if (length > 0) sum /= pooled.head + pooled.tail;
      }
      result.pooled.insert(result.pooled.end(), x.begin(), x.end());
      for (std::size_t i = 0; i < layer.linear.size(); ++i) {
        linear_layer const& linear = layer.linear[i];
        std::vector<double> y(linear.bias.begin(), linear.bias.end());
        for (std::size_t out = 0; out < y.size(); ++out) {
          for (std::size_t in = 0; in < x.size(); ++in)
            y[out] += static_cast<double>(linear.weight[out * x.size() + in]) * x[in];
          if (mlp_layer::activated[i]) y[out] /= 1 + std::exp(-y[out]);
        }
        if (i == mlp_layer::features) result.features.insert(result.features.end(), y.begin(), y.end());
        x = std::move(y);
      }
      result.logits.insert(result.logits.end(), x.begin(), x.end());
    }
  return result;
}

template <class Mode, class T>
void route_on(reference const& backend, mlp_router const& router, Mode const&, route_inputs<T> const& in,
              problem const& p, assignment_view const& assignment, workspace) {
  detail::write_decisions(router, activations_on(backend, router, in.k_pre_rope, p), p, routes<Mode>, assignment);
}

}  // namespace elastic
