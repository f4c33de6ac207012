// Inputs of the benchmarks: independent normal tensors, and concentrated ones, a selector's best case.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <elastic/core/dtype.hpp>
#include <elastic/core/view.hpp>

namespace bench {

/// Q, K, V and room for the output of one problem, all (batch, seq, heads, head_dim), dense.
template <elastic::element T>
struct tensors {
  int batch, q_len, k_len, query_heads, kv_heads, head_dim;
  std::vector<T> q_data, k_data, v_data, out_data;
  std::vector<float> lse_data;

  tensors(int b, int sq, int sk, int hq, int hk, int d, unsigned seed = 1)
      : batch(b), q_len(sq), k_len(sk), query_heads(hq), kv_heads(hk), head_dim(d) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    auto const fill = [&](std::vector<T>& to, std::int64_t n) {
      to.resize(static_cast<std::size_t>(n));
      for (T& x : to) x = T(normal(random));
    };
    fill(q_data, std::int64_t{b} * sq * hq * d);
    fill(k_data, std::int64_t{b} * sk * hk * d);
    fill(v_data, std::int64_t{b} * sk * hk * d);
    out_data.resize(q_data.size());
    lse_data.resize(static_cast<std::size_t>(std::int64_t{b} * hq * sq));
  }

  elastic::heads_view<T const> q() const { return {q_data.data(), {batch, q_len, query_heads, head_dim}}; }
  elastic::heads_view<T const> k() const { return {k_data.data(), {batch, k_len, kv_heads, head_dim}}; }
  elastic::heads_view<T const> v() const { return {v_data.data(), {batch, k_len, kv_heads, head_dim}}; }
  elastic::heads_view<T> out() { return {out_data.data(), {batch, q_len, query_heads, head_dim}}; }
  elastic::lse_view lse() { return {lse_data.data(), {batch, query_heads, q_len}}; }
};

/// Queries of block I point at block 0, at blocks I − 2 … I and at four far blocks: keys of block J are
/// γ·u_J + noise, queries γ·Σ u_J + noise, u_J random unit directions, γ = √(12·√d), blocks of 128. The
/// antidiagonal selector then keeps about 4.3 blocks a row: a best case by design.
template <elastic::element T>
tensors<T> concentrated(int s, int query_heads, int kv_heads, int d, unsigned seed = 1) {
  constexpr int block = 128;
  tensors<T> made(1, s, s, query_heads, kv_heads, d, seed);
  std::mt19937 random(seed + 1);
  std::normal_distribution<float> normal;
  int const blocks = (s + block - 1) / block, group = query_heads / kv_heads;
  float const gamma = std::sqrt(12 * std::sqrt(static_cast<float>(d)));
  std::vector<float> directions(static_cast<std::size_t>(blocks * d));
  for (int kv = 0; kv < kv_heads; ++kv) {
    for (int j = 0; j < blocks; ++j) {
      float* const u = directions.data() + j * d;
      float norm = 0;
      for (int i = 0; i < d; ++i) {
        u[i] = normal(random);
        norm += u[i] * u[i];
      }
      for (int i = 0; i < d; ++i) u[i] *= gamma / std::sqrt(norm);
    }
    auto const add = [&](T* row, int j) {
      for (int i = 0; i < d; ++i)
        row[i] = T(static_cast<float>(row[i]) + directions[static_cast<std::size_t>(j * d + i)]);
    };
    for (int t = 0; t < s; ++t) add(made.k_data.data() + (std::int64_t{t} * kv_heads + kv) * d, t / block);
    for (int h = kv * group; h < (kv + 1) * group; ++h)
      for (int i = 0; i < blocks; ++i) {
        std::vector<int> seen{0};
        for (int j = std::max(i - 2, 1); j <= i; ++j) seen.push_back(j);
        std::vector<int> far;
        for (int j = 1; j <= i - 3; ++j) far.push_back(j);
        std::shuffle(far.begin(), far.end(), random);
        far.resize(std::min<std::size_t>(far.size(), 4));
        seen.insert(seen.end(), far.begin(), far.end());
        for (int t = i * block; t < std::min((i + 1) * block, s); ++t)
          for (int j : seen) add(made.q_data.data() + (std::int64_t{t} * query_heads + h) * d, j);
      }
  }
  return made;
}

}  // namespace bench
