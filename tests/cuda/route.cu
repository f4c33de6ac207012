// Routers on the CUDA backend against the reference: activations and decisions of the MLP router on random
// inputs and weights, the head routers, graphs, and what is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "support/cuda_problem.cuh"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<64>;
using mode_type = hybrid<full, streaming>;

/// Layers of the given widths with weights that keep the values' size; biases too.
mlp_weights random_weights(dice& r, std::array<int, 6> const& widths, int layers) {
  std::vector<mlp_layer> made(static_cast<std::size_t>(layers));
  for (mlp_layer& layer : made)
    for (std::size_t j = 0; j < layer.linear.size(); ++j) {
      linear_layer& linear = layer.linear[j];
      linear.inputs = widths[j];
      linear.outputs = widths[j + 1];
      for (int i = 0; i < linear.inputs * linear.outputs; ++i)
        linear.weight.push_back(2 * r.normal() / std::sqrt(static_cast<float>(linear.inputs)));
      for (int i = 0; i < linear.outputs; ++i) linear.bias.push_back(0.3f * r.normal());
    }
  return mlp_weights(std::move(made));
}

/// Keys of several sequences, packed or not, in a drawn layout; all else is NaN.
template <element T>
struct random_keys {
  std::vector<std::int32_t> starts;
  strided_tensor<T, 4> host;
  options o;
  problem p;

  random_keys(dice& r, int head_dim, int kv_heads, int group, int sequences, int longest) {
    auto const length = [&] {
      return r.one_in(3) ? r.pick({0, 1, 99, 100, 150, 199, 200, 201}) : r.between(0, longest);
    };
    bool const packed = sequences > 0 && r.one_in(2);
    std::int64_t rows = length();
    if (packed) {
      starts = {0};
      for (int b = 0; b < sequences; ++b) starts.push_back(starts.back() + length());
      rows = starts.back();
      o.cu_seqlens_k = starts;
    }
    host = {r, {packed ? 1 : sequences, rows, kv_heads, head_dim}, true, -1, static_cast<int>(16 / sizeof(T))};
    float const offset = r.one_in(2) ? 0.5f : 0.f;
    for (int b = 0; b < host.view.extents[0]; ++b)
      for (int s = 0; s < rows; ++s)
        for (int h = 0; h < kv_heads; ++h)
          for (int d = 0; d < head_dim; ++d) host.view(b, s, h, d) = T(r.normal() + offset);
    p = make_keys_problem(heads_view<T const>(host.view), o, std::int64_t{kv_heads} * group);
  }
};

double largest_difference(std::vector<float> const& got, std::vector<double> const& expected) {
  REQUIRE(got.size() == expected.size());
  double most = 0, magnitude = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    double const difference = std::abs(static_cast<double>(got[i]) - expected[i]);
    most = difference <= most ? most : difference;  // NaN stays
    magnitude = std::max(magnitude, std::abs(expected[i]));
  }
  return magnitude > 0 ? most / magnitude : most;
}

struct tally {
  int heads = 0, ties = 0, wrong = 0, differ = 0;
  double worst = 0;
};

