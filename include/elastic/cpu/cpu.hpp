// The CPU backend: tiled online softmax on Eigen, parallel over batch × heads × query tiles.
#pragma once

#include <elastic/cpu/costs.hpp>
#include <elastic/cpu/forward.hpp>
#include <elastic/cpu/route.hpp>
#include <elastic/cpu/select_antidiagonal.hpp>
#include <elastic/cpu/select_block_mask.hpp>
#include <elastic/cpu/select_moba.hpp>
#include <elastic/cpu/select_planned.hpp>
#include <elastic/cpu/select_pooled_top_k.hpp>
#include <elastic/cpu/select_top_k.hpp>
#include <elastic/cpu/select_vertical_slash.hpp>

namespace elastic {

struct cpu {
  static constexpr bool on_host = true;

  template <class M, class Source, class T>
  void forward(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
               heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment) const {
    detail::cpu_forward<M, Source, T>(mode, p, q, source, out, lse, assignment);
  }
};

}  // namespace elastic
