// The weights of the MLP router, per layer and shared by all heads of a layer (arXiv 2601.17367):
//   task    d → 4d, SiLU, 4d → d                 the head's features
//   router  d → 4d, SiLU, 4d → d, SiLU, d → 2    its logits (one logit in the sigmoid variant)
// 263,682 parameters at d = 128. Other widths are taken as long as each layer fits the next. Immutable
// and shared, so copies are cheap. Loaded from safetensors by io/mlp_weights.hpp; given a copy in device
// memory, which the CUDA backend reads, by upload (cuda/upload.cuh).
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numbers>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <elastic/core/error.hpp>

namespace elastic {

/// y = weight · x + bias.
struct linear_layer {
  int inputs = 0;
  int outputs = 0;
  std::vector<float> weight;  // (outputs, inputs), row-major
  std::vector<float> bias;    // (outputs)

  static linear_layer zeros(int inputs, int outputs) {
    std::size_t const rows = static_cast<std::size_t>(outputs);
    return {inputs, outputs, std::vector<float>(rows * static_cast<std::size_t>(inputs)), std::vector<float>(rows)};
  }

  std::size_t parameters() const { return weight.size() + bias.size(); }
};

/// The two MLPs of one layer: task.0, task.2, router.0, router.2, router.4.
struct mlp_layer {
  static constexpr std::array<char const*, 5> names = {"task.0", "task.2", "router.0", "router.2", "router.4"};
  static constexpr std::array<bool, 5> activated = {true, false, true, true, false};  // does SiLU follow?
  static constexpr std::size_t features = 1;                                          // whose output the features are

  std::array<linear_layer, 5> linear;
};

class mlp_weights {
 public:
  mlp_weights() = default;

  /// Throws where a tensor has another shape than its neighbours need.
  explicit mlp_weights(std::vector<mlp_layer> layers) {
    require(!layers.empty(), "mlp_weights.layers", "none", "at least one layer");
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto const& linear = layers[i].linear;
      for (std::size_t j = 0; j < linear.size(); ++j) {
        linear_layer const& here = linear[j];
        std::string const name = "layers[" + std::to_string(i) + "]." + mlp_layer::names[j];
        int const inputs = j > 0 ? linear[j - 1].outputs : layers.front().linear.front().inputs;
        int const last = layers.front().linear.back().outputs;
        bool const ends = j + 1 == linear.size();
        check(here.inputs == inputs && here.inputs > 0, name, std::to_string(here.inputs) + " inputs",
              inputs > 0 ? std::to_string(inputs) + " inputs" : "at least one input");
        check(here.outputs > 0 && (!ends || (here.outputs <= 2 && here.outputs == last)), name,
              std::to_string(here.outputs) + " outputs",
              ends ? "1 or 2 logits, in all layers the same" : "at least one output");
        std::size_t const outputs = static_cast<std::size_t>(here.outputs);
        std::size_t const elements = outputs * static_cast<std::size_t>(here.inputs);
        check(here.weight.size() == elements, name + ".weight", std::to_string(here.weight.size()) + " values",
              std::to_string(elements));
        check(here.bias.size() == outputs, name + ".bias", std::to_string(here.bias.size()) + " values",
              std::to_string(outputs));
      }
    }
    layers_ = std::make_shared<std::vector<mlp_layer> const>(std::move(layers));
  }

  /// Where training starts: weights from N(0, 0.02²), biases 0; about half of all heads come out sparse. 16·head_dim²
  /// weights for each layer.
  static mlp_weights untrained(int head_dim, std::uint64_t seed, int layers = 1, int logits = 2) {
    require(head_dim > 0 && head_dim <= 4096, "mlp_weights.head_dim", head_dim, "1 to 4096");
    require(layers > 0 && layers <= 4096, "mlp_weights.layers", layers, "1 to 4096 layers");
    std::int64_t const weights = std::int64_t{16} * head_dim * head_dim * layers;
    require(weights <= std::int64_t{1} << 28, "mlp_weights.layers", layers,
            "fewer: " + std::to_string(weights) + " weights, where 2^28 are drawn at most");
    require(logits == 1 || logits == 2, "mlp_weights.logits", logits, "2, or 1 for the sigmoid variant");
    std::mt19937_64 random(seed);
    auto const uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
    std::vector<mlp_layer> made(static_cast<std::size_t>(layers));
    for (mlp_layer& layer : made) {
      int const widths[] = {head_dim, 4 * head_dim, head_dim, 4 * head_dim, head_dim, logits};
      for (std::size_t j = 0; j < layer.linear.size(); ++j) {
        linear_layer& linear = layer.linear[j] = linear_layer::zeros(widths[j], widths[j + 1]);
        // Box–Muller: the standard library's normal distribution differs from one library to the next.
        for (float& w : linear.weight) {
          double const radius = std::sqrt(-2 * std::log(uniform()));
          w = static_cast<float>(0.02 * radius * std::cos(2 * std::numbers::pi * uniform()));
        }
      }
    }
    return mlp_weights(std::move(made));
  }

  explicit operator bool() const { return layers_ != nullptr; }
  int layers() const { return layers_ ? static_cast<int>(layers_->size()) : 0; }
  int head_dim() const { return layers_ ? layers_->front().linear.front().inputs : 0; }
  int logits() const { return layers_ ? layers_->front().linear.back().outputs : 0; }
  mlp_layer const& layer(int i) const {
    require(i >= 0 && i < layers(), "layer", i, "one of the " + std::to_string(layers()) + " layers that have weights");
    return (*layers_)[static_cast<std::size_t>(i)];
  }

  /// A copy in a device's memory, shared with every copy of this object.
  struct device_copy {
    std::shared_ptr<float const> values;
    int device = -1;
  };
  device_copy const& on_device() const { return on_device_; }

  mlp_weights with(device_copy copy) const {
    mlp_weights made = *this;
    made.on_device_ = std::move(copy);
    return made;
  }

  /// Of one layer.
  std::size_t parameters(int i = 0) const {
    std::size_t n = 0;
    for (linear_layer const& linear : layer(i).linear) n += linear.parameters();
    return n;
  }

 private:
  static void check(bool holds, std::string const& name, std::string const& given, std::string const& expected) {
    if (!holds) throw error("mlp_weights." + name, given, expected);
  }

  std::shared_ptr<std::vector<mlp_layer> const> layers_;
  device_copy on_device_;
};

}  // namespace elastic
