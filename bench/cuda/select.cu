// Selection on the CUDA backend, by CUDA events: the lists of 32 query heads over 8 KV heads, head dim 128, bfloat16,
// causal, batch 1, normal inputs. "estimate" is antidiagonal's folded product alone, with its plan; TFLOP/s count
// 2 · (S / stride)² / 2 · stride · head_dim for each head. `kept` is the share of the causal blocks that the last
// chunk's lists hold. Arguments: lengths.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <elastic/cuda/cuda.cuh>

namespace {

using namespace elastic;

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128;
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

/// Median milliseconds, after a rest and two warm-ups.
template <class F>
double milliseconds(F&& f, int repeats) {
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  cudaEvent_t begin, end;
  call(cudaEventCreate(&begin));
  call(cudaEventCreate(&end));
  for (int i = 0; i < 2; ++i) f();
  std::vector<float> times;
  for (int i = 0; i < repeats; ++i) {
    call(cudaEventRecord(begin));
    f();
    call(cudaEventRecord(end));
    call(cudaEventSynchronize(end));
    times.push_back(0);
    call(cudaEventElapsedTime(&times.back(), begin, end));
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

struct tensors {
  int length;
  bfloat16 *q, *k;
  std::int32_t* routes;

  explicit tensors(int n) : length(n) {
    std::size_t const rows = static_cast<std::size_t>(n);
    call(cudaMalloc(&q, rows * query_heads * head_dim * 2));
    call(cudaMalloc(&k, rows * kv_heads * head_dim * 2));
    call(cudaMalloc(&routes, query_heads * 4));
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(q), rows * query_heads * head_dim, 1);
    fill<<<1024, 256>>>(reinterpret_cast<std::uint16_t*>(k), rows * kv_heads * head_dim, 2);
    call(cudaDeviceSynchronize());
  }
  ~tensors() {
    for (void* memory : {static_cast<void*>(q), static_cast<void*>(k), static_cast<void*>(routes)}) cudaFree(memory);
  }
  heads_view<bfloat16 const> queries() const { return {q, {1, length, query_heads, head_dim}}; }
  heads_view<bfloat16 const> keys() const { return {k, {1, length, kv_heads, head_dim}}; }
};

/// Selection of the `chosen` first heads of every eight, the others attending to everything, in chunks that fit the
/// workspace.
template <class Selector>
void measure(tensors const& x, char const* name, Selector const& selector, int chosen, int repeats) {
  std::vector<std::int32_t> routes;
  for (int h = 0; h < query_heads; ++h) routes.push_back(h % 8 < chosen ? 1 : 0);
  call(cudaMemcpy(x.routes, routes.data(), query_heads * 4, cudaMemcpyHostToDevice));
  attention<hybrid<full, Selector>, fixed_router, gpu> const attend{hybrid<full, Selector>{full{}, selector}};
  options o;
  problem const p = attend.shape(x.queries(), x.keys(), o);
  std::size_t const bytes = attend.workspace_bytes(p);
  int const rows = attend.chunk_rows(p);
  std::byte* space;
  call(cudaMalloc(&space, bytes));
  double const time = milliseconds(
      [&] {
        for (o.q_begin = 0; o.q_begin < x.length; o.q_begin += rows) {
          o.q_end = minimum(o.q_begin + rows, x.length);
          attend.select(x.queries(), x.keys(), const_assignment_view(x.routes, {1, query_heads}), {space, bytes}, o);
        }
      },
      repeats);
  // The last chunk's lists tell what was kept.
  workspace_cursor cursor(space);
  o.q_begin = (x.length - 1) / rows * rows;
  o.q_end = x.length;
  problem const last = attend.shape(x.queries(), x.keys(), o);
  auto const lists = selector.bind(last, cursor);
  std::vector<std::int32_t> counts(static_cast<std::size_t>(lists.rows()));
  call(cudaMemcpy(counts.data(), lists.count, counts.size() * 4, cudaMemcpyDeviceToHost));
  double kept = 0, all = 0;
  for (int h = 0; h < query_heads; ++h) {
    if (routes[static_cast<std::size_t>(h)] != 1) continue;
    for (int i = lists.first_block; i < lists.first_block + lists.query_blocks; ++i) {
      kept += counts[static_cast<std::size_t>(lists.row(0, h, i))];
      all += ceil_div(minimum((i + 1) * lists.block_rows, x.length), lists.block_columns);
    }
  }
  double estimate = 0;
  if constexpr (std::is_same_v<Selector, antidiagonal>) {
    if (rows >= x.length) {
      std::byte* const rest = space + cursor.used();
      workspace_cursor scratch(rest);
      auto a = elastic::detail::antidiagonal_arguments_of<bfloat16>(selector, p, scratch);
      a.lists = lists;
      a.in = {x.queries(), x.keys(), p, const_assignment_view(x.routes, {1, query_heads}), 1};
      estimate = milliseconds([&] { elastic::detail::launch_logsums(a, 0, nullptr); }, repeats);
    }
  }
  std::printf("| %s | %d | %d | %.3f |", name, x.length, chosen * 4, time);
  if (estimate > 0) {
    double const folds = double(x.length) / 16;
    std::printf(" %.3f | %.0f |", estimate, folds * folds * 16 * head_dim * chosen * 4 / estimate * 1e-9);
  } else {
    std::printf(" | |");
  }
  std::printf(" %.3f | %d | %.0f |\n", kept / all, ceil_div(x.length, rows), static_cast<double>(bytes) / (1 << 20));
  std::fflush(stdout);
  cudaFree(space);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> lengths;
  for (int i = 1; i < argc; ++i) lengths.push_back(std::atoi(argv[i]));
  if (lengths.empty()) lengths = {8192, 16384, 32768, 65536, 131072};
  cudaDeviceProp device;
  call(cudaGetDeviceProperties(&device, 0));
  std::printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
  std::printf("| selector | length | heads | ms | estimate ms | TFLOP/s | kept | chunks | MiB |\n");
  std::printf("|---|---|---|---|---|---|---|---|---|\n");
  for (int const length : lengths) {
    tensors const x(length);
    int const repeats = length <= 131072 ? 9 : 3;
    measure(x, "antidiagonal", antidiagonal{}, 8, repeats);
    measure(x, "antidiagonal", antidiagonal{}, 2, repeats);
    if (length <= 131072) measure(x, "pooled_top_k", pooled_top_k{}, 8, repeats);
  }
}
