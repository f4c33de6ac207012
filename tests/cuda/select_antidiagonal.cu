// Antidiagonal selection on the device against the reference: the same lists except where scores tie within rounding,
// which are counted; and attention through them.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include "support/antidiagonal.hpp"
#include "support/cuda_selection.cuh"
#include "support/judge.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<64>;

struct tally {
  int lists = 0, other = 0;
  double widest = 0;  // margin of a list that came out otherwise
};

struct problem_of {
  int batch, q_len, k_len, query_heads, kv_heads, head_dim, block, stride;
  float threshold = .9f;
  bool causal = true;
};

template <element T>
void compare(tally& count, antidiagonal const& s, device_heads<T> const& q, device_heads<T> const& k, options const& o,
             std::vector<std::int32_t> routes = {}, int route = every_route) {
  device_run<antidiagonal, T> const run(gpu{}, s, q, k, o, routes, route);
  CHECK(run.fault == "");
  run.lists.selected().validate(run.shape);
  selection const given = run.selected();
  selection const exact = selected_run(reference{}, s, q.host(), k.host(), o, routes, route).lists();
  REQUIRE(given.size() == exact.size());
  problem const p = make_problem<T>(q.host(), k.host(), o);
  std::vector<double> scores;
  for (auto const& [at, list] : exact) {
    count.lists += !list.empty();
    if (given.at(at) == list) continue;
    if (scores.empty()) scores = scores_of(reference{}, s, q.host(), k.host(), o);
    int const rows = ceil_div(p.q_len, s.block), columns = ceil_div(p.k_len, s.block);
    double const* const row = scores.data() + ((at[0] * p.query_heads + at[1]) * rows + at[2]) * columns;
    double const margin = margin_of(s, s.row_of(locate(p, at[0], at[1], 0), at[2]), row);
    ++count.other;
    count.widest = std::max(count.widest, margin);
    CAPTURE(at[0]);
    CAPTURE(at[1]);
    CAPTURE(at[2]);
    CHECK(margin < 1e-5);
  }
}

void report(tally const& count) {
  MESSAGE(count.lists << " lists, " << count.other << " differ where scores tie (margin up to " << count.widest << ")");
  CHECK(count.other * 100 <= count.lists);
}

template <element T>
void compare_shape(tally& count, problem_of const& c, int seed) {
  CAPTURE(c.q_len);
  CAPTURE(c.k_len);
  CAPTURE(c.head_dim);
  CAPTURE(c.block);
  CAPTURE(c.stride);
  CAPTURE(seed);
  dice r(static_cast<std::uint64_t>(seed));
  device_heads<T> const q(r, {c.batch, c.q_len, c.query_heads, c.head_dim}, 2.f);
  device_heads<T> const k(r, {c.batch, c.k_len, c.kv_heads, c.head_dim}, 2.f);
  antidiagonal s{.block = c.block, .stride = c.stride, .threshold = c.threshold};
  options o{.causal = c.causal};
  if (r.one_in(4)) o.softmax_scale = -.1f;
  compare<T>(count, s, q, k, o);
  if (!c.causal) return;
  s.rule = selection_rule::first_chunk;
  s.chunk = r.one_in(2) ? 0 : 4 * c.block;
  std::vector<std::int32_t> routes;
  for (int i = 0; i < c.batch * c.query_heads; ++i) routes.push_back(r.below(3));
  compare<T>(count, s, q, k, o, routes, 1);
}

}  // namespace

