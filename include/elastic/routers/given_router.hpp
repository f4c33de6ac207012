// The routes are taken from an assignment that was decided elsewhere, for instance at prefill. A view
// with strides of 0 sends every head to one route.
#pragma once

#include <string>

#include <elastic/core/check.hpp>
#include <elastic/routers/router.hpp>

namespace elastic {

struct given_router {
  const_assignment_view assignment = {};  // (batch, query_heads), in host memory

  int operator()(problem const&, int sequence, int query_head, int) const { return assignment(sequence, query_head); }

  void check(problem const& p, int modes) const {
    detail::check_view("given_router.assignment", assignment);
    require(assignment.extents[0] == p.batch && assignment.extents[1] == p.query_heads, "given_router.assignment",
            std::to_string(assignment.extents[0]) + " × " + std::to_string(assignment.extents[1]) + " routes",
            std::to_string(p.batch) + " × " + std::to_string(p.query_heads));
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h)
        require(assignment(b, h) >= 0 && assignment(b, h) < modes, "given_router.assignment", assignment(b, h),
                "0 to " + std::to_string(modes - 1));
  }
};

static_assert(head_router<given_router>);

}  // namespace elastic
