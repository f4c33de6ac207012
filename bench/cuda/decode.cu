// Decode on the CUDA backend, one new token for each sequence, by CUDA events over launches in one graph: dense
// heads and hybrids of dense and streaming heads, 32 query and 8 KV heads, head dim 128, bfloat16, pages of 128.
// GB/s count each visited key and value once; "of copy" compares with a device-to-device copy of the same run,
// bytes read and written. Caches larger than L2 are walked in turn with a copy that empties it.
//   decode [context batch]…
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include <elastic/cuda/cuda.cuh>

namespace {

using namespace elastic;

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128, page = 128;
using gpu = cuda_for<head_dim>;

__global__ void fill(std::uint16_t* values, std::size_t size, unsigned seed) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x) {
    float sum = 0;  // about N(0, 1)
    unsigned x = static_cast<unsigned>(i) * 2654435761u + seed;
    for (int j = 0; j < 4; ++j) {
      x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
      sum += static_cast<float>(x >> 8) * 0x1p-24f - 0.5f;
    }
    values[i] = bfloat16(sum * 1.7320508f).bits;
  }
}

void call(cudaError_t status) { elastic::detail::cuda_call(status, "a call of the benchmark"); }

template <class T>
T* allocate(std::size_t size) {
  void* memory = nullptr;
  call(cudaMalloc(&memory, maximum<std::size_t>(size, 1) * sizeof(T)));
  return static_cast<T*>(memory);
}

/// Median milliseconds of one of `launches` in a graph, of `repeats` replays.
double milliseconds(int launches, int repeats, std::function<void(cudaStream_t)> const& enqueue) {
  cudaStream_t stream;
  call(cudaStreamCreate(&stream));
  enqueue(stream);
  call(cudaStreamSynchronize(stream));
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < launches; ++i) enqueue(stream);
  call(cudaStreamEndCapture(stream, &graph));
  call(cudaGraphInstantiate(&replay, graph, 0));
  cudaEvent_t begin, end;
  call(cudaEventCreate(&begin));
  call(cudaEventCreate(&end));
  std::vector<float> times(static_cast<std::size_t>(repeats));
  call(cudaGraphLaunch(replay, stream));
  for (float& time : times) {
    call(cudaEventRecord(begin, stream));
    call(cudaGraphLaunch(replay, stream));
    call(cudaEventRecord(end, stream));
    call(cudaEventSynchronize(end));
    call(cudaEventElapsedTime(&time, begin, end));
  }
  call(cudaGraphExecDestroy(replay));
  call(cudaGraphDestroy(graph));
  call(cudaStreamDestroy(stream));
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)] / launches;
}

struct tensors {
  int context, batch, pages;
  bfloat16 *k, *v, *q, *out;
  std::int32_t *table, *lengths, *routes;
  std::byte* space;
  std::size_t bytes = 64 << 20;

