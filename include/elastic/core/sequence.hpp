// Rows of one sequence inside a (batch, seq, heads, head_dim) tensor, packed or not, and the sources of
// keys and values that a backend reads: plain tensors, or a paged cache.
#pragma once

#include <elastic/core/dtype.hpp>
#include <elastic/core/problem.hpp>
#include <elastic/core/view.hpp>

namespace elastic {

/// The rows of one sequence and head: row i lies at data + i·stride.
template <class T>
struct head_rows {
  T* data = nullptr;
  std::int64_t stride = 0;
  ELASTIC_HOST_DEVICE T* operator[](std::int64_t i) const { return data + i * stride; }
};

/// `starts` are the cu_seqlens of this tensor, or null.
template <class T>
ELASTIC_HOST_DEVICE head_rows<T> rows_of(heads_view<T> const& tensor, std::int32_t const* starts, int batch, int head) {
  std::int64_t const first = starts != nullptr ? starts[batch] : 0;
  std::int64_t const slab = starts != nullptr ? 0 : batch;
  return {tensor.data + slab * tensor.strides[0] + first * tensor.strides[1] + head * tensor.strides[2],
          tensor.strides[1]};
}

/// A row of LSE: (batch, query_heads, seq), packed like the output.
ELASTIC_HOST_DEVICE head_rows<float> lse_of(lse_view const& lse, std::int32_t const* starts, int batch, int head) {
  std::int64_t const first = starts != nullptr ? starts[batch] : 0;
  std::int64_t const slab = starts != nullptr ? 0 : batch;
  return {lse.data + slab * lse.strides[0] + head * lse.strides[1] + first * lse.strides[2], lse.strides[2]};
}

/// Keys and values as whole tensors.
template <class T>
struct plain_keys {
  using element_type = T;
  heads_view<T const> k;  // (batch, k_len, kv_heads, head_dim)
  heads_view<T const> v;  // (batch, k_len, kv_heads, head_dim)

  /// Keys from `first` on; how many of them lie evenly spaced is bounded by `run`.
  ELASTIC_HOST_DEVICE head_rows<T const> keys(problem const& p, int batch, int kv_head, int first) const {
    head_rows<T const> const rows = rows_of(k, p.cu_seqlens_k, batch, kv_head);
    return {rows[first], rows.stride};
  }
  ELASTIC_HOST_DEVICE head_rows<T const> values(problem const& p, int batch, int kv_head, int first) const {
    head_rows<T const> const rows = rows_of(v, p.cu_seqlens_k, batch, kv_head);
    return {rows[first], rows.stride};
  }
  /// Evenly spaced rows start at multiples of this many keys and go on for as many; 0: all do.
  ELASTIC_HOST_DEVICE int run() const { return 0; }
};

/// A paged cache: the keys [i·page_size, (i + 1)·page_size) of a (sequence, KV head) lie in page
/// table(batch, kv_head, i) of the pools. A negative page is absent: handed back because no query of
/// that head will visit it. A contiguous cache is the trivial table.
template <class T>
struct paged_cache {
  using element_type = T;
  strided_view<T const, 3> k_pages;               // (pages, page_size, head_dim)
  strided_view<T const, 3> v_pages;               // (pages, page_size, head_dim)
  strided_view<std::int32_t const, 3> table;      // (batch, kv_heads, pages of the longest sequence)
  strided_view<std::int32_t const, 1> k_lengths;  // (batch): keys held, new tokens included

  ELASTIC_HOST_DEVICE int run() const { return static_cast<int>(k_pages.extents[1]); }

  ELASTIC_HOST_DEVICE head_rows<T const> keys(problem const&, int batch, int kv_head, int first) const {
    return rows(k_pages, batch, kv_head, first);
  }
  ELASTIC_HOST_DEVICE head_rows<T const> values(problem const&, int batch, int kv_head, int first) const {
    return rows(v_pages, batch, kv_head, first);
  }

 private:
  ELASTIC_HOST_DEVICE head_rows<T const> rows(strided_view<T const, 3> const& pages, int batch, int kv_head,
                                              int first) const {
    int const page = table(batch, kv_head, first / run());
    return {&pages(page, first % run(), 0), pages.strides[1]};
  }
};

}  // namespace elastic
