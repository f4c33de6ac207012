// A variant of the ablation: a mode, who routes it, and where it runs, with its types hidden behind a few
// calls. `make_variant` shows what a user of the front door writes.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/metrics/sparsity.hpp>

#include "../support/capture.hpp"

namespace examples {

struct device_layer;  // what a layer has on a device: variant_cuda.cuh

/// One layer of the capture, and room for what is computed of it.
struct layer_run {
  layer_inputs in;
  options o;
  std::vector<float> full_out, full_lse;  // what the others are compared with
  std::vector<float> out, lse;            // (batch, seq, heads, head_dim), (batch, heads, seq)
  std::vector<std::int32_t> routes;       // (batch, heads)
  std::vector<std::byte> memory;
  std::shared_ptr<device_layer> device;

  heads_view<float const> q() const { return in.q.view(); }
  heads_view<float const> k() const { return in.k.view(); }
  heads_view<float const> v() const { return in.v.view(); }
  int batch() const { return static_cast<int>(in.q.shape[0]); }
  int heads() const { return static_cast<int>(in.q.shape[2]); }
  heads_view<float> to_out(std::vector<float>& values) const { return {values.data(), in.q.shape}; }
  lse_view to_lse(std::vector<float>& values) const {
    return {values.data(), {in.q.shape[0], in.q.shape[2], in.q.shape[1]}};
  }
  assignment_view assignment() { return {routes.data(), {in.q.shape[0], in.q.shape[2]}}; }
};

struct variant {
  std::string name;                // "FA-SSA"
  std::string router;              // "ratio 1/3"; empty where there is nothing to route
  std::string parameters;          // "sink=1 local=2 …"
  std::vector<std::string> parts;  // what route 0, 1, … stand for; one name is one mode throughout the grid
  bool counts_routing = false;     // does the router's time belong to the total?

  std::function<void(layer_run&)> prepare;  // refuses what does not fit, and makes room
  std::function<void(layer_run&)> route;
  std::function<void(layer_run&)> select;
  std::function<void(layer_run&)> attend;
  std::function<effective_sparsity(layer_run&)> count;
  std::function<void(layer_run&)> place = [](layer_run&) {};  // the routes to where the backend wants them
  std::function<void(layer_run&)> fetch = [](layer_run&) {};  // routes, outputs and LSE to the host
};

template <class Mode, class Router, class Backend>
  requires(Backend::on_host)
variant make_variant(std::string name, Mode mode, Router router, Backend backend) {
  attention const routed{mode, router, backend};
  attention const attend{mode, given_router{}, backend};  // the rest does not depend on who decided
  variant made;
  made.name = std::move(name);
  made.parameters = describe(mode);
  made.prepare = [attend, router](layer_run& layer) {
    problem const p = attend.shape(layer.q(), layer.k(), layer.o);
    router.check(p, routes<Mode>);
    std::size_t const bytes = attend.workspace_bytes(p, std::numeric_limits<std::size_t>::max());  // all rows at once
    layer.memory.resize(std::max(layer.memory.size(), bytes));
  };
  made.route = [routed](layer_run& layer) {
    routed.route(layer.in.to_route(), layer.assignment(), layer.memory, layer.o);
  };
  made.select = [attend](layer_run& layer) {
    attend.select(layer.q(), layer.k(), layer.assignment(), layer.memory, layer.o);
  };
  made.attend = [attend](layer_run& layer) {
    attend.forward(layer.q(), layer.k(), layer.v(), layer.to_out(layer.out), layer.to_lse(layer.lse),
                   layer.assignment(), layer.memory, layer.o);
  };
  made.count = [attend](layer_run& layer) {
    return count_sparsity(attend, layer.q(), layer.k(), layer.assignment(), layer.o);
  };
  return made;
}

}  // namespace examples
