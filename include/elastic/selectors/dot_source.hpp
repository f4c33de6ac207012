// The logits of a problem, recomputed on demand: views of q and k without their type, written into the
// workspace by a selector and read by the mode that it selected. Products of two floats are exact in
// double, and the order of the additions is fixed here: a dot product has the same bits wherever it is
// taken, with fused multiply-add or without.
#pragma once

#include <cstdint>

#include <elastic/core/dtype.hpp>
#include <elastic/core/sequence.hpp>
#include <elastic/selectors/selector.hpp>

namespace elastic {

/// a · b over head_dim elements, a multiple of 8.
template <element T>
double exact_dot(T const* a, T const* b, int head_dim) {
  double sum[8] = {};
  for (int c = 0; c < head_dim; c += 8)
    for (int l = 0; l < 8; ++l)
      sum[l] += static_cast<double>(static_cast<float>(a[c + l])) * static_cast<double>(static_cast<float>(b[c + l]));
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/// Host memory only. The tensors have to stay where they are for as long as the mode is in use; `==` tells whether
/// two sources are of one problem and the same tensors.
struct dot_source {
  enum class type : std::int32_t { of_float, of_half, of_bfloat16 };
  static constexpr std::uint64_t written = 0x656c61737469634b;

  std::uint64_t mark;  // `written`, once it is
  void const* q;
  void const* k;
  std::int64_t q_strides[2];  // of rows and heads, in elements
  std::int64_t k_strides[2];
  std::int64_t q_rows;  // of the tensors; of all sequences, where packed
  std::int64_t k_rows;
  type held;
  int batch, query_heads, kv_heads, head_dim, causal, q_begin, q_end;

  bool operator==(dot_source const&) const = default;

  template <element T>
  static dot_source of(select_inputs<T> const& in) {
    problem const& p = in.shape;
    type const held = std::same_as<T, float>  ? type::of_float
                      : std::same_as<T, half> ? type::of_half
                                              : type::of_bfloat16;
    return {written,
            in.q.data,
            in.k.data,
            {in.q.strides[1], in.q.strides[2]},
            {in.k.strides[1], in.k.strides[2]},
            in.q.extents[1],
            in.k.extents[1],
            held,
            p.batch,
            p.query_heads,
            p.kv_heads,
            p.head_dim,
            p.causal,
            p.q_begin,
            p.q_end};
  }

  /// Where a sequence begins in a tensor, in elements.
  template <class T>
  static std::int64_t start(heads_view<T> const& tensor, std::int32_t const* cu_seqlens, int batch) {
    return cu_seqlens != nullptr ? cu_seqlens[batch] * tensor.strides[1] : batch * tensor.strides[0];
  }

  double operator()(where const& w, std::int64_t q_start, std::int64_t k_start, int q_row, int k_row) const {
    std::int64_t const q_at = q_start + q_row * q_strides[0] + w.query_head * q_strides[1];
    std::int64_t const k_at = k_start + k_row * k_strides[0] + w.kv_head * k_strides[1];
    auto const dot = [&]<class T>(T const* queries, T const* keys) {
      return exact_dot(queries + q_at, keys + k_at, head_dim);
    };
    switch (held) {
      case type::of_half:
        return dot(static_cast<half const*>(q), static_cast<half const*>(k));
      case type::of_bfloat16:
        return dot(static_cast<bfloat16 const*>(q), static_cast<bfloat16 const*>(k));
      default:
        return dot(static_cast<float const*>(q), static_cast<float const*>(k));
    }
  }
};

}  // namespace elastic
