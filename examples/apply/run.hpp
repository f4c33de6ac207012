// Runs the mode that the arguments name. Each backend is compiled in a file of its own: run_cpu.cpp, run_reference.cpp,
// run_cuda.cu.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/metrics/sparsity.hpp>

#include "../support/capture.hpp"
#include "../support/modes.hpp"
#include "chosen.hpp"

namespace examples {

struct arguments {
  std::string input, output, mode, prefix, backend = "cpu", router, scale;
  std::vector<std::string> set;
  std::optional<bool> causal;
  int threads = 0;
  bool list = false;
};

/// What is told of the run, besides the tensors.
struct applied {
  std::vector<std::int32_t> routes;  // (batch, heads)
  head_sparsity pairs;               // of all heads together

  double density() const {
    return pairs.visible > 0 ? static_cast<double>(pairs.kept) / static_cast<double>(pairs.visible) : 1;
  }
};

void apply_on_cpu(arguments const& given);
void apply_on_reference(arguments const& given);
void apply_on_cuda(arguments const& given);
void print_applied(arguments const& given, std::string const& keys, problem const& p, char const* scale_origin,
                   applied const& result);

/// Where a backend reads what the program took from files.
template <class Backend>
struct memory_of {
  std::vector<std::uint8_t> mask;

  std::uint8_t const* keep(std::vector<std::uint8_t> values) {
    mask = std::move(values);
    return mask.data();
  }
  mlp_weights keep(mlp_weights weights) { return weights; }
};

/// Attends as the front door's one call does, and keeps what was selected on the way.
template <class Mode, class Router, class Backend>
  requires(Backend::on_host)
applied attend_layer(attention<Mode, Router, Backend> const& attend, layer_inputs const& in, options const& o,
                     safetensors_writer& to) {
  heads_view<float const> const q = in.q.view(), k = in.k.view(), v = in.v.view();
  problem const p = attend.shape(q, k, o);
  auto const [batch, seq, heads, head_dim] = in.q.shape;
  std::vector<float> out(in.q.values.size()), lse(static_cast<std::size_t>(batch * heads * seq));
  std::vector<std::byte> memory(attend.workspace_bytes(p));
  applied result{std::vector<std::int32_t>(static_cast<std::size_t>(batch * heads)), {}};
  assignment_view const routes_of(result.routes.data(), {batch, heads});

  options at_route = o;
  at_route.layer = 0;  // the router's weights are those of this layer alone
  attend.route(in.to_route(), routes_of, memory, at_route);

  chosen_tensors chosen;
  options step = o;
  int const rows = maximum(attend.chunk_rows(p), 1);
  for (step.q_begin = 0; step.q_begin < p.q_len; step.q_begin += rows) {
    step.q_end = minimum(step.q_begin + rows, p.q_len);
    attend.select(q, k, routes_of, memory, step);
    attend.forward(q, k, v, {out.data(), in.q.shape}, {lse.data(), {batch, heads, seq}}, routes_of, memory, step);
    problem const part = attend.shape(q, k, step);
    auto const selected = attend.selected_in(part, memory);
    zip_leaves(attend.mode(), selected,
               [&](auto const& selector, auto const& of, int) { chosen.read(selector, of, part); });
    result.pairs += count_sparsity(selected, part, routes_of).total();
  }
  to.add("o", {batch, seq, heads, head_dim}, out);
  to.add("lse", {batch, heads, seq}, lse);
  chosen.add_to(to);
  if (routes < Mode >> 1) to.add("assignment", {batch, heads}, result.routes);
  return result;
}

template <class Mode, class Backend>
void run(Mode mode, Backend backend, arguments const& given) {
  mlp_router router;
  constexpr bool pair = routes < Mode >> 1;
  if constexpr (pair)
    set_fields(given.set, mode, router);
  else
    set_fields(given.set, mode);
  if (pair && given.router.empty())
    throw error("--router", "nothing", "a file of router weights, which a pair of modes needs");
  if (!pair && !given.router.empty()) throw error("--router", "a file", "none: one mode alone needs no router");

  safetensors_file const file = safetensors_file::open(given.input);
  layer_inputs const in = layer_inputs::load(file, given.prefix);
  in.require_finite();
  options o{
      .causal = given.causal.value_or(causal_in(file).value_or(true)), .layer = in.layer, .threads = given.threads};
  char const* origin = "1/sqrt(head_dim)";
  if (!given.scale.empty()) {
    o.softmax_scale = parse_number<float>("--scale", given.scale);
    origin = "--scale";
  } else if ((o.softmax_scale = scale_in(file))) {
    origin = "the file's metadata";
  }

  memory_of<Backend> memory;
  if constexpr (std::is_same_v<Mode, block_mask>) {
    std::string const name = given.prefix + "block_mask";
    auto const& shape = file.shape(name);
    if (shape.size() != 4)
      throw error("tensor " + elastic::detail::in_quotes(name), "shape " + elastic::detail::shape_text(shape),
                  "(batch, heads, query blocks, key blocks)");
    mode.mask = {memory.keep(file.load<std::uint8_t>(name)), {shape[0], shape[1], shape[2], shape[3]}};
  }

  safetensors_writer to;
  problem p;
  applied result;
  if constexpr (pair) {
    if (in.k_pre_rope.values.empty()) file.entry(given.prefix + "k_pre_rope");  // throws
    router.weights = memory.keep(load_router(safetensors_file::open(given.router), given.prefix));
    attention const front{mode, router, backend};
    p = front.shape(in.q.view(), in.k.view(), o);
    result = attend_layer(front, in, o, to);
  } else {
    attention const front{mode, fixed_router{}, backend};
    p = front.shape(in.q.view(), in.k.view(), o);
    result = attend_layer(front, in, o, to);
  }
  std::string const keys = describe(mode);
  to.metadata("mode", given.mode).metadata("parameters", keys).metadata("backend", given.backend);
  to.metadata("causal", o.causal ? "true" : "false").metadata("softmax_scale", number_text(p.softmax_scale));
  to.metadata("elastic",
              number_text(version.major) + "." + number_text(version.minor) + "." + number_text(version.patch));
  to.metadata("density", number_text(result.density()));
  to.write(given.output);
  print_applied(given, keys, p, origin, result);
}

template <class Backend>
void apply_on(Backend backend, arguments const& given) {
  with_mode(given.mode, [&](auto const& mode) {
    using mode_type = std::remove_cvref_t<decltype(mode)>;
    if constexpr (Backend::on_host || !host_only<mode_type>)
      run(mode, backend, given);
    else
      throw error("--mode", given.mode, "another with --backend cuda: this one runs on the host alone");
  });
}

}  // namespace examples