template <element T>
void compare(dice& r, tally& sum, int longest) {
  int const head_dim = r.pick({32, 64, 80, 96, 128, 128, 128, 192, 256}), group = r.pick({1, 2, 4});
  int const kv_heads = r.pick({1, 2, 3, 8}), sequences = r.pick({0, 1, 1, 2, 3, 5, 9, 17}), layers = r.between(1, 3);
  int const logits = r.pick({1, 2, 2}), hidden = r.one_in(3) ? r.between(1, 300) : 4 * head_dim;
  random_keys<T> const keys(r, head_dim, kv_heads, group, sequences, longest);
  mlp_router router{random_weights(
      r, {head_dim, hidden, r.one_in(3) ? r.between(1, 90) : head_dim, hidden, head_dim, logits}, layers)};
  router.pooling = r.one_in(2) ? pooling::mean : pooling::boundary;
  router.class_index = r.one_in(2) ? class_index::code : class_index::paper;
  options o = keys.o;
  o.layer = r.below(layers);
  problem p = make_keys_problem(heads_view<T const>(keys.host.view), o, kv_heads * group);
  auto const exact = activations_on(reference{}, router, keys.host.view, p);
  std::vector<std::int32_t> expected(static_cast<std::size_t>(p.batch * p.query_heads));
  elastic::detail::write_decisions(router, exact, p, routes<mode_type>,
                                   assignment_view(expected.data(), {p.batch, p.query_heads}));

  device_tensor<T, 4> const device_keys(keys.host);
  device_buffer<std::int32_t> const starts{std::span<std::int32_t const>(keys.starts)};
  if (!keys.starts.empty()) {
    o.cu_seqlens_k = {starts.data(), starts.size()};
    o.max_k_len = p.k_len;
  }
  router.weights = upload(router.weights);
  std::size_t const rows = static_cast<std::size_t>(p.batch * p.kv_heads);
  device_buffer<float> const pooled(exact.pooled.size()), features(exact.features.size()), scores(exact.logits.size());
  std::vector<std::int32_t> marked(2 * expected.size() + 2, -7);  // heads, sequences
  device_buffer<std::int32_t> const routed{std::span<std::int32_t const>(marked)};
  assignment_view const assignment(routed.data() + 1, {p.batch, p.query_heads}, {2, 2 * maximum(p.batch, 1)});
  attention<mode_type, mlp_router, gpu> const attend({}, router);
  attend.route(heads_view<T const>(device_keys.view), assignment, {}, o);
  auto const first = routed.read();
  problem on_device = p;
  on_device.cu_seqlens_q = on_device.cu_seqlens_k = keys.starts.empty() ? nullptr : starts.data();
  elastic::detail::cuda_route_by_mlp<T>(router, device_keys.view, on_device, routes<mode_type>, assignment,
                                        {pooled.data(), features.data(), scores.data()});
  CHECK(first == routed.read());
  if (rows == 0) return;
  CHECK(largest_difference(pooled.read(), exact.pooled) < 1e-5);
  CHECK(largest_difference(features.read(), exact.features) < 1e-4);
  double const error = largest_difference(scores.read(), exact.logits);
  CHECK(error < 1e-4);
  sum.worst = std::max(sum.worst, error);
  double magnitude = 0;
  for (double x : exact.logits) magnitude = std::max(magnitude, std::abs(x));
  for (std::size_t i = 0; i < first.size(); ++i)
    if ((i == 0 || (i - 1) % 2 != 0 || (i - 1) / 2 >= expected.size()) && first[i] != -7) ++sum.wrong;
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      std::size_t const row = static_cast<std::size_t>(b * p.kv_heads + h / p.group()),
                        n = static_cast<std::size_t>(logits);
      double const gap = std::abs(n == 1 ? exact.logits[row] : exact.logits[row * 2] - exact.logits[row * 2 + 1]);
      bool const tie = gap <= 1e-5 * magnitude;
      bool const same = first[1 + 2 * static_cast<std::size_t>(b + p.batch * h)] ==
                        expected[static_cast<std::size_t>(b * p.query_heads + h)];
      ++sum.heads;
      sum.ties += tie;
      sum.differ += !same;
      sum.wrong += !same && !tie;
    }
}

template <element T>
void compare_many(int count, int longest, std::uint64_t seed) {
  tally sum;
  for (int i = 0; i < count; ++i) {
    CAPTURE(i);
    dice r(seed, static_cast<std::uint64_t>(i));
    compare<T>(r, sum, longest);
  }
  CHECK(sum.wrong == 0);
  MESSAGE(std::string(dtype_name<T>) << ": " << sum.heads << " decisions, " << sum.ties << " ties within rounding, "
                                     << sum.differ << " differ; logits within " << sum.worst);
}

template <class F>
std::string refused(F&& f) {
  try {
    f();
  } catch (error const& thrown) {
    return thrown.argument() + ": " + thrown.given();
  }
  return "nothing";
}

}  // namespace

TEST_CASE_TEMPLATE("the MLP router on random keys and weights", T, float, half, bfloat16) {
  if (device_missing("the MLP router on random keys and weights")) return;
  int const many = static_cast<int>(maximum<std::int64_t>(environment("ELASTIC_RANDOM_PROBLEMS", 20000) / 300, 2));
  compare_many<T>(many, 400, 3);
  compare_many<T>(many / 10, 20000, 4);
}

