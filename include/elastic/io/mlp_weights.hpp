// Weights of the MLP router from safetensors: per layer <prefix>task.{0,2}.{weight,bias} and
// <prefix>router.{0,2,4}.{weight,bias}, weights (outputs, inputs). In the prefix "{}" stands for the
// layer's number: "layers.{}." reads layers.0., layers.1., … up to the highest that the file holds.
//
//   auto const weights = elastic::load_mlp_weights("router.safetensors", {.prefix = "layers.{}."});
//   auto const one = elastic::load_mlp_weights(file, {.prefix = "layers.15."});   // becomes layer 0
#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <elastic/io/safetensors_file.hpp>
#include <elastic/routers/mlp_weights.hpp>

namespace elastic {

/// How the tensors are called. The authors' code has "cls_feat_extractor." and "cls_router_head_agnostic.".
struct mlp_tensor_names {
  std::string prefix = "";
  std::string task = "task.";
  std::string router = "router.";
};

namespace detail {

inline std::string mlp_tensor(mlp_tensor_names const& names, std::string_view part) {
  std::size_t const dot = part.find('.');
  return names.prefix + (part.substr(0, dot) == "task" ? names.task : names.router) + std::string(part.substr(dot + 1));
}

inline linear_layer load_linear(safetensors_file const& file, std::string const& name, int inputs) {
  auto const& shape = file.shape(name + ".weight");
  auto const fail = [&](std::string const& tensor, std::string const& expected) {
    throw error("tensor " + in_quotes(tensor), "shape " + shape_text(file.shape(tensor)), expected);
  };
  constexpr std::int64_t widest = 1 << 20;
  if (shape.size() != 2 || shape[0] < 1 || shape[0] > widest || shape[1] < 1 || shape[1] > widest ||
      (inputs > 0 && shape[1] != inputs))
    fail(name + ".weight",
         inputs > 0 ? "(outputs, " + std::to_string(inputs) + ") as the layer before gives" : "(outputs, inputs)");
  if (file.shape(name + ".bias") != std::vector<std::int64_t>{shape[0]})
    fail(name + ".bias", "(" + std::to_string(shape[0]) + ") as the weight's outputs");
  return {static_cast<int>(shape[1]), static_cast<int>(shape[0]), file.load<float>(name + ".weight"),
          file.load<float>(name + ".bias")};
}

/// 1 + the highest number that stands for "{}" in a tensor of the file.
inline int count_layers(safetensors_file const& file, std::string const& pattern) {
  std::size_t const hole = pattern.find("{}");
  std::string_view const before = std::string_view(pattern).substr(0, hole),
                         after = std::string_view(pattern).substr(hole + 2);
  int layers = 0;
  for (std::string const& name : file.names()) {
    if (!name.starts_with(before)) continue;
    int number = -1;
    char const* const digits = name.data() + before.size();
    auto const [end, failure] = std::from_chars(digits, name.data() + name.size(), number);
    if (failure == std::errc{} && number >= layers && number < 1 << 16 && *digits != '-' &&
        std::string_view(end) == after)
      layers = number + 1;
  }
  return layers;
}

}  // namespace detail

/// Values are rounded to float. Throws elastic::error naming the tensor that is missing or has the wrong shape.
inline mlp_weights load_mlp_weights(safetensors_file const& file, mlp_tensor_names const& names = {}) {
  std::size_t const hole = names.prefix.find("{}");
  bool const numbered = hole != std::string::npos;
  int const layers = numbered ? detail::count_layers(file, detail::mlp_tensor(names, "task.0.weight")) : 1;
  if (layers == 0)
    throw error("tensor " + detail::in_quotes(detail::mlp_tensor(names, "task.0.weight")), "none in the file",
                "one for each layer, {} being its number");
  std::vector<mlp_layer> loaded(static_cast<std::size_t>(layers));
  for (int i = 0; i < layers; ++i) {
    mlp_tensor_names here = names;
    if (numbered) here.prefix.replace(hole, 2, std::to_string(i));
    int inputs = 0;
    for (std::size_t j = 0; j < mlp_layer::names.size(); ++j) {
      std::string const name = detail::mlp_tensor(here, mlp_layer::names[j]);
      linear_layer& linear = loaded[static_cast<std::size_t>(i)].linear[j];
      linear = detail::load_linear(file, name, inputs);
      inputs = linear.outputs;
      bool const last = j + 1 == mlp_layer::names.size();
      if (last && inputs > 2)
        throw error("tensor " + detail::in_quotes(name + ".weight"),
                    "shape " + detail::shape_text(file.shape(name + ".weight")),
                    "2 logits, or 1 in the sigmoid variant");
    }
  }
  return mlp_weights(std::move(loaded));
}

inline mlp_weights load_mlp_weights(std::filesystem::path const& path, mlp_tensor_names const& names = {}) {
  return load_mlp_weights(safetensors_file::open(path), names);
}

}  // namespace elastic
