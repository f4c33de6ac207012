// The attention inputs of one layer, from a safetensors file. F16, BF16 and F32 become float, which holds
// all their values, so that tensors of different types may come together.
#pragma once

#include <charconv>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <elastic/core/view.hpp>
#include <elastic/io/mlp_weights.hpp>
#include <elastic/io/safetensors.hpp>

#include "parameters.hpp"

namespace examples {

/// A tensor (batch, seq, heads, head_dim) as floats.
struct heads_tensor {
  std::vector<float> values;
  std::array<std::int64_t, 4> shape{};
  safetensors_dtype stored = safetensors_dtype::f32;

  static heads_tensor load(safetensors_file const& file, std::string const& name) {
    auto const& shape = file.shape(name);
    if (shape.size() != 4)
      throw error("tensor " + elastic::detail::in_quotes(name), "shape " + elastic::detail::shape_text(shape),
                  "(batch, seq, heads, head_dim)");
    if (safetensors_dtype const dtype = file.entry(name).dtype; dtype == safetensors_dtype::f64)
      throw error("tensor " + elastic::detail::in_quotes(name), "F64", "F16, BF16 or F32, which float holds");
    heads_tensor tensor{file.load<float>(name), {}, file.entry(name).dtype};
    std::copy(shape.begin(), shape.end(), tensor.shape.begin());
    return tensor;
  }

  heads_view<float const> view() const { return {values.data(), shape}; }
};

/// 15 of "layers.15."; 0 where there is no number.
inline int layer_of(std::string const& prefix) {
  std::size_t const digit = prefix.find_first_of("0123456789");
  int layer = 0;
  if (digit != prefix.npos &&
      std::from_chars(prefix.data() + digit, prefix.data() + prefix.size(), layer).ec != std::errc{})
    throw error("prefix", elastic::detail::in_quotes(prefix), "the number of a layer, below 2^31");
  return layer;
}

/// The prefixes under which the file has queries: "layers.15." of "layers.15.q", ascending by layer.
inline std::vector<std::string> layer_prefixes(safetensors_file const& file) {
  std::set<std::pair<int, std::string>> found;
  for (std::string const& name : file.names())
    if (name == "q" || name.ends_with(".q")) {
      std::string const prefix = name.substr(0, name.size() - 1);
      found.emplace(layer_of(prefix), prefix);
    }
  std::vector<std::string> prefixes;
  for (auto const& [layer, prefix] : found) prefixes.push_back(prefix);
  return prefixes;
}

/// q, k, v and where the file has it k_pre_rope, named with a prefix such as "layers.15.".
struct layer_inputs {
  std::string prefix;
  int layer = 0;  // the number in the prefix
  heads_tensor q, k, v, k_pre_rope;

  static layer_inputs load(safetensors_file const& file, std::string const& prefix) {
    layer_inputs in;
    in.prefix = prefix;
    in.layer = layer_of(prefix);
    if (!file.contains(prefix + "q"))
      if (std::vector<std::string> const others = layer_prefixes(file); !others.empty())
        throw error("tensor " + elastic::detail::in_quotes(prefix + "q"), "none",
                    others.front().empty() ? "it; the file has \"q\", without a prefix"
                                           : "it, or --prefix " + others.front() + ", under which the file has one");
    in.q = heads_tensor::load(file, prefix + "q");
    in.k = heads_tensor::load(file, prefix + "k");
    in.v = heads_tensor::load(file, prefix + "v");
    if (file.contains(prefix + "k_pre_rope")) in.k_pre_rope = heads_tensor::load(file, prefix + "k_pre_rope");
    return in;
  }

  route_inputs<float> to_route() const {
    return {.k_pre_rope = k_pre_rope.view(), .q = q.view(), .k = k.view(), .v = v.view()};
  }

  /// Refuses NaN and infinities.
  void require_finite() const {
    for (auto const& [name, tensor] : {std::pair("q", &q), {"k", &k}, {"v", &v}, {"k_pre_rope", &k_pre_rope}})
      for (float const value : tensor->values)
        if (!std::isfinite(value))
          throw error("tensor " + elastic::detail::in_quotes(prefix + name), number_text(value), "finite numbers");
  }
};

/// What the file's metadata say of the softmax scale, if anything.
inline std::optional<float> scale_in(safetensors_file const& file) {
  auto const found = file.metadata().find("softmax_scale");
  if (found == file.metadata().end()) return {};
  return parse_number<float>("metadata softmax_scale", found->second);
}

/// What they say of causality, if anything.
inline std::optional<bool> causal_in(safetensors_file const& file) {
  auto const found = file.metadata().find("causal");
  if (found == file.metadata().end()) return {};
  if (found->second != "true" && found->second != "false")
    throw error("metadata causal", elastic::detail::in_quotes(found->second), "true or false");
  return found->second == "true";
}

/// An MLP router's weights for one layer: under the layer's prefix, or without any, for every layer.
inline mlp_weights load_router(safetensors_file const& file, std::string const& prefix) {
  return load_mlp_weights(file, {.prefix = file.contains(prefix + "task.0.weight") ? prefix : ""});
}

}  // namespace examples
