// The pipeline in a CUDA graph: route, select, forward and decode are captured once and replayed on new inputs,
// which the router decides anew; results are those of calls outside a graph, bit for bit.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "support/cuda_memory.hpp"
#include "support/dice.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

using element_type = elastic::half;
constexpr int batch = 2, length = 512, query_heads = 8, kv_heads = 4, head_dim = 64;

struct inputs {
  std::array<std::int64_t, 4> q_shape{batch, length, query_heads, head_dim}, k_shape{batch, length, kv_heads, head_dim};
  device_buffer<element_type> q{size(query_heads)}, k{size(kv_heads)}, v{size(kv_heads)}, out{size(query_heads)};
  device_buffer<element_type> new_q{batch * query_heads * head_dim}, new_out{batch * query_heads * head_dim};
  device_buffer<std::int32_t> routes{batch * query_heads}, table{batch * kv_heads}, lengths{batch};

  static std::size_t size(int heads) { return std::size_t(batch) * length * std::size_t(heads) * head_dim; }

  inputs() {
    std::vector<std::int32_t> pages;  // a contiguous cache: one page for each head, which starts where the head does
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < kv_heads; ++h) pages.push_back(b * length * kv_heads + h);
    table.write(pages);
  }

  void refill(std::uint64_t seed) {
    dice r(seed);
    for (auto* buffer : {&q, &k, &v, &new_q}) {
      std::vector<element_type> values(buffer->size());
      // Each (sequence, head) leans another way, so that the router decides one by one.
      std::vector<float> lean(batch * query_heads * head_dim);
      for (float& x : lean) x = 4 * r.normal();
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = element_type(r.normal() + (buffer == &k ? lean[i % lean.size()] : 0.f));
      buffer->write(values);
    }
    lengths.write(std::vector<std::int32_t>{r.between(1, length), r.between(1, length)});
  }

  paged_cache<element_type> cache() const {
    strided_view<element_type const, 3> const pages(k.data(), {batch * length * kv_heads, length, head_dim},
                                                    {head_dim, kv_heads * head_dim, 1});
    strided_view<element_type const, 3> values = pages;
    values.data = v.data();
    return {pages, values, {table.data(), {batch, kv_heads, 1}}, {lengths.data(), {batch}}};
  }

  template <class Attention>
  void run(Attention const& attend, workspace memory, options const& o) const {
    heads_view<element_type const> const queries(q.data(), q_shape), keys(k.data(), k_shape), values(v.data(), k_shape);
    assignment_view const assignment(routes.data(), {batch, query_heads});
    std::array<std::int64_t, 4> const new_shape{batch, 1, query_heads, head_dim};
    attend.route(keys, assignment, memory, o);
    attend.select(queries, keys, assignment, memory, o);
    attend.forward(queries, keys, values, heads_view<element_type>(out.data(), q_shape), {}, assignment, memory, o);
    attend.decode(heads_view<element_type const>(new_q.data(), new_shape), cache(),
                  heads_view<element_type>(new_out.data(), new_shape), {}, assignment, memory, o);
  }

  template <class Attention>
  std::size_t bytes(Attention const& attend) const {
    heads_view<element_type const> const queries(q.data(), q_shape), keys(k.data(), k_shape);
    heads_view<element_type const> const few(new_q.data(), {batch, 1, query_heads, head_dim});
    return maximum(attend.workspace_bytes(attend.shape(queries, keys)),
                   attend.decode_bytes(attend.shape(few, cache())));
  }
};

/// Captures once, replays on five new inputs, and runs each again without the graph.
template <class Attention>
void replay_and_compare(Attention const& attend) {
  inputs x;
  x.refill(1);
  device_buffer<std::byte> const space(x.bytes(attend));
  cudaStream_t stream;
  cuda_call(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  options o;
  o.stream = stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cuda_call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  x.run(attend, {space.data(), space.size()}, o);
  cuda_call(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda_call(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  std::set<std::vector<std::int32_t>> decisions;
  for (std::uint64_t seed = 2; seed < 7; ++seed) {
    x.refill(seed);
    auto const clear = [&] {
      for (auto* buffer : {&x.out, &x.new_out})
        cuda_call(cudaMemset(buffer->data(), 0xff, buffer->size() * sizeof(element_type)), "cudaMemset");
      cuda_call(cudaMemset(x.routes.data(), 0xff, x.routes.size() * 4), "cudaMemset");
      cuda_call(cudaMemset(space.data(), 0xff, space.size()), "cudaMemset");
      cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    };
    clear();
    cuda_call(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    auto const out = x.out.read(), new_out = x.new_out.read();
    auto const routes = x.routes.read();
    clear();
    x.run(attend, {space.data(), space.size()}, o);
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    auto const direct = x.out.read(), new_direct = x.new_out.read();
    CHECK(routes == x.routes.read());
    CHECK(std::memcmp(out.data(), direct.data(), out.size() * sizeof(element_type)) == 0);
    CHECK(std::memcmp(new_out.data(), new_direct.data(), new_out.size() * sizeof(element_type)) == 0);
    for (element_type value : out) REQUIRE(float(value) == float(value));
    for (element_type value : new_out) REQUIRE(float(value) == float(value));
    decisions.insert(routes);
  }
  MESSAGE(decisions.size() << " different assignments in 5 replays");
  CHECK(decisions.size() > 1);
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

}  // namespace

TEST_CASE("a pipeline of static modes is replayed with new decisions") {
  if (device_missing("a pipeline of static modes")) return;
  mlp_router const router{upload(mlp_weights::untrained(head_dim, 5))};
  replay_and_compare(
      attention<hybrid<full, streaming>, mlp_router, cuda_for<head_dim>>{{full{}, streaming{1, 1}}, router});
}

TEST_CASE("a pipeline with a selector is replayed with new decisions and lists") {
  if (device_missing("a pipeline with a selector")) return;
  mlp_router const router{upload(mlp_weights::untrained(head_dim, 5))};
  replay_and_compare(
      attention<hybrid<full, antidiagonal>, mlp_router, cuda_for<head_dim>>{{full{}, antidiagonal{}}, router});
}
