#include "on_cuda.hpp"

#include "../support/device.cuh"

void attend_on_cuda(custom_hybrid const& mode, elastic::ratio_router const& router,
                    elastic::heads_view<float const> const& x, elastic::heads_view<float> const& out) {
  using namespace examples;
  std::array const shape = {x.extents[0], x.extents[1], x.extents[2], x.extents[3]};
  device_vector<float> const in(std::vector<float>(x.data, x.data + x.size())), result(in.size());
  device_vector<std::int32_t> const routes(static_cast<std::size_t>(shape[0] * shape[2]));
  assignment_view const assignment(routes.data(), {shape[0], shape[2]});
  heads_view<float const> const on_device(in.data(), shape);

  attention const attend{mode, router, cuda_for<64>{}};
  device_vector<std::byte> const bytes(attend.workspace_bytes(attend.shape(on_device, on_device)));
  workspace const memory(bytes.data(), bytes.size());
  attend.route(on_device, assignment, memory);
  attend.forward(on_device, on_device, on_device, heads_view<float>(result.data(), shape), {}, assignment, memory);
  wait_for_device();
  result.copy_to(out.data);
}