TEST_CASE("a captured MLP router decides anew for new keys; 1000 launches give the same bits") {
  if (device_missing("a captured MLP router")) return;
  int const batch = 3, heads = 8, d = 128, rows = 500;
  mlp_router const router{upload(mlp_weights::untrained(d, 5))};
  device_buffer<half> const keys(std::size_t(batch * heads * d * rows));
  device_buffer<std::int32_t> const routed(std::size_t(batch * heads * 4));
  device_buffer<float> const scores(std::size_t(batch * heads * 2));
  heads_view<half const> const view(keys.data(), {batch, rows, heads, d});
  assignment_view const assignment(routed.data(), {batch, heads * 4});
  attention<mode_type, mlp_router, gpu> const attend({}, router);
  cudaStream_t stream;
  cuda_call(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  options o;
  o.stream = stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cuda_call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  attend.route(view, assignment, {}, o);
  cuda_call(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  std::size_t nodes = 0;
  cuda_call(cudaGraphGetNodes(graph, nullptr, &nodes), "cudaGraphGetNodes");
  CHECK(nodes == 1);  // one launch
  cuda_call(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  int sparse = 0;
  for (std::uint64_t seed = 1; seed < 5; ++seed) {
    dice r(seed);
    std::vector<half> values(keys.size());
    for (half& value : values) value = half(3 * r.normal());
    keys.write(values);
    cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // the copy may still be on its way
    cuda_call(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    std::vector<std::int32_t> expected(routed.size());
    attention<mode_type, mlp_router, reference>({}, router)
        .route(heads_view<half const>(values.data(), {batch, rows, heads, d}),
               assignment_view(expected.data(), {batch, heads * 4}), {});
    CHECK(routed.read() == expected);
    sparse += static_cast<int>(std::count(expected.begin(), expected.end(), 1));
  }
  CHECK(sparse > 0);
  CHECK(sparse < 4 * batch * heads * 4);
  problem const p = make_keys_problem(view, o, heads * 4);
  auto const score = [&] {
    elastic::detail::cuda_route_by_mlp<half>(router, view, p, 2, assignment, {nullptr, nullptr, scores.data()});
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    return scores.read();
  };
  auto const first = score();
  int different = 0;
  for (int i = 0; i < 1000; ++i) different += std::memcmp(first.data(), score().data(), 4 * first.size()) != 0;
  CHECK(different == 0);
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST_CASE("wild lengths in device memory stay inside the keys") {
  if (device_missing("the MLP router: wild lengths")) return;
  dice r(8);
  mlp_router router{upload(mlp_weights::untrained(64, 2))};
  device_buffer<half> const keys(std::size_t(300 * 2 * 64));
  device_buffer<std::int32_t> const routed(std::size_t(5 * 4));
  cuda_call(cudaMemset(keys.data(), 0, keys.size() * 2), "cudaMemset");
  for (int round = 0; round < 20; ++round) {
    std::vector<std::int32_t> starts(6);
    for (auto& start : starts) start = r.one_in(2) ? r.between(-5, 305) : static_cast<std::int32_t>(r.bits());
    device_buffer<std::int32_t> const starts_memory{std::span<std::int32_t const>(starts)};
    router.pooling = r.one_in(2) ? pooling::mean : pooling::boundary;
    options o;
    o.cu_seqlens_k = {starts_memory.data(), starts_memory.size()};
    o.max_k_len = 300;
    attention<mode_type, mlp_router, gpu>({}, router)
        .route(heads_view<half const>(keys.data(), {1, 300, 2, 64}), assignment_view(routed.data(), {5, 4}), {}, o);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  }
}

TEST_CASE("routers of the head alone write a device's assignment") {
  if (device_missing("routers of the head alone")) return;
  int const batch = 130, heads = 32, kv_heads = 8;
  std::vector<half> memory(std::size_t(batch * kv_heads * 64));
  device_buffer<half> const device_memory{std::span<half const>(memory)};
  std::array<std::int64_t, 4> const shape{batch, 1, kv_heads, 64};
  options o;
  o.layer = 2;
  auto const check = [&](auto const& router) {
    std::vector<std::int32_t> expected(std::size_t(batch * heads), -1);
    attention<mode_type, std::remove_cvref_t<decltype(router)>, reference>({}, router)
        .route(heads_view<half const>(memory.data(), shape),
               assignment_view(expected.data(), {batch, heads}, {1, batch}), {}, o);
    device_buffer<std::int32_t> const routed(expected.size());
    attention<mode_type, std::remove_cvref_t<decltype(router)>, gpu>({}, router)
        .route(heads_view<half const>(device_memory.data(), shape),
               assignment_view(routed.data(), {batch, heads}, {1, batch}), {}, o);
    CHECK(routed.read() == expected);
  };
  check(fixed_router{});
  std::vector<std::int32_t> table(3 * heads);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i * 7 % 5 % 2);
  check(fixed_router(table, heads));
  check(ratio_router{0.6});
  check(random_router{9, 0.3});
  std::int32_t const one = 1;
  check(given_router{const_assignment_view(&one, {batch, heads}, {0, 0})});
}

TEST_CASE("what the device cannot route is refused before any launch") {
  alignas(16) static half memory[4096];
  std::int32_t routed[4] = {-7, -7, -7, -7};
  mlp_router const router{mlp_weights::untrained(64, 1)};
  attention<mode_type, mlp_router, gpu> const attend({}, router);
  auto const route = [&](half* data, int d, std::int64_t stride) {
    return refused([&] {
      attend.route(heads_view<half const>(data, {1, 4, 1, d}, {0, stride, d, 1}), assignment_view(routed, {1, 4}), {});
    });
  };
  CHECK(route(memory, 64, 64) == "mlp_router.weights: weights in host memory alone");
  CHECK(route(memory + 1, 64, 64) == "k_pre_rope: an unaligned tensor");
  CHECK(route(memory, 64, 68) == "k_pre_rope: an unaligned tensor");
  CHECK(route(memory, 32, 32) == "k_pre_rope head_dim: 32");
  CHECK(routed[0] == -7);
}
