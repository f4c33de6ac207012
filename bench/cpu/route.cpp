// The MLP router on the CPU: 0.27 M parameters, head dim 128, 8 KV heads. It reads 200 tokens of any
// length; the keys stand at their true distances in memory.
#include <sys/mman.h>

#include <support/measure.hpp>

namespace {

using namespace elastic;

/// Keys as after a model's projection, of which only the touched pages exist: 1 M tokens would be 4 GB.
class sparse_keys {
 public:
  sparse_keys(std::int64_t s, int kv_heads, int head_dim) : s_(s), kv_heads_(kv_heads), head_dim_(head_dim) {
    bytes_ = static_cast<std::size_t>(s * kv_heads * head_dim) * sizeof(bfloat16);
    data_ = static_cast<bfloat16*>(
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (std::int64_t t = 0; t < s; ++t)
      if (t < 100 || t >= s - 100)
        for (int i = 0; i < kv_heads * head_dim; ++i) data_[t * kv_heads * head_dim + i] = bfloat16(normal(random));
  }
  ~sparse_keys() { ::munmap(data_, bytes_); }
  sparse_keys(sparse_keys const&) = delete;

  heads_view<bfloat16 const> view() const { return {data_, {1, s_, kv_heads_, head_dim_}}; }

 private:
  std::int64_t s_;
  int kv_heads_, head_dim_;
  std::size_t bytes_;
  bfloat16* data_;
};

void route(benchmark::State& state) {
  constexpr int kv_heads = 8, head_dim = 128, query_heads = 32;
  sparse_keys const keys(state.range(0), kv_heads, head_dim);
  attention const attend{hybrid{full{}, streaming{}}, mlp_router{mlp_weights::untrained(head_dim, 1)}};
  attention const oracle{hybrid{full{}, streaming{}}, mlp_router{mlp_weights::untrained(head_dim, 1)}, reference{}};
  std::vector<std::int32_t> routes(query_heads), expected(query_heads);
  assignment_view const assignment(routes.data(), {1, query_heads});
  options o;
  o.threads = 1;
  std::vector<std::byte> memory(1 << 20);
  oracle.route(keys.view(), assignment_view(expected.data(), {1, query_heads}), memory, o);
  attend.route(keys.view(), assignment, memory, o);
  if (routes != expected) return state.SkipWithError("differs from the oracle");
  for (auto _ : state) attend.route(keys.view(), assignment, memory, o);
}
BENCHMARK(route)->ArgName("S")->RangeMultiplier(2)->Range(512, 1 << 20)->Unit(benchmark::kMicrosecond);

}  // namespace
