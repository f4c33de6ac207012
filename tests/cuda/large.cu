// A million tokens inside tensors of more than 2^32 elements: one head, the last of many, gives the bits that the same
// head gives in a tensor of its own. All else is NaN.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include "support/cuda_memory.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

constexpr int length = 1 << 20, heads = 36, head_dim = 128;  // 4.8 · 10⁹ elements
constexpr unsigned blocks = length / 256 * head_dim;
constexpr std::size_t bytes_needed = std::size_t{24} << 30;

/// Uniform in ±2, one element a thread.
__global__ void draw(bfloat16* values, std::int64_t row, unsigned seed) {
  std::int64_t const i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  unsigned x = static_cast<unsigned>(i) * 2654435761u + seed;
  x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
  values[i / head_dim * row + i % head_dim] = bfloat16(static_cast<float>(x >> 8) * 0x1p-22f - 2);
}

__global__ void count_differences(bfloat16 const* left, std::int64_t left_row, bfloat16 const* right,
                                  std::int64_t right_row, unsigned* different) {
  std::int64_t const i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, at = i / head_dim, d = i % head_dim;
  if (left[at * left_row + d].bits != right[at * right_row + d].bits) atomicAdd(different, 1u);
}

/// (1, length, count, head_dim), every element NaN.
struct tensor {
  int count;
  device_buffer<bfloat16> memory;
  explicit tensor(int n) : count(n), memory(std::size_t{length} * std::size_t(n) * head_dim) {
    cuda_call(cudaMemset(memory.data(), 0xff, memory.size() * sizeof(bfloat16)), "cudaMemset");
  }
  std::int64_t row() const { return std::int64_t{count} * head_dim; }
  bfloat16* head(int h) const { return memory.data() + std::int64_t{h} * head_dim; }
  template <class T>
  heads_view<T> view(int h) const {
    return {head(h), {1, length, 1, head_dim}, {length * row(), row(), head_dim, 1}};
  }
};

/// Head 0 to 2 of `q`, `k`, `v` and `out` from the last one downwards, and assignment and workspace.
struct run {
  tensor in, out;
  device_buffer<std::int32_t> routes{std::size_t{1}};

  explicit run(int count) : in(count), out(count) {
    for (int i = 0; i < 3; ++i) draw<<<blocks, 256>>>(in.head(count - 1 - i), in.row(), static_cast<unsigned>(77 * i));
    cuda_call(cudaGetLastError(), "draw");
  }

  /// Returns what the router says; the heads take the last mode whatever that is.
  template <class M>
  std::int32_t operator()(M const& mode, float scale) const {
    attention<M, mlp_router, cuda_for<head_dim>> const attend{mode,
                                                              mlp_router{upload(mlp_weights::untrained(head_dim, 3))}};
    heads_view<bfloat16 const> const q = in.view<bfloat16 const>(in.count - 1),
                                     k = in.view<bfloat16 const>(in.count - 2),
                                     v = in.view<bfloat16 const>(in.count - 3);
    options o{.softmax_scale = scale};
    problem const p = attend.shape(q, k, o);
    device_buffer<std::byte> const space(attend.workspace_bytes(p));
    workspace const memory(space.data(), space.size());
    assignment_view const assignment(routes.data(), {1, 1});
    attend.route(k, assignment, memory, o);
    std::int32_t const route = routes.read()[0];
    routes.write(std::vector<std::int32_t>{static_cast<std::int32_t>(elastic::routes<M>) - 1});
    int const rows = attend.chunk_rows(p);
    for (o.q_begin = 0; o.q_begin < length; o.q_begin += rows) {
      o.q_end = minimum(o.q_begin + rows, length);
      attend.select(q, k, assignment, memory, o);
      attend.forward(q, k, v, out.view<bfloat16>(out.count - 1), {}, assignment, memory, o);
    }
    cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return route;
  }
};

}  // namespace

TEST_CASE("a million tokens, offsets beyond 2^32 elements") {
  if (device_missing("a million tokens")) return;
  std::size_t left = 0, all = 0;
  cuda_call(cudaMemGetInfo(&left, &all), "cudaMemGetInfo");
  if (left < bytes_needed) {
    MESSAGE("skipped, too little device memory: a million tokens");
    return;
  }
  run const among(heads), alone(3);
  device_buffer<unsigned> const different(std::size_t{1});
  auto const differences = [&] {
    different.write(std::vector<unsigned>{0});
    count_differences<<<blocks, 256>>>(among.out.head(heads - 1), among.out.row(), alone.out.head(2), alone.out.row(),
                                       different.data());
    cuda_call(cudaGetLastError(), "count_differences");
    return different.read()[0];
  };
  CHECK(differences() == 0);  // NaN both
  float const scale = 1 / std::sqrt(float(head_dim));
  auto const both = [&](auto const& mode, float by) {
    std::int32_t const route = among(mode, by);
    CHECK(differences() > 0);
    CHECK(alone(mode, by) == route);
    CHECK(differences() == 0);
  };
  both(hybrid{full{}, streaming{.sink = 1, .local = 16}}, scale);
  both(hybrid{full{}, antidiagonal{.threshold = 0.02f}}, scale);
  both(hybrid{full{}, streaming{.sink = 1, .local = 8}}, -scale);  // what the Hopper kernel leaves to the portable one
}