TEST_CASE_TEMPLATE("antidiagonal lists of odd shapes", T, bfloat16, half, float) {
  if (device_missing("antidiagonal lists of odd shapes")) return;
  tally count;
  int seed = 0;
  for (problem_of const& c : {problem_of{2, 300, 300, 4, 2, 32, 128, 16, .8f},
                              {1, 1000, 1000, 3, 1, 64, 128, 16},
                              {2, 257, 769, 2, 2, 64, 128, 8},
                              {1, 130, 258, 2, 1, 96, 64, 16, .7f},
                              {2, 200, 264, 2, 2, 32, 128, 64},
                              {2, 384, 352, 2, 1, 32, 64, 32},
                              {1, 1, 1, 1, 1, 32, 128, 16},
                              {2, 700, 700, 2, 1, 128, 256, 16, .6f},
                              {1, 129, 1025, 2, 2, 32, 32, 4, .5f},
                              {1, 500, 500, 2, 1, 64, 128, 1},
                              {1, 150, 150, 1, 1, 96, 128, 128, .99f},
                              {1, 3000, 3000, 2, 1, 32, 128, 16, .95f},
                              {2, 500, 333, 2, 1, 64, 128, 16, .9f, false},
                              {2, 300, 900, 4, 4, 192, 64, 16, .8f, false},
                              {1, 6000, 6000, 4, 1, 128, 128, 16},
                              {1, 2000, 2336, 2, 1, 256, 128, 16},
                              {1, 1200, 1200, 2, 2, 32, 384, 48},
                              {1, 900, 900, 1, 1, 32, 384, 128, .7f},
                              {1, 900, 912, 1, 1, 64, 384, 3},
                              {1, 0, 100, 2, 1, 64, 128, 16},
                              {1, 100, 0, 2, 1, 64, 128, 16, .9f, false},
                              {0, 100, 100, 2, 1, 64, 128, 16},
                              {1, 3000, 3000, 1, 1, 32, 64, 1},
                              {3, 640, 640, 12, 4, 64, 64, 16},
                              {1, 777, 777, 2, 1, 64, 8, 8},
                              {1, 300, 300, 2, 1, 32, 1, 1, .5f},
                              {1, 700, 700, 2, 1, 64, 512, 1}})
    compare_shape<T>(count, c, ++seed);
  report(count);
}

TEST_CASE("antidiagonal lists of random shapes") {
  if (device_missing("antidiagonal lists of random shapes")) return;
  tally count;
  std::int64_t const total = environment("ELASTIC_RANDOM_PROBLEMS", 20000) / 200;
  for (int seed = 1000; seed < 1000 + total; ++seed) {
    dice r(static_cast<std::uint64_t>(seed));
    int const block = r.pick({32, 64, 128, 128, 256}), stride = r.pick({4, 8, 16, 16, 32}), kv_heads = r.between(1, 2);
    int const q_len = r.between(1, 1200);
    int const k_len = r.one_in(2) ? q_len : maximum(q_len + r.between(-20, 40) * stride, q_len % stride);
    problem_of const c{r.between(1, 2),
                       q_len,
                       k_len,
                       kv_heads * r.between(1, 3),
                       kv_heads,
                       r.pick({32, 64, 96, 128, 192, 256}),
                       block,
                       stride,
                       .5f + .49f * r.uniform(),
                       !r.one_in(4)};
    if (r.one_in(2))
      compare_shape<bfloat16>(count, c, seed);
    else
      compare_shape<half>(count, c, seed);
  }
  report(count);
}

TEST_CASE("packed sequences and chunks of query rows") {
  if (device_missing("packed sequences and chunks of query rows")) return;
  tally count;
  dice r(7);
  std::vector<std::int32_t> const starts{0, 300, 300, 301, 901}, key_starts{0, 300, 428, 429, 1285};
  device_heads<bfloat16> const q(r, {1, 901, 4, 64}, 2.5f), k(r, {1, 1285, 2, 64}, 2.5f);
  options o{.cu_seqlens_q = starts, .cu_seqlens_k = key_starts};
  compare<bfloat16>(count, {.stride = 8}, q, k, o);
  for (o.q_begin = 0; o.q_begin < 600; o.q_begin += 256) {
    o.q_end = minimum(o.q_begin + 256, 600);
    compare<bfloat16>(count, {.block = 64, .stride = 8}, q, k, o, {0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1}, 1);
  }
  device_heads<half> const whole_q(r, {2, 900, 2, 64}, 2), whole_k(r, {2, 1156, 2, 64}, 2);
  for (int block : {64, 128, 256}) {
    antidiagonal const s{.block = block, .rule = selection_rule::first_chunk, .chunk = 512};
    for (int begin = 0; begin < 900; begin += 384)
      compare<half>(count, s, whole_q, whole_k, {.q_begin = begin, .q_end = std::min(begin + 384, 900)});
  }
  report(count);
}

TEST_CASE("keys in more pieces than an int counts in eight rows are refused") {
  problem p;
  p.q_len = p.q_end = 16;
  p.k_len = (1 << 28) + 1;
  p.head_dim = 64;
  CHECK_NOTHROW(scratch_bytes_on(gpu{}, antidiagonal{.block = 16, .stride = 16}, p));
  CHECK_THROWS_WITH_AS(scratch_bytes_on(gpu{}, antidiagonal{.block = 1, .stride = 1}, p), doctest::Contains("pieces"),
                       error);
}

