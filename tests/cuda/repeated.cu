// A thousand launches give the same bits: routes, what is selected, outputs, LSE, and decode. Every launch starts from
// other garbage in its workspace and outputs, and is compared on the device.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include <vector>

#include "support/cuda_memory.hpp"
#include "support/dice.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

constexpr int batch = 2, length = 1111, query_heads = 6, kv_heads = 2, head_dim = 64, launches = 1000;
using gpu = cuda_for<head_dim>;

template <class Word>
__global__ void count_differences(Word const* left, Word const* right, std::size_t size, unsigned* different) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x)
    if (left[i] != right[i]) atomicAdd(different, 1u);
}

struct results {
  device_buffer<bfloat16> out{std::size_t(batch) * length * query_heads * head_dim},
      decoded{batch * query_heads * head_dim};
  device_buffer<float> lse{std::size_t(batch) * length * query_heads};
  device_buffer<std::int32_t> routes{batch * query_heads};

  template <class F>
  void each(F&& f) const {
    f(out.data(), out.size() * sizeof(bfloat16));
    f(decoded.data(), decoded.size() * sizeof(bfloat16));
    f(lse.data(), lse.size() * sizeof(float));
    f(routes.data(), routes.size() * sizeof(std::int32_t));
  }
};

std::vector<bfloat16> drawn(int heads, std::uint64_t seed) {
  dice r(seed);
  std::vector<bfloat16> values(std::size_t(batch) * length * std::size_t(heads) * head_dim);
  for (bfloat16& value : values) value = bfloat16(r.normal());
  return values;
}

template <class M>
unsigned differences(M const& mode) {
  device_buffer<bfloat16> const q_memory{std::span<bfloat16 const>(drawn(query_heads, 1))},
      k_memory{std::span<bfloat16 const>(drawn(kv_heads, 2))}, v_memory{std::span<bfloat16 const>(drawn(kv_heads, 3))};
  heads_view<bfloat16 const> const q(q_memory.data(), {batch, length, query_heads, head_dim}),
      k(k_memory.data(), {batch, length, kv_heads, head_dim}), v(v_memory.data(), {batch, length, kv_heads, head_dim}),
      new_q(q_memory.data(), {batch, 1, query_heads, head_dim});
  // Keys and values as a cache of pages: every row of a head is as far from the next as in the tensors.
  std::vector<std::int32_t> pages;
  for (int b = 0; b < batch; ++b)
    for (int h = 0; h < kv_heads; ++h) pages.push_back(b * length * kv_heads + h);
  device_buffer<std::int32_t> const table{std::span<std::int32_t const>(pages)},
      lengths{std::span<std::int32_t const>(std::vector<std::int32_t>{length, length - 300})};
  strided_view<bfloat16 const, 3> const k_pages(k_memory.data(), {batch * length * kv_heads, length, head_dim},
                                                {head_dim, kv_heads * head_dim, 1});
  strided_view<bfloat16 const, 3> v_pages = k_pages;
  v_pages.data = v_memory.data();
  paged_cache<bfloat16> const cache{k_pages, v_pages, {table.data(), {batch, kv_heads, 1}}, {lengths.data(), {batch}}};

  attention<M, mlp_router, gpu> const attend{mode, mlp_router{upload(mlp_weights::untrained(head_dim, 3))}};
  std::size_t const bytes =
      maximum(attend.workspace_bytes(attend.shape(q, k)), attend.decode_bytes(attend.shape(new_q, cache)));
  device_buffer<std::byte> const space(bytes);
  workspace const memory(space.data(), space.size());
  auto const run = [&](results const& to, int garbage) {
    cuda_call(cudaMemsetAsync(space.data(), garbage, space.size()), "cudaMemsetAsync");
    to.each([&](void* data, std::size_t size) { cuda_call(cudaMemsetAsync(data, garbage, size), "cudaMemsetAsync"); });
    assignment_view const assignment(to.routes.data(), {batch, query_heads});
    attend.route(k, assignment, memory);
    attend.select(q, k, assignment, memory);
    attend.forward(q, k, v, heads_view<bfloat16>(to.out.data(), {batch, length, query_heads, head_dim}),
                   lse_view(to.lse.data(), {batch, query_heads, length}), assignment, memory);
    attend.decode(new_q, cache, heads_view<bfloat16>(to.decoded.data(), {batch, 1, query_heads, head_dim}), {},
                  assignment, memory);
  };
  results const first, again;
  device_buffer<unsigned> const different{std::span<unsigned const>(std::vector<unsigned>{0})};
  run(first, 0);
  for (int i = 1; i < launches; ++i) {
    run(again, i);
    std::vector<unsigned char const*> left;
    first.each([&](void const* data, std::size_t) { left.push_back(static_cast<unsigned char const*>(data)); });
    auto next = left.begin();
    again.each([&](void const* data, std::size_t size) {
      count_differences<<<64, 256>>>(*next++, static_cast<unsigned char const*>(data), size, different.data());
      cuda_call(cudaGetLastError(), "count_differences");
    });
  }
  cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return different.read()[0];
}

}  // namespace

TEST_CASE("a thousand launches of every selector give the same bits") {
  if (device_missing("a thousand launches of every selector give the same bits")) return;
  CHECK(differences(hybrid{full{}, streaming{.sink = 1, .local = 2}}) == 0);
  CHECK(differences(hybrid{full{}, antidiagonal{}}) == 0);
  CHECK(differences(hybrid{streaming{.sink = 1, .local = 2}, pooled_top_k{.k = 5}}) == 0);
  CHECK(differences(hybrid{full{}, moba{.block = 128, .k = 4}}) == 0);
  CHECK(differences(hybrid{full{}, vertical_slash{.columns = 64, .offsets = 256}}) == 0);
}
