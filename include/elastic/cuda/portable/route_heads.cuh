// Routers that decide from the head alone (fixed, ratio, random, given) on the CUDA backend. They are asked on
// the host, when the call is made, and their answers travel as kernel arguments: nothing is copied from host
// memory later, and a captured graph writes the routes of its capture.
#pragma once

#include <cstdint>

#include <elastic/cuda/launch.cuh>
#include <elastic/routers/router.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

namespace detail {

/// Routes of the heads [first, first + count), by value.
struct route_card {
  static constexpr int most = 3072;
  std::int64_t first;
  int count;
  std::uint8_t routes[most];
};

static __global__ void write_routes(__grid_constant__ route_card const card, assignment_view assignment) {
  int const i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  std::int64_t const head = card.first + i, heads = assignment.extents[1];
  if (i < card.count) assignment(head / heads, head % heads) = card.routes[i];
}

}  // namespace detail

template <int... HeadDims, head_router Router, class Mode, class T>
void route_on(cuda_for<HeadDims...> const&, Router const& router, Mode const&, route_inputs<T> const&, problem const& p,
              assignment_view const& assignment, workspace) {
  static_assert(routes<Mode> <= 256);
  detail::current_device();
  detail::route_card card{};
  std::int64_t const heads = std::int64_t{p.batch} * p.query_heads;
  for (; card.first < heads; card.first += card.count) {
    card.count = static_cast<int>(minimum<std::int64_t>(heads - card.first, detail::route_card::most));
    for (int i = 0; i < card.count; ++i) {
      std::int64_t const head = card.first + i;
      int const sequence = static_cast<int>(head / p.query_heads), query_head = static_cast<int>(head % p.query_heads);
      card.routes[i] = static_cast<std::uint8_t>(detail::decided_route(router, p, sequence, query_head, routes<Mode>));
    }
    constexpr int threads = 128;
    detail::write_routes<<<static_cast<unsigned>(ceil_div(card.count, threads)), threads, 0,
                           static_cast<cudaStream_t>(p.stream)>>>(card, assignment);
    detail::cuda_call(cudaGetLastError(), "write_routes");
  }
}

}  // namespace elastic
