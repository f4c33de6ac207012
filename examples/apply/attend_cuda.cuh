// The same on a CUDA device: tensors in the type that the file's queries have (half and bfloat16 by tensor cores, F32
// by the float path, which is for checking), everything else alike.
#pragma once

#include "../support/device.cuh"
#include "run.hpp"

namespace examples {

template <int... HeadDims>
struct memory_of<cuda_for<HeadDims...>> {
  device_vector<std::uint8_t> mask;

  std::uint8_t const* keep(std::vector<std::uint8_t> const& values) {
    mask = device_vector<std::uint8_t>(values);
    return mask.data();
  }
  mlp_weights keep(mlp_weights const& weights) { return upload(weights); }
};

template <element T, class Mode, class Router, class Backend>
applied attend_layer_as(attention<Mode, Router, Backend> const& attend, layer_inputs const& in, options const& o,
                        safetensors_writer& to) {
  auto const q_memory = to_device<T>(in.q.values), k_memory = to_device<T>(in.k.values),
             v_memory = to_device<T>(in.v.values), pre_rope_memory = to_device<T>(in.k_pre_rope.values);
  auto const [batch, seq, heads, head_dim] = in.q.shape;
  device_vector<T> const out(in.q.values.size());
  device_vector<float> const lse(static_cast<std::size_t>(batch * heads * seq));
  device_vector<std::int32_t> const assignment(static_cast<std::size_t>(batch * heads));
  heads_view<T const> const q(q_memory.data(), in.q.shape), k(k_memory.data(), in.k.shape),
      v(v_memory.data(), in.v.shape);
  problem const p = attend.shape(q, k, o);
  device_vector<std::byte> const device_memory(attend.workspace_bytes(p));
  workspace const memory(device_memory.data(), device_memory.size());
  assignment_view const routes_of(assignment.data(), {batch, heads});

  options at_route = o;
  at_route.layer = 0;  // the router's weights are those of this layer alone
  attend.route(heads_view<T const>(pre_rope_memory.data(), in.k_pre_rope.shape), routes_of, memory, at_route);
  wait_for_device();
  applied result{assignment.to_host(), {}};

  chosen_tensors chosen;
  options step = o;
  int const rows = maximum(attend.chunk_rows(p), 1);
  for (step.q_begin = 0; step.q_begin < p.q_len; step.q_begin += rows) {
    step.q_end = minimum(step.q_begin + rows, p.q_len);
    attend.select(q, k, routes_of, memory, step);
    attend.forward(q, k, v, {out.data(), in.q.shape}, {lse.data(), {batch, heads, seq}}, routes_of, memory, step);
    problem const part = attend.shape(q, k, step);
    readable_workspace const readable(attend.backend(), memory);
    auto const selected = attend.selected_in(part, readable);
    zip_leaves(attend.mode(), selected,
               [&](auto const& selector, auto const& of, int) { chosen.read(selector, of, part); });
    result.pairs += count_sparsity(selected, part, const_assignment_view(result.routes.data(), {batch, heads})).total();
  }
  wait_for_device();
  to.add("o", {batch, seq, heads, head_dim}, to_floats(out));
  to.add("lse", {batch, heads, seq}, lse.to_host());
  chosen.add_to(to);
  if (routes < Mode >> 1) to.add("assignment", {batch, heads}, result.routes);
  return result;
}

template <class Mode, class Router, class Backend>
  requires(!Backend::on_host)
applied attend_layer(attention<Mode, Router, Backend> const& attend, layer_inputs const& in, options const& o,
                     safetensors_writer& to) {
  switch (in.q.stored) {
    case safetensors_dtype::bf16:
      return attend_layer_as<bfloat16>(attend, in, o, to);
    case safetensors_dtype::f16:
      return attend_layer_as<half>(attend, in, o, to);
    default:
      return attend_layer_as<float>(attend, in, o, to);
  }
}

}  // namespace examples