  tensors(int n, int b) : context(n), batch(b), pages(ceil_div(n, page)) {
    std::size_t const slots = static_cast<std::size_t>(batch) * kv_heads * static_cast<std::size_t>(pages),
                      rows = slots * page * head_dim;
    k = allocate<bfloat16>(rows);
    v = allocate<bfloat16>(rows);
    q = allocate<bfloat16>(static_cast<std::size_t>(batch) * query_heads * head_dim);
    out = allocate<bfloat16>(static_cast<std::size_t>(batch) * query_heads * head_dim);
    table = allocate<std::int32_t>(slots);
    lengths = allocate<std::int32_t>(static_cast<std::size_t>(batch));
    routes = allocate<std::int32_t>(static_cast<std::size_t>(batch) * query_heads);
    space = allocate<std::byte>(bytes);
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(k), rows, 1);
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(v), rows, 2);
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(q), static_cast<std::size_t>(batch) * query_heads * head_dim,
                        3);
    std::vector<std::int32_t> order(slots);  // pages of a head lie far from each other, as in a cache that has lived
    for (std::size_t i = 0; i < slots; ++i) order[i] = static_cast<std::int32_t>(i * 7919 % slots);
    std::vector<char> seen(slots);
    for (std::int32_t& at : order) {
      while (seen[static_cast<std::size_t>(at)]) at = (at + 1) % static_cast<std::int32_t>(slots);
      seen[static_cast<std::size_t>(at)] = 1;
    }
    call(cudaMemcpy(table, order.data(), slots * 4, cudaMemcpyHostToDevice));
    std::vector<std::int32_t> const all(static_cast<std::size_t>(batch), context);
    call(cudaMemcpy(lengths, all.data(), all.size() * 4, cudaMemcpyHostToDevice));
    call(cudaDeviceSynchronize());
  }
  ~tensors() {
    for (void* memory : {static_cast<void*>(k), static_cast<void*>(v), static_cast<void*>(q), static_cast<void*>(out),
                         static_cast<void*>(table), static_cast<void*>(lengths), static_cast<void*>(routes),
                         static_cast<void*>(space)})
      cudaFree(memory);
  }

  paged_cache<bfloat16> cache() const {
    strided_view<bfloat16 const, 3> const k_pages(k, {std::int64_t{batch} * kv_heads * pages, page, head_dim});
    strided_view<bfloat16 const, 3> v_pages = k_pages;
    v_pages.data = v;
    return {k_pages, v_pages, {table, {batch, kv_heads, pages}}, {lengths, {batch}}};
  }

  template <class M>
  double time(M const& mode, int launches) const {
    attention<M, fixed_router, gpu> const attend{mode};
    return milliseconds(launches, 7, [&](cudaStream_t stream) {
      options o;
      o.stream = stream;
      attend.decode(heads_view<bfloat16 const>(q, {batch, 1, query_heads, head_dim}), cache(),
                    heads_view<bfloat16>(out, {batch, 1, query_heads, head_dim}), {},
                    const_assignment_view(routes, {batch, query_heads}), {space, bytes}, o);
    });
  }

  /// Bytes of the keys and values that some head of a group visits, by tiles of 64.
  template <class M>
  double visited(M const& mode, std::vector<std::int32_t> const& by_head) const {
    problem p;
    p.q_len = 1;
    p.k_len = context;
    p.query_heads = query_heads;
    p.kv_heads = kv_heads;
    double keys = 0;
    for (int kv = 0; kv < kv_heads; ++kv) {
      int most = 0;
      for (int h = kv * 4; h < kv * 4 + 4; ++h)
        most = maximum(most, tiles_of(mode, locate(p, 0, h, by_head[static_cast<std::size_t>(h)]), 0, {16, 64}).count);
      keys += minimum(most * 64, context);
    }
    return keys * batch * head_dim * 2 * 2;
  }
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::pair<int, int>> cases;
  for (int i = 1; i + 1 < argc; i += 2) cases.push_back({std::atoi(argv[i]), std::atoi(argv[i + 1])});
  if (cases.empty()) cases = {{1024, 8}, {8192, 8}, {32768, 8}, {131072, 1}, {131072, 8}};
  cudaDeviceProp device;
  call(cudaGetDeviceProperties(&device, 0));
  std::size_t const copied = std::size_t{2} << 30;
  std::byte *const from = allocate<std::byte>(copied), *const to = allocate<std::byte>(copied);
  call(cudaMemset(from, 1, copied));
  double const copy_ms = [&] {
    cudaEvent_t events[6];
    for (cudaEvent_t& event : events) call(cudaEventCreate(&event));
    for (cudaEvent_t& event : events) {
      call(cudaEventRecord(event));
      call(cudaMemcpyAsync(to, from, copied, cudaMemcpyDeviceToDevice));
    }
    call(cudaDeviceSynchronize());
    std::vector<float> times(5);
    for (int i = 0; i < 5; ++i)
      call(cudaEventElapsedTime(&times[static_cast<std::size_t>(i)], events[i], events[i + 1]));
    std::sort(times.begin(), times.end());
    return double{times[2]};
  }();
  double const copy = 2 * static_cast<double>(copied) / copy_ms * 1e-6;
  cudaFree(from);
  cudaFree(to);
  std::printf("%s, %d multiprocessors; a copy of 2 GiB: %.0f GB/s\n", device.name, device.multiProcessorCount, copy);
  std::printf("| context | batch | heads | ms | GB/s | of copy |\n|---|---|---|---|---|---|\n");
  for (auto const [context, batch] : cases) {
    tensors const x(context, batch);
    int const launches = std::int64_t{context} * batch >= 1 << 19 ? 3 : 20;
    std::vector<std::int32_t> by_head(query_heads, 0);
    auto const report = [&](char const* heads, double ms, double bytes) {
      std::printf("| %d | %d | %s | %.4f | %.0f | %.1f%% |\n", context, batch, heads, ms, bytes / ms * 1e-6,
                  bytes / ms * 1e-6 / copy * 100);
    };
    report("dense", x.time(full{}, launches), x.visited(full{}, by_head));
    hybrid<full, streaming> const mode{full{}, streaming{1, 16}};
    for (double const sparsity : {0.0, 0.5, 0.75, 1.0}) {
      problem p;
      p.query_heads = query_heads;
      p.kv_heads = kv_heads;
      std::vector<std::int32_t> all;
      for (int b = 0; b < batch; ++b)  // whole KV heads
        for (int h = 0; h < query_heads; ++h)
          all.push_back(by_head[static_cast<std::size_t>(h)] =
                            h / 4 >= static_cast<int>((1 - sparsity) * kv_heads + 0.5));
      call(cudaMemcpy(x.routes, all.data(), all.size() * 4, cudaMemcpyHostToDevice));
      char name[64];
      std::snprintf(name, sizeof name, "hybrid, %.2f sparse", sparsity);
      report(name, x.time(mode, launches), x.visited(mode, by_head));
    }
  }
}
