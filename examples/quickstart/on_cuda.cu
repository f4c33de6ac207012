// The front door on a CUDA device: tensors, assignment and workspace lie in device memory, and every step is enqueued
// on a stream without waiting, so that the three could be captured in one graph.
#include "on_cuda.hpp"

#include "../support/device.cuh"

std::vector<std::int32_t> attend_on_cuda(quickstart_mode const& mode, elastic::ratio_router const& router,
                                         elastic::heads_view<float const> const& q,
                                         elastic::heads_view<float const> const& k,
                                         elastic::heads_view<float const> const& v,
                                         elastic::heads_view<float> const& out) {
  using namespace examples;
  auto const floats = [](heads_view<float const> const& x) { return std::vector<float>(x.data, x.data + x.size()); };
  device_vector<bfloat16> const q_memory = to_device<bfloat16>(floats(q)), k_memory = to_device<bfloat16>(floats(k)),
                                v_memory = to_device<bfloat16>(floats(v)), out_memory(q_memory.size());
  auto const shape_of = [](auto const& x) {
    return std::array{x.extents[0], x.extents[1], x.extents[2], x.extents[3]};
  };
  heads_view<bfloat16 const> const device_q(q_memory.data(), shape_of(q)), device_k(k_memory.data(), shape_of(k)),
      device_v(v_memory.data(), shape_of(v));
  heads_view<bfloat16> const device_out(out_memory.data(), shape_of(q));
  device_vector<std::int32_t> const routes(static_cast<std::size_t>(q.extents[0] * q.extents[2]));
  assignment_view const assignment(routes.data(), {q.extents[0], q.extents[2]});

  attention const attend{mode, router, cuda_for<64>{}};  // kernels for head dim 64 alone; cuda{} has them all
  problem const p = attend.shape(device_q, device_k);
  device_vector<std::byte> const bytes(attend.workspace_bytes(p));
  workspace const memory(bytes.data(), bytes.size());
  attend.route(device_k, assignment, memory);  // a ratio looks at no data
  attend.select(device_q, device_k, assignment, memory);
  attend.forward(device_q, device_k, device_v, device_out, {}, assignment, memory);
  wait_for_device();

  std::vector<float> const result = to_floats(out_memory);
  std::copy(result.begin(), result.end(), out.data);
  return routes.to_host();
}
