// What the CUDA backend promises beside numbers: errors before any launch, graphs, repeatable bits, and
// nothing read or written out of bounds whatever the device memory holds.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include <cstring>

#include "support/cuda_memory.hpp"
#include "support/dice.hpp"
#include "support/judge.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<64>;
using two_kinds = hybrid<full, streaming>;

/// q, k, v of one shape, dense, in device memory.
struct inputs {
  int batch, rows, heads;
  device_buffer<half> q, k, v, out;
  device_buffer<std::int32_t> routes;
  device_buffer<std::byte> space;

  inputs(int b, int s, int h)
      : batch(b),
        rows(s),
        heads(h),
        q(size()),
        k(size()),
        v(size()),
        out(size()),
        routes(std::size_t(b * h)),
        space(1 << 16) {
    refill(1);
  }
  std::size_t size() const { return std::size_t(batch) * std::size_t(rows) * std::size_t(heads) * 64; }
  void refill(std::uint64_t seed) {
    dice r(seed);
    for (auto* buffer : {&q, &k, &v}) {
      std::vector<half> values(size());
      for (half& value : values) value = half(r.normal());
      buffer->write(values);
    }
    std::vector<std::int32_t> chosen(routes.size());
    for (std::int32_t& route : chosen) route = r.below(2);
    routes.write(chosen);
  }
  template <class T>
  heads_view<T> view(device_buffer<half> const& of) const {
    return {of.data(), {batch, rows, heads, 64}};
  }
  template <class Attention>
  void forward(Attention const& attend, options const& o = {}) const {
    attend.forward(view<half const>(q), view<half const>(k), view<half const>(v), view<half>(out), {},
                   const_assignment_view(routes.data(), {batch, heads}), {space.data(), space.size()}, o);
  }
};

