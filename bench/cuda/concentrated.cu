// A selector's best case, everything included: retrieval heads through antidiagonal, the others streaming (1 sink block
// and 16 local ones), 75% of the heads sparse, on the concentrated inputs of support/inputs.hpp drawn on the device.
// Select and forward of 32 query and 8 KV heads, head dim 128, bfloat16, causal, batch 1, in one graph, in turn with
// dense attention. "kept" is the share of the causal tiles of 64 keys that the selecting heads visit in the last chunk
// of query rows. Argument: length.
#include <cmath>

#include <support/device.cuh>

namespace {

using namespace bench;

constexpr int block = 128, far_blocks = 4;

__device__ unsigned mixed(unsigned x) {
  x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
  return x;
}

/// About N(0, 1).
__device__ float normal(unsigned a, unsigned b, unsigned c) {
  unsigned x = mixed(a * 2654435761u + b) ^ mixed(c + 0x9e3779b9u);
  float sum = 0;
  for (int j = 0; j < 4; ++j) sum += static_cast<float>((x = mixed(x)) >> 8) * 0x1p-24f - 0.5f;
  return sum * 1.7320508f;
}

/// Entry i of the direction of a block, of length about 1.
__device__ float direction(int kv_head, int of, int i) {
  return normal(static_cast<unsigned>(of), 77u + static_cast<unsigned>(kv_head), static_cast<unsigned>(i)) *
         rsqrtf(static_cast<float>(head_dim));
}

/// One CTA of head_dim threads for each (token, head): the KV heads first, then the query heads.
__global__ void concentrate(bfloat16* q, bfloat16* k, float gamma) {
  int const token = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y),
            i = static_cast<int>(threadIdx.x);
  int const own = token / block;
  unsigned const id = static_cast<unsigned>(token) * (query_heads + kv_heads) + static_cast<unsigned>(head);
  float value = normal(id, 5, static_cast<unsigned>(i));
  if (head < kv_heads) {
    value += gamma * direction(head, own, i);
    k[(std::int64_t{token} * kv_heads + head) * head_dim + i] = bfloat16(value);
    return;
  }
  int const query = head - kv_heads, kv = query / (query_heads / kv_heads);
  value += gamma * direction(kv, 0, i);
  for (int j = own > 2 ? own - 2 : 1; j <= own; ++j) value += gamma * direction(kv, j, i);
  // Of the blocks 1 … own − 3, each once.
  int const others = own - 3, count = others < far_blocks ? others : far_blocks;
  int drawn[far_blocks];
  for (int n = 0; n < count; ++n) {
    unsigned seed = mixed(static_cast<unsigned>(own) * 64u + static_cast<unsigned>(query)) + static_cast<unsigned>(n);
    for (bool again = true; again;) {
      drawn[n] = 1 + static_cast<int>((seed = mixed(seed + 0x51u)) % static_cast<unsigned>(others));
      again = false;
      for (int before = 0; before < n; ++before) again = again || drawn[before] == drawn[n];
    }
    value += gamma * direction(kv, drawn[n], i);
  }
  q[(std::int64_t{token} * query_heads + query) * head_dim + i] = bfloat16(value);
}

void xattention(benchmark::State& state) {
  using M = hybrid<antidiagonal, streaming>;
  using attend_type = attention<M, fixed_router, gpu>;
  M const mode{antidiagonal{}, streaming{.sink = 1, .local = 16}};
  std::vector<std::int32_t> const routes = routes_at(0.75);
  std::string const wrong = once("concentrated", [&] {
    return small_problem_fault(attend_type{M{antidiagonal{}, streaming{.sink = 1, .local = 1}}}, routes);
  });
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  int const length = static_cast<int>(state.range(0));
  device_tensors const on(length);
  on.routes.write(routes);
  concentrate<<<dim3(static_cast<unsigned>(length), query_heads + kv_heads), head_dim>>>(
      on.q_memory.data(), on.k_memory.data(), std::sqrt(12 * std::sqrt(static_cast<float>(head_dim))));
  cuda_call(cudaGetLastError(), "concentrate");
  attend_type const attend{mode};
  attention<full, fixed_router, gpu> const dense;
  problem const p = attend.shape(on.q(), on.k());
  device_buffer<std::byte> const space(attend.workspace_bytes(p)), dense_space(dense.workspace_bytes(p));
  workspace const memory(space.data(), space.size());
  int const rows = attend.chunk_rows(p);
  auto const by_chunks = [&](auto const& body) {
    return [&attend, &on, memory, body, rows, length](cudaStream_t s) {
      options o = on_stream(s);
      for (o.q_begin = 0; o.q_begin < length; o.q_begin += rows) {
        o.q_end = minimum(o.q_begin + rows, length);
        body(o);
      }
    };
  };
  auto const select = [&](options const& o) { attend.select(on.q(), on.k(), on.assignment(), memory, o); };
  auto const forward = [&](options const& o) {
    attend.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), memory, o);
  };
  replayed const run(1, by_chunks([&](options const& o) { select(o), forward(o); }));
  replayed const baseline(1, [&](cudaStream_t s) {
    dense.forward(on.q(), on.k(), on.v(), on.out(), {}, on.assignment(), {dense_space.data(), dense_space.size()},
                  on_stream(s));
  });
  times const ms = time_in_turn(state, false, std::cref(run), std::cref(baseline));
  device_clock clock;
  state.counters["select_ms"] = clock.milliseconds(by_chunks(select));
  state.counters["chunks"] = ceil_div(length, rows);
  // Of the last chunk.
  options last;
  last.q_begin = (length - 1) / rows * rows;
  problem const of_last = attend.shape(on.q(), on.k(), last);
  readable_workspace const readable(attend.backend(), memory);
  auto const selected = attend.selected_in(of_last, readable);
  double kept = 0, all = 0;
  for (int h = 0; h < query_heads; ++h) {
    int const route = routes[static_cast<std::size_t>(h)];
    for (int i = last.q_begin / block; route == 0 && i < ceil_div(length, block); ++i) {
      kept += tiles_of(selected, locate(of_last, 0, h, route), i, {block, 64}).count;
      all += tiles_of(full{}, locate(of_last, 0, h, route), i, {block, 64}).count;
    }
  }
  state.counters["ms"] = ms.run;
  state.counters["dense_ms"] = ms.baseline;
  state.counters["times_faster"] = ms.baseline / ms.run;
  state.counters["kept"] = kept / all;
  state.counters["workspace"] = static_cast<double>(space.size());
  state.SetLabel(name_of(attend.backend().kernel<bfloat16>(p)));
}

int const registered = [] {
  by_events("antidiagonal_streaming/bfloat16", xattention)->ArgName("S")->RangeMultiplier(2)->Range(16384, 131072);
  by_events("antidiagonal_streaming/bfloat16", xattention, 3)->ArgName("S")->Arg(262144);
  return 0;
}();

}  // namespace