TEST_CASE("whatever cu_seqlens hold, nothing is read or written outside") {
  if (device_missing("whatever cu_seqlens hold, nothing is read or written outside")) return;
  dice r(9);
  device_heads<half> const q(r, {1, 600, 2, 64}, 1), k(r, {1, 700, 1, 64}, 1);
  for (std::vector<std::int32_t> const& starts :
       {std::vector<std::int32_t>{0, 7, 600}, {-5, 1000000, 3}, {INT_MAX, INT_MIN, INT_MAX}, {13, 500, 250}}) {
    device_buffer<std::int32_t> const memory{std::span<std::int32_t const>(starts)};
    options o{.cu_seqlens_q = {memory.data(), 3}, .cu_seqlens_k = {memory.data(), 3}};
    o.max_q_len = 590;
    o.max_k_len = 650;
    attention<antidiagonal, fixed_router, gpu> const attend;
    problem const p = attend.shape(q.device(), k.device(), o);
    device_buffer<std::byte> const space(attend.workspace_bytes(p));
    device_buffer<std::int32_t> const routes(std::size_t(4));
    const_assignment_view const assignment(routes.data(), {2, 2});
    attend.select(q.device(), k.device(), assignment, {space.data(), space.size()}, o);
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  }
}

TEST_CASE_TEMPLATE("attention through antidiagonal lists", M, antidiagonal, hybrid<full, antidiagonal>,
                   hybrid<antidiagonal, streaming>) {
  if (device_missing("attention through antidiagonal lists")) return;
  dice r(11);
  for (int const length : {130, 700, 1500}) {
    device_heads<bfloat16> const q(r, {2, length, 4, 64}, 1), k(r, {2, length + 128, 2, 64}, 1),
        v(r, {2, length + 128, 2, 64}, 1);
    device_heads<bfloat16> out(r, {2, length, 4, 64}, 1);
    std::vector<std::int32_t> const routes = r.one_in(2) ? std::vector<std::int32_t>{0, 1, 1, 0, 1, 0, 0, 1}
                                                         : std::vector<std::int32_t>{1, 1, 0, 1, 0, 0, 1, 0};
    device_buffer<std::int32_t> const assignment{std::span<std::int32_t const>(routes)};
    const_assignment_view const on_device(assignment.data(), {2, 4}), on_host(routes.data(), {2, 4});
    attention<M, fixed_router, gpu> const attend;
    problem const p = attend.shape(q.device(), k.device());
    device_buffer<std::byte> const space(attend.workspace_bytes(p));
    cuda_call(cudaMemset(space.data(), 0xff, space.size()), "cudaMemset");
    // Captured and replayed: nothing waits for the host.
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    cuda_call(cudaStreamCreate(&stream), "cudaStreamCreate");
    cuda_call(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
    options const o{.stream = stream};
    attend.select(q.device(), k.device(), on_device, {space.data(), space.size()}, o);
    attend.forward(q.device(), k.device(), v.device(), out.device(), {}, on_device, {space.data(), space.size()}, o);
    cuda_call(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    cuda_call(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
    for (int i = 0; i < 2; ++i) cuda_call(cudaGraphLaunch(ready, stream), "cudaGraphLaunch");
    cuda_call(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    out.read();

    std::vector<std::byte> memory = space.read();
    // The mode that was selected, seen from the host: the same layout, begun at the same alignment.
    std::vector<std::byte> aligned(memory.size() + 512);
    std::byte* at = aligned.data();
    while (reinterpret_cast<std::uintptr_t>(at) % workspace_alignment !=
           reinterpret_cast<std::uintptr_t>(space.data()) % workspace_alignment)
      ++at;
    std::copy(memory.begin(), memory.end(), at);
    auto const mode = attend.selected_in(p, {at, memory.size()});
    heads_view<bfloat16> given = out.device();
    given.data = const_cast<bfloat16*>(out.host().data);
    CHECK(misjudged<bfloat16>(mode, make_problem<bfloat16>(q.host(), k.host()), q.host(),
                              plain_keys<bfloat16>{k.host(), v.host()}, given, lse_view{}, on_host) == "");
  }
}
