// upload(weights) gives router weights a copy in the current device's memory, which the CUDA backend reads:
//   mlp_router const router{upload(load_mlp_weights("router.safetensors", {.prefix = "layers.{}."}))};
// Allocates and waits, once; the memory is freed with the last copy of the object. The copy holds layer after
// layer, linear after linear: the rows of the weight, zeros after each to a multiple of 4, then the bias.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include <elastic/cuda/call.cuh>
#include <elastic/routers/mlp_weights.hpp>

namespace elastic {

namespace detail {

/// A linear layer inside a device's copy.
struct packed_linear {
  int inputs = 0;
  int outputs = 0;
  int row = 0;  // floats from one output to the next
  float const* weight = nullptr;
  float const* bias = nullptr;
};

/// Where the five linear layers of layer `at` lie in the copy that starts at `values`; `used` counts floats.
inline std::array<packed_linear, 5> pack(mlp_layer const& layer, float const* values, std::size_t& used) {
  auto const padded = [](int n) { return (n + 3) / 4 * 4; };
  std::array<packed_linear, 5> packed;
  for (std::size_t j = 0; j < packed.size(); ++j) {
    linear_layer const& linear = layer.linear[j];
    packed_linear& to = packed[j];
    to.inputs = linear.inputs;
    to.outputs = linear.outputs;
    to.row = padded(linear.inputs);
    to.weight = values + used;
    used += static_cast<std::size_t>(to.row) * static_cast<std::size_t>(to.outputs);
    to.bias = values + used;
    used += static_cast<std::size_t>(padded(to.outputs));
  }
  return packed;
}

}  // namespace detail

inline mlp_weights upload(mlp_weights const& weights) {
  require(bool(weights), "weights", "none", "weights: loaded (io/mlp_weights.hpp) or mlp_weights::untrained");
  std::vector<float> host;
  for (int i = 0; i < weights.layers(); ++i)
    for (linear_layer const& linear : weights.layer(i).linear) {
      std::size_t const inputs = static_cast<std::size_t>(linear.inputs);
      auto const pad = [&] { host.resize((host.size() + 3) / 4 * 4, 0.f); };
      for (std::size_t from = 0; from < linear.weight.size(); from += inputs, pad())
        host.insert(host.end(), linear.weight.data() + from, linear.weight.data() + from + inputs);
      host.insert(host.end(), linear.bias.begin(), linear.bias.end());
      pad();
    }
  mlp_weights::device_copy copy;
  detail::cuda_call(cudaGetDevice(&copy.device), "cudaGetDevice");
  void* memory = nullptr;
  detail::cuda_call(cudaMalloc(&memory, host.size() * sizeof(float)), "cudaMalloc");
  copy.values = std::shared_ptr<float const>(static_cast<float const*>(memory),
                                             [](float const* values) { cudaFree(const_cast<float*>(values)); });
  detail::cuda_call(cudaMemcpy(memory, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice), "cudaMemcpy");
  detail::cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // a copy may return before it has arrived
  return weights.with(std::move(copy));
}

}  // namespace elastic
