// The ablation's grid: every mode alone, then every pair of modes with every router. Each backend is compiled in a file
// of its own: grid_cpu.cpp, grid_reference.cpp, grid_cuda.cu.
#pragma once

#include <vector>

#include "parameters.hpp"
#include "variant.hpp"

namespace examples {

std::vector<variant> make_cpu_grid(parameters const& p, mlp_router const& mlp, int kv_heads);
std::vector<variant> make_reference_grid(parameters const& p, mlp_router const& mlp, int kv_heads);
std::vector<variant> make_cuda_grid(parameters const& p, mlp_router const& mlp, int kv_heads);

template <class Backend>
std::vector<variant> make_grid(parameters const& p, mlp_router const& mlp, int kv_heads, Backend backend) {
  std::vector<variant> grid;
  auto const alone = [&](std::string name, auto mode, std::string part = "") {
    grid.push_back(make_variant(name, mode, fixed_router{}, backend));
    grid.back().parts = {part.empty() ? name : part};
  };
  alone("FA", full{});
  alone("SSA token", p.by_token);
  alone("SSA block", p.by_block, "SSA");
  alone("XA", p.blocks);
  alone("MoBA", p.gate);
  alone("vertical-slash", p.lines);
  alone("TriangleMix", p.mix);

  auto const pair = [&](std::string const& first, std::string const& second, auto mode) {
    auto const routed = [&](std::string name, auto router) -> variant& {
      variant& made = grid.emplace_back(make_variant(first + "-" + second, mode, router, backend));
      made.router = std::move(name);
      made.parts = {first, second};
      return made;
    };
    int const steps = minimum(kv_heads, 4);
    for (int i = 1; i < steps; ++i) {
      std::string const name = "ratio " + std::to_string(i) + "/" + std::to_string(steps);
      routed(name, ratio_router{static_cast<double>(i) / steps});
    }
    if constexpr (Backend::on_host) {  // an oracle compares outputs on the host
      routed("oracle 0.1", oracle_router{0.1});
      routed("oracle 0.25", oracle_router{0.25});
    }
    routed("MLP", mlp).counts_routing = true;
  };
  pair("FA", "SSA", hybrid{full{}, p.by_block});
  pair("FA", "XA", hybrid{full{}, p.blocks});
  pair("XA", "SSA", hybrid{p.blocks, p.by_block});
  return grid;
}

}  // namespace examples
