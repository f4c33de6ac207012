// What the tests of MoBA and vertical-slash on the CUDA backend share: random problems in every layout, and attention
// through what was selected.
#pragma once

#include <cstring>

#include "support/cuda_selection.cuh"
#include "support/judge.hpp"

namespace elastic::testing {

/// Random tensors with ragged or packed sequences, and a chunk of their query rows.
template <element T>
struct drawn_problem {
  std::vector<std::int32_t> starts_q, starts_k;
  options o;
  std::optional<device_heads<T>> q, k, v;

  drawn_problem(dice& r, std::initializer_list<int> head_dims, int longest) {
    int const kv_heads = r.pick({1, 2, 3}), heads = kv_heads * r.pick({1, 2, 4}), head_dim = r.pick(head_dims);
    int batch = r.pick({0, 1, 1, 2, 3});
    std::int64_t q_rows = 0, k_rows = 0;
    if (batch > 0 && r.one_in(2)) {
      starts_q = starts_k = {0};
      for (int b = 0; b < batch; ++b) {
        int const keys = r.one_in(6) ? 0 : r.between(1, longest), queries = r.one_in(3) ? r.between(0, longest) : keys;
        starts_q.push_back(static_cast<std::int32_t>(q_rows += queries));
        starts_k.push_back(static_cast<std::int32_t>(k_rows += keys));
      }
      batch = 1;
      o.cu_seqlens_q = starts_q;
      o.cu_seqlens_k = starts_k;
    } else {
      k_rows = r.between(1, longest);
      q_rows = r.one_in(2) ? k_rows : r.between(1, longest);
    }
    q.emplace(r, std::array<std::int64_t, 4>{batch, q_rows, heads, head_dim}, 1.f);
    k.emplace(r, std::array<std::int64_t, 4>{batch, k_rows, kv_heads, head_dim}, 1.f);
    v.emplace(r, std::array<std::int64_t, 4>{batch, k_rows, kv_heads, head_dim}, 1.f);
    problem const p = make_problem<T>(q->host(), k->host(), o);
    if (r.one_in(2)) {
      o.q_begin = r.between(0, p.q_len / chunk_alignment) * chunk_alignment;
      o.q_end = minimum(o.q_begin + r.between(0, 3) * chunk_alignment, p.q_len);
    }
  }
};

/// Attention through hybrid<full, Selector>, judged against what was selected.
template <element T, class Backend, class Selector>
std::string misjudged_attention(Backend const& backend, Selector const& s, dice& r,
                                std::initializer_list<int> head_dims) {
  drawn_problem<T> x(r, head_dims, 500);
  x.o.q_begin = 0;
  x.o.q_end = -1;
  problem const p = make_problem<T>(x.q->host(), x.k->host(), x.o);
  std::vector<std::int32_t> routes(static_cast<std::size_t>(p.batch * p.query_heads));
  for (auto& route : routes) route = r.below(2);
  const_assignment_view const host_routes(routes.data(), {p.batch, p.query_heads});
  device_buffer<std::int32_t> const route_memory{std::span<std::int32_t const>(routes)};
  const_assignment_view const assignment(route_memory.data(), {p.batch, p.query_heads});
  device_options const on_device(x.o);
  attention<hybrid<full, Selector>, fixed_router, Backend> const attend{{full{}, s}, {}, backend};
  heads_view<T const> const q(x.q->device()), k(x.k->device()), v(x.v->device());
  device_buffer<std::byte> const space(attend.workspace_bytes(attend.shape(q, k, *on_device)) + 256);
  device_heads<T> out(r, {q.extents[0], q.extents[1], q.extents[2], q.extents[3]}, 1.f);
  attend.select(q, k, assignment, {space.data(), space.size()}, *on_device);
  attend.forward(q, k, v, out.device(), {}, assignment, {space.data(), space.size()}, *on_device);
  cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  out.read();
  auto const bytes = space.read();
  std::vector<std::byte> host(bytes.size() + 256);
  std::size_t const shift = (256 - reinterpret_cast<std::uintptr_t>(host.data()) % 256) % 256;
  std::memcpy(host.data() + shift, bytes.data(), bytes.size());
  auto const truth = attend.selected_in(p, {host.data() + shift, bytes.size()});
  heads_view<T const> const read = out.host();
  heads_view<T> given(const_cast<T*>(read.data), {}, {});
  for (int i = 0; i < 4; ++i) given.extents[i] = read.extents[i], given.strides[i] = read.strides[i];
  return misjudged<T>(truth, p, x.q->host(), plain_keys<T>{x.k->host(), x.v->host()}, given, {}, host_routes);
}

/// Selects with nonsense in the device's cu_seqlens and assignment; the compute-sanitizer sees what is out of bounds.
template <class Backend, class Selector>
void select_from_wild_memory(Backend const& backend, Selector const& s) {
  constexpr int rows = 300, heads = 4, sequences = 3;
  dice r(9);
  device_buffer<half> const q(std::size_t(rows * heads * 64)), k(std::size_t(rows * 2 * 64));
  cuda_call(cudaMemset(q.data(), 0, q.size() * 2), "cudaMemset");
  cuda_call(cudaMemset(k.data(), 0, k.size() * 2), "cudaMemset");
  heads_view<half const> const queries(q.data(), {1, rows, heads, 64}), keys(k.data(), {1, rows, 2, 64});
  for (int round = 0; round < 20; ++round) {
    auto const wild = [&](std::size_t n) {
      std::vector<std::int32_t> values(n);
      for (auto& value : values) value = r.one_in(2) ? r.between(-5, 305) : static_cast<std::int32_t>(r.bits());
      return values;
    };
    device_buffer<std::int32_t> const starts_q{std::span<std::int32_t const>(wild(sequences + 1))};
    device_buffer<std::int32_t> const starts_k{std::span<std::int32_t const>(wild(sequences + 1))};
    device_buffer<std::int32_t> const routes{std::span<std::int32_t const>(wild(sequences * heads))};
    options o;
    o.cu_seqlens_q = {starts_q.data(), starts_q.size()};
    o.cu_seqlens_k = {starts_k.data(), starts_k.size()};
    o.max_q_len = o.max_k_len = rows;
    attention<Selector, fixed_router, Backend> const attend{s, {}, backend};
    device_buffer<std::byte> const space(attend.workspace_bytes(attend.shape(queries, keys, o)));
    attend.select(queries, keys, const_assignment_view(routes.data(), {sequences, heads}), {space.data(), space.size()},
                  o);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  }
}

}  // namespace elastic::testing
