// The reference backend: double precision, direct softmax, `keeps` alone; selectors and routers in
// double by their formulas. Slow and plain; every other backend is judged by it.
#pragma once

#include <elastic/reference/forward.hpp>
#include <elastic/reference/route.hpp>
#include <elastic/reference/select_antidiagonal.hpp>
#include <elastic/reference/select_block_mask.hpp>
#include <elastic/reference/select_moba.hpp>
#include <elastic/reference/select_planned.hpp>
#include <elastic/reference/select_pooled_top_k.hpp>
#include <elastic/reference/select_top_k.hpp>
#include <elastic/reference/select_vertical_slash.hpp>

namespace elastic {

struct reference {
  static constexpr bool on_host = true;

  template <class M, class Source, class T>
  void forward(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
               heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment) const {
    reference_rows<double>(mode, p, q, source, assignment, [&](int b, int h, int i, double const* row, double value) {
      T* const to = rows_of(out, p.cu_seqlens_q, b, h)[i];
      for (int d = 0; d < p.head_dim; ++d) to[d] = T(static_cast<float>(row[d]));
      if (lse) *lse_of(lse, p.cu_seqlens_q, b, h)[i] = static_cast<float>(value);
    });
  }
};

}  // namespace elastic
