// The MLP router on the CPU: pooling and both MLPs in float, the rows of all sequences and KV heads
// together as one small matrix. Boundary pooling reads at most 200 rows of a head, so the time does not
// depend on the length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <elastic/core/sequence.hpp>
#include <elastic/core/workspace.hpp>
#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/eigen.hpp>
#include <elastic/cpu/parallel.hpp>
#include <elastic/routers/mlp_router.hpp>

namespace elastic {

struct cpu;

namespace detail {

/// mean (head_dim) of the rows that the pooling names; zeros for an empty sequence.
template <element T>
void pool_head(head_rows<T const> rows, int length, pooling how, int head_dim, float* mean) {
  constexpr int block = 128;  // rows summed in float before double takes over: means of a million tokens stay exact
  pooled_rows const pooled(how, length);
  Eigen::ArrayXd total = Eigen::ArrayXd::Zero(head_dim);
  Eigen::ArrayXf part(head_dim), row(head_dim);
  auto const add = [&](int begin, int end) {
    for (int first = begin; first < end; first += block) {
      part.setZero();
      for (int i = first; i < minimum(first + block, end); ++i) {
        to_floats(rows[i], row.data(), head_dim);
        part += row;
      }
      total += part.cast<double>();
    }
  };
  add(0, pooled.head);
  add(length - pooled.tail, length);
  Eigen::Map<Eigen::ArrayXf>(mean, head_dim) = (total / maximum(pooled.head + pooled.tail, 1)).cast<float>();
}

}  // namespace detail

/// Pooled keys, features and logits of every (sequence, KV head).
template <class T>
mlp_activations<float> activations_on(cpu const&, mlp_router const& router, heads_view<T> const& k_pre_rope,
                                      problem const& p) {
  using E = std::remove_const_t<T>;
  using rows_of_floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  heads_view<E const> const keys(k_pre_rope);
  router.check(p, 2);
  detail::check_mlp_input(keys, p);

  Eigen::Index const rows = Eigen::Index{p.batch} * p.kv_heads;
  rows_of_floats x(rows, p.head_dim);
  bool const long_mean = router.pooling == pooling::mean && p.k_len >= 4096;  // else threads cost more than they gain
  detail::parallel_for(rows, long_mean ? p.threads : 1, [&](std::int64_t row, int) {
    int const batch = static_cast<int>(row / p.kv_heads), head = static_cast<int>(row % p.kv_heads);
    detail::pool_head<E>(rows_of(keys, p.cu_seqlens_k, batch, head), locate(p, batch, 0, 0).k_len, router.pooling,
                         p.head_dim, x.row(row).data());
  });

  mlp_activations<float> result;
  result.pooled.assign(x.data(), x.data() + x.size());
  mlp_layer const& layer = router.weights.layer(p.layer);
  for (std::size_t i = 0; i < layer.linear.size(); ++i) {
    linear_layer const& linear = layer.linear[i];
    Eigen::Map<rows_of_floats const> const weight(linear.weight.data(), linear.outputs, linear.inputs);
    rows_of_floats y(rows, linear.outputs);
    y.noalias() = x * weight.transpose();
    y.rowwise() += Eigen::Map<Eigen::RowVectorXf const>(linear.bias.data(), linear.outputs);
    if (mlp_layer::activated[i]) y.array() /= 1.f + (-y.array()).exp();
    if (i == mlp_layer::features) result.features.assign(y.data(), y.data() + y.size());
    x.swap(y);
  }
  result.logits.assign(x.data(), x.data() + x.size());
  return result;
}

template <class Mode, class T>
void route_on(cpu const& backend, mlp_router const& router, Mode const&, route_inputs<T> const& in, problem const& p,
              assignment_view const& assignment, workspace) {
  detail::write_decisions(router, activations_on(backend, router, in.k_pre_rope, p), p, routes<Mode>, assignment);
}

}  // namespace elastic
