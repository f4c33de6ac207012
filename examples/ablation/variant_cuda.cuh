// The same variant on a CUDA device: the layer's tensors lie there in bfloat16, and every call waits for the
// device, so that it can be timed by the host's clock.
#pragma once

#include "../support/device.cuh"
#include "variant.hpp"

namespace examples {

struct device_layer {
  using type = bfloat16;
  device_vector<type> q, k, v, k_pre_rope, out;
  device_vector<float> lse;
  device_vector<std::int32_t> routes;
  device_vector<std::byte> memory;

  explicit device_layer(layer_run const& layer)
      : q(to_device<type>(layer.in.q.values)),
        k(to_device<type>(layer.in.k.values)),
        v(to_device<type>(layer.in.v.values)),
        k_pre_rope(to_device<type>(layer.in.k_pre_rope.values)),
        out(q.size()),
        lse(layer.lse.size()),
        routes(layer.routes.size()) {}
};

/// The views of a layer on its device.
struct on_device {
  layer_run const& layer;
  device_layer const& device;

  explicit on_device(layer_run const& the_layer) : layer(the_layer), device(*the_layer.device) {}

  heads_view<bfloat16 const> q() const { return {device.q.data(), layer.in.q.shape}; }
  heads_view<bfloat16 const> k() const { return {device.k.data(), layer.in.k.shape}; }
  heads_view<bfloat16 const> v() const { return {device.v.data(), layer.in.v.shape}; }
  heads_view<bfloat16 const> k_pre_rope() const { return {device.k_pre_rope.data(), layer.in.k_pre_rope.shape}; }
  heads_view<bfloat16> out() const { return {device.out.data(), layer.in.q.shape}; }
  lse_view lse() const { return {device.lse.data(), {layer.in.q.shape[0], layer.in.q.shape[2], layer.in.q.shape[1]}}; }
  assignment_view assignment() const { return {device.routes.data(), {layer.in.q.shape[0], layer.in.q.shape[2]}}; }
  workspace memory() const { return {device.memory.data(), device.memory.size()}; }
};

template <class Mode, class Router, class Backend>
  requires(!Backend::on_host)
variant make_variant(std::string name, Mode mode, Router router, Backend backend) {
  attention const attend{mode, router, backend};
  variant made;
  made.name = std::move(name);
  made.parameters = describe(mode);
  made.prepare = [attend](layer_run& layer) {
    if (!layer.device) layer.device = std::make_shared<device_layer>(layer);
    problem const p = attend.shape(on_device(layer).q(), on_device(layer).k(), layer.o);
    attend.router().check(p, routes<Mode>);
    std::size_t const bytes = attend.workspace_bytes(p, std::numeric_limits<std::size_t>::max());  // all rows at once
    if (bytes > layer.device->memory.size()) layer.device->memory = device_vector<std::byte>(bytes);
  };
  made.route = [attend](layer_run& layer) {
    on_device const at(layer);
    attend.route(at.k_pre_rope(), at.assignment(), at.memory(), layer.o);
    wait_for_device();
  };
  made.select = [attend](layer_run& layer) {
    on_device const at(layer);
    attend.select(at.q(), at.k(), at.assignment(), at.memory(), layer.o);
    wait_for_device();
  };
  made.attend = [attend](layer_run& layer) {
    on_device const at(layer);
    attend.forward(at.q(), at.k(), at.v(), at.out(), at.lse(), at.assignment(), at.memory(), layer.o);
    wait_for_device();
  };
  made.count = [attend](layer_run& layer) {
    on_device const at(layer);
    problem const p = attend.shape(at.q(), at.k(), layer.o);
    readable_workspace const memory(attend.backend(), at.memory());
    return count_sparsity(attend.selected_in(p, memory), p, layer.assignment());
  };
  made.place = [](layer_run& layer) { layer.device->routes.assign(layer.routes); };
  made.fetch = [](layer_run& layer) {
    layer.routes = layer.device->routes.to_host();
    layer.out = to_floats(layer.device->out);
    layer.lse = layer.device->lse.to_host();
  };
  return made;
}

}  // namespace examples