/// The argument that an elastic::error names.
template <class F>
std::string refused(F&& f) {
  try {
    f();
  } catch (error const& thrown) {
    return thrown.argument();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("errors come before any launch, without a device too") {
  alignas(256) static std::byte memory[4096], result[4096];
  half *const fake = reinterpret_cast<half*>(memory), *const out = reinterpret_cast<half*>(result);
  auto const forward = [&](heads_view<half const> const& q, std::size_t bytes, options const& o = {}) {
    attention<full, fixed_router, gpu> const attend;
    std::int32_t route = 0;
    attend.forward(q, heads_view<half const>(fake, {1, 1, 1, q.extents[3]}),
                   heads_view<half const>(fake, {1, 1, 1, q.extents[3]}),
                   heads_view<half>(out, {q.extents[0], q.extents[1], q.extents[2], q.extents[3]}), {},
                   const_assignment_view(&route, {1, 1}), {memory, bytes}, o);
  };
  CHECK(refused([&] { forward({fake, {1, 1, 1, 128}}, 4096); }) == "q head_dim");
  CHECK(refused([&] { forward({fake + 1, {1, 1, 1, 64}}, 4096); }) == "q");
  CHECK(refused([&] { forward({fake, {1, 2, 1, 64}, {0, 68, 64, 1}}, 4096); }) == "q");
  CHECK(refused([&] { forward({fake, {1, 1, 1, 64}}, 8); }) == "workspace");
  std::int32_t starts[] = {0, 1};
  options packed;
  packed.cu_seqlens_q = packed.cu_seqlens_k = starts;
  CHECK(refused([&] { forward({fake, {1, 1, 1, 64}}, 4096, packed); }) == "options.max_q_len");
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    cudaGetLastError();
    CHECK(refused([&] { forward({fake, {1, 1, 1, 64}}, 4096); }) == "device");
    CHECK(refused([&] { gpu{}.kernel<half>(problem{}); }) == "device");
  }
}

TEST_CASE("a failed call is told by name and file") {
  try {
    elastic::detail::cuda_call(cudaErrorInvalidValue, "cudaSomething");
    FAIL("nothing was thrown");
  } catch (cuda_error const& thrown) {
    CHECK(thrown.call() == "cudaSomething");
    CHECK(thrown.file().find("contracts.cu") != std::string::npos);
    CHECK(thrown.code() == cudaErrorInvalidValue);
  }
}

namespace {

/// Random half tensors of (batch, q_len × k_len, query_heads / kv_heads, 64) against the oracle.
template <class M>
std::string misjudged_shape(M const& mode, int batch, int q_len, int k_len, int query_heads, int kv_heads) {
  dice r(11);
  auto const draw = [&](int rows, int heads) {
    std::vector<half> values(std::size_t(batch) * std::size_t(rows) * std::size_t(heads) * 64);
    for (half& value : values) value = half(r.normal());
    return values;
  };
  std::vector<half> const q = draw(q_len, query_heads), k = draw(k_len, kv_heads), v = draw(k_len, kv_heads);
  std::vector<std::int32_t> routes(std::size_t(batch * query_heads));
  for (std::int32_t& route : routes) route = r.below(elastic::routes<M>);
  device_buffer<half> const dq{std::span<half const>(q)}, dk{std::span<half const>(k)}, dv{std::span<half const>(v)};
  device_buffer<half> const out(q.size());
  device_buffer<float> const lse(q.size() / 64);
  device_buffer<std::int32_t> const route_memory{std::span<std::int32_t const>(routes)};
  std::array<std::int64_t, 4> const q_shape{batch, q_len, query_heads, 64}, k_shape{batch, k_len, kv_heads, 64};
  attention<M, fixed_router, gpu> const attend{mode};
  heads_view<half const> const q_view(dq.data(), q_shape), k_view(dk.data(), k_shape), v_view(dv.data(), k_shape);
  device_buffer<std::byte> const space(attend.workspace_bytes(attend.shape(q_view, k_view)));
  attend.forward(q_view, k_view, v_view, heads_view<half>(out.data(), q_shape),
                 lse_view(lse.data(), {batch, query_heads, q_len}),
                 const_assignment_view(route_memory.data(), {batch, query_heads}), {space.data(), space.size()});
  auto given = out.read();
  auto given_lse = lse.read();
  heads_view<half const> const host_q(q.data(), q_shape), host_k(k.data(), k_shape), host_v(v.data(), k_shape);
  return misjudged<half>(mode, make_problem<half>(host_q, host_k), host_q, plain_keys<half>{host_k, host_v},
                         heads_view<half>(given.data(), q_shape),
                         lse_view(given_lse.data(), {batch, query_heads, q_len}),
                         const_assignment_view(routes.data(), {batch, query_heads}));
}

}  // namespace

TEST_CASE("more key tiles than are looked up at once") {
  if (device_missing("more key tiles than are looked up at once")) return;
  CHECK(misjudged_shape(two_kinds{full{}, streaming{1, 60}}, 1, 150, 13333, 4, 2) == "");
}

TEST_CASE("more heads than are ranked at once") {
  if (device_missing("more heads than are ranked at once")) return;
  CHECK(misjudged_shape(two_kinds{full{}, streaming{0, 1}}, 90, 40, 300, 24, 3) == "");
}

TEST_CASE("many launches give the same bits") {
  if (device_missing("many launches give the same bits")) return;
  inputs x(2, 700, 6);
  attention<two_kinds, fixed_router, gpu> const attend{{full{}, streaming{1, 2}}};
  x.forward(attend);
  auto const first = x.out.read();
  int different = 0;
  for (int i = 0; i < 1000; ++i) {
    x.forward(attend);
    if (i % 10 == 0 || i > 990) {
      auto const again = x.out.read();
      different += std::memcmp(first.data(), again.data(), first.size() * sizeof(half)) != 0;
    }
  }
  CHECK(different == 0);
}

TEST_CASE("a launch is captured in a graph and replayed on new inputs and routes") {
  if (device_missing("a launch is captured in a graph")) return;
  inputs x(2, 300, 4);
  attention<two_kinds, fixed_router, gpu> const attend{{full{}, streaming{1, 1}}};
  cudaStream_t stream;
  cuda_call(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  options o;
  o.stream = stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cuda_call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  x.forward(attend, o);
  cuda_call(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda_call(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  for (std::uint64_t seed = 2; seed < 6; ++seed) {
    x.refill(seed);
    cuda_call(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    auto const replayed = x.out.read();
    x.forward(attend, o);
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    auto const direct = x.out.read();
    CHECK(std::memcmp(direct.data(), replayed.data(), direct.size() * sizeof(half)) == 0);
  }
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST_CASE("wild lists and lengths in device memory stay inside the tensors") {
  if (device_missing("wild lists and lengths")) return;
  inputs x(1, 300, 4);
  dice r(7);
  std::vector<std::int32_t> entries(64), count(12);
  std::vector<std::int64_t> begin(12);
  auto const wild = [&] {
    return static_cast<std::int32_t>(r.one_in(2) ? r.between(-5, 5) : static_cast<int>(r.bits()));
  };
  for (int round = 0; round < 20; ++round) {
    for (auto& entry : entries) entry = wild();
    for (auto& n : count) n = wild();
    for (auto& b : begin) b = r.one_in(2) ? r.between(0, 64) : static_cast<std::int64_t>(r.bits());
    device_buffer<std::int32_t> const entry_memory{std::span<std::int32_t const>(entries)},
        count_memory{std::span<std::int32_t const>(count)};
    device_buffer<std::int64_t> const begin_memory{std::span<std::int64_t const>(begin)};
    block_sparse m;
    m.entries = entry_memory.data();
    m.size = 64;
    m.begin = {begin_memory.data(), {1, 4, 3}};
    m.count = {count_memory.data(), {1, 4, 3}};
    x.forward(attention<block_sparse, fixed_router, gpu>{m});

    std::vector<std::int32_t> starts{wild(), wild(), wild(), wild()};
    device_buffer<std::int32_t> const starts_memory{std::span<std::int32_t const>(starts)};
    device_buffer<std::int32_t> const routes{std::span<std::int32_t const>(count)};
    options o;
    o.cu_seqlens_q = o.cu_seqlens_k = {starts_memory.data(), starts_memory.size()};
    o.max_q_len = 300;
    o.max_k_len = 300;
    attention<two_kinds, fixed_router, gpu> const attend;
    attend.forward(x.view<half const>(x.q), x.view<half const>(x.k), x.view<half const>(x.v), x.view<half>(x.out), {},
                   const_assignment_view(routes.data(), {3, 4}), {x.space.data(), x.space.size()}, o);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  }
}
