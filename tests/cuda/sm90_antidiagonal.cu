// The Hopper kernel of the antidiagonal log-sums beside the portable one and the formula in double: every log-sum that
// the cut reads, of ragged lengths, any fold, tensors with NaN around them, chunks, and heads that are routed
// elsewhere, whose log-sums stay as they were. Both runs of the Hopper kernel give the same bits.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/cuda_selection.cuh"

using namespace elastic;
using namespace elastic::testing;

namespace {

struct problem_of {
  int batch, q_len, k_len, query_heads, kv_heads, head_dim, block, stride;
  bool causal = true;
  int q_begin = 0, q_end = -1;
};

/// Log-sums of one kernel, in memory that was 0xff before.
template <element T, class Launch>
std::vector<float> run_of(elastic::detail::antidiagonal_arguments<T> a, std::size_t scratch, Launch const& launch) {
  constexpr std::size_t guard = 4096;
  device_buffer<std::byte> const space(scratch + guard);
  cuda_call(cudaMemset(space.data(), 0xff, space.size()), "cudaMemset");
  workspace_cursor cursor(space.data());
  auto const bound = elastic::detail::antidiagonal_arguments_of<T>(a.selector, a.in.shape, cursor);
  a.logsums = bound.logsums;
  a.next = bound.next;
  a.first = bound.first;
  launch(a);
  cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  auto const memory = space.read();
  for (std::size_t i = scratch; i < memory.size(); ++i)
    if (memory[i] != std::byte{0xff}) FAIL("memory behind the scratch was written");
  std::vector<float> logsums(static_cast<std::size_t>(a.in.shape.batch) * a.in.shape.query_heads * a.rows * a.pitch);
  std::memcpy(logsums.data(), memory.data() + (reinterpret_cast<std::byte const*>(a.logsums) - space.data()),
              logsums.size() * sizeof(float));
  return logsums;
}

/// Log₂-sums by the formula.
template <element T>
double exact(elastic::detail::antidiagonal_arguments<T> const& a, heads_view<T const> const& q,
             heads_view<T const> const& k, int b, int head, int row, int begin, int end) {
  problem const& p = a.in.shape;
  int const stride = a.selector.stride;
  double sum = 0;
  for (int c = begin; c < end; ++c) {
    double product = 0;
    for (int r = 0; r < stride; ++r) {
      int const i = row * stride + stride - 1 - r, j = c * stride + r;
      if (i >= p.q_len || j >= p.k_len) continue;
      T const *const x = &q(b, i, head, 0), *const y = &k(b, j, head / p.group(), 0);
      for (int d = 0; d < p.head_dim; ++d) product += double(float(x[d])) * double(float(y[d]));
    }
    sum += std::exp2(product * p.softmax_scale / stride * 1.4426950408889634);
  }
  return std::log2(sum);
}

/// What is wrong, or nothing. `served` counts the problems that the Hopper kernel took.
template <element T>
std::string differs(problem_of const& n, int seed, int& served) {
  namespace in = elastic::detail;
  dice r(static_cast<std::uint64_t>(seed));
  device_heads<T> const q(r, {n.batch, n.q_len, n.query_heads, n.head_dim}, 2.f);
  device_heads<T> const k(r, {n.batch, n.k_len, n.kv_heads, n.head_dim}, 2.f);
  options o{.causal = n.causal, .q_begin = n.q_begin, .q_end = n.q_end};
  if (r.one_in(4)) o.softmax_scale = -.1f;
  problem const p = make_problem<T>(heads_view<T const>(q.device()), heads_view<T const>(k.device()), o);
  std::vector<std::int32_t> routes;
  for (int i = 0; i < n.batch * n.query_heads; ++i) routes.push_back(r.below(3));
  device_buffer<std::int32_t> const assignment{std::span<std::int32_t const>(routes)};
  antidiagonal const s{.block = n.block, .stride = n.stride};
  s.check(p);

  workspace_cursor sizes;
  auto a = in::antidiagonal_arguments_of<T>(s, p, sizes);
  int const route = r.one_in(3) ? 1 : every_route;
  a.in = {q.device(), k.device(), p, const_assignment_view(assignment.data(), {n.batch, n.query_heads}), route};
  bool taken = false;
  in::cuda_device const device = in::current_device();
  auto const hopper = [&](auto const& arguments) {
    taken = in::sm90_launch_logsums(arguments, device.number, device.capability, nullptr);
  };
  auto const given = run_of(a, sizes.used(), hopper);
  if (taken != in::sm90_serves_logsums(a)) return "not served";
  if (!taken) return "";
  ++served;
  auto const again = run_of(a, sizes.used(), hopper);
  auto const portable =
      run_of(a, sizes.used(), [&](auto const& arguments) { in::portable_launch_logsums(arguments, 0, nullptr); });

  int const first = p.q_begin / n.block * a.per_block, blocks = ceil_div(minimum(p.q_end, p.q_len), n.block);
  int const rows = minimum(blocks * a.per_block, ceil_div(p.q_len, n.stride)) - first;
  int const columns = ceil_div(p.k_len, n.stride);
  int const shift = n.causal ? floor_div(p.k_len - p.q_len, n.stride) : columns;
  auto const sees = [&](int row) { return maximum(minimum(columns, first + row + shift + 1), 0); };
  std::int64_t const work = std::int64_t{rows} * columns * n.stride * n.head_dim * n.batch * n.query_heads;
  int const every = work > 200'000'000 ? 97 : 1;  // of the formula
  int counted = 0;
  for (int b = 0; b < n.batch; ++b)
    for (int h = 0; h < n.query_heads; ++h) {
      int const head = b * n.query_heads + h;
      bool const comes = route == every_route || routes[static_cast<std::size_t>(head)] == route;
      for (int row = 0; row < a.rows; ++row) {
        std::size_t const at = (static_cast<std::size_t>(head) * a.rows + row) * a.pitch;
        int const read = row < rows ? sees(minimum((row / a.per_block + 1) * a.per_block, rows) - 1) : 0;
        for (int piece = 0; piece < a.pitch; ++piece) {
          float const x = given[at + piece], y = portable[at + piece];
          auto const where = [&] {
            return " at head " + std::to_string(head) + ", row " + std::to_string(row) + ", piece " +
                   std::to_string(piece) + ": " + std::to_string(x);
          };
          if (!comes && std::bit_cast<std::uint32_t>(x) != ~0u) return "another head's log-sums were written" + where();
          if (!comes || piece * a.piece >= read) continue;
          if (std::bit_cast<std::uint32_t>(x) != std::bit_cast<std::uint32_t>(again[at + piece]))
            return "a second run gave other bits" + where();
          if (!(x == y || std::abs(x - y) <= 1e-4 * (1 + std::abs(y))))
            return "not the portable kernel's " + std::to_string(y) + where();
          if (counted++ % every != 0) continue;
          int const begin = piece * a.piece, end = minimum(begin + a.piece, sees(row));
          double const wanted = exact(a, q.host(), k.host(), b, h, first + row, begin, end);
          if (!(x == wanted || std::abs(x - wanted) <= 1e-4 * (1 + std::abs(wanted))))
            return "not the formula's " + std::to_string(wanted) + where();
        }
      }
    }
  return "";
}

bool no_hopper(char const* test) {
  if (device_missing(test)) return true;
  if (sm90_is_built && elastic::detail::current_device().capability == 90) return false;
  MESSAGE("skipped, no Hopper kernel: " << std::string(test));
  return true;
}

template <element T>
void compare(problem_of const& n, int seed, int& served) {
  CAPTURE(n.q_len);
  CAPTURE(n.k_len);
  CAPTURE(n.head_dim);
  CAPTURE(n.block);
  CAPTURE(n.stride);
  CAPTURE(n.causal);
  CAPTURE(seed);
  CHECK(differs<T>(n, seed, served) == "");
}

}  // namespace

TEST_CASE_TEMPLATE("log-sums of chosen shapes on Hopper", T, bfloat16, half) {
  if (no_hopper("log-sums of chosen shapes on Hopper")) return;
  int served = 0, tried = 0;
  for (problem_of const& n : {problem_of{1, 128, 128, 1, 1, 128, 128, 16},
                              {1, 4096, 4096, 2, 1, 128, 128, 16},
                              {2, 1000, 1000, 4, 2, 64, 128, 16},
                              {1, 3001, 3001, 2, 1, 128, 128, 16},
                              {1, 3089, 6001, 2, 2, 64, 128, 16},
                              {1, 6001, 3089, 2, 1, 64, 128, 16},
                              {2, 1300, 1300, 6, 2, 192, 128, 8},
                              {1, 999, 1239, 3, 1, 256, 64, 8},
                              {1, 700, 700, 2, 1, 64, 512, 1},
                              {1, 1500, 1503, 2, 1, 64, 384, 3},
                              {1, 900, 900, 1, 1, 64, 384, 128},
                              {1, 2500, 2500, 2, 1, 64, 128, 4},
                              {1, 2500, 2500, 2, 1, 64, 32, 8},
                              {1, 800, 800, 2, 1, 128, 128, 64},
                              {1, 777, 333, 2, 1, 64, 128, 16, false},
                              {2, 1500, 4000, 2, 1, 64, 64, 16, false},
                              {1, 3000, 3480, 2, 1, 64, 128, 8, true, 1280, 2304},
                              {1, 900, 900, 2, 1, 64, 1, 1},
                              {1, 15, 15, 1, 1, 64, 128, 16},
                              {1, 300, 300, 2, 1, 96, 128, 16},
                              {1, 16, 16, 1, 1, 64, 128, 16},
                              {1, 9000, 9000, 4, 2, 128, 128, 8}})
    for (int before = served, seed = 8 * ++tried; served == before && seed < 8 * tried + 8; ++seed)
      compare<T>(n, seed, served);  // until the strides drawn are positive
  MESSAGE(served << " of " << tried << " served");
  CHECK(served == tried - 2);  // shorter than a fold; head dim 96
}

TEST_CASE("log-sums of random shapes on Hopper") {
  if (no_hopper("log-sums of random shapes on Hopper")) return;
  int served = 0;
  int const total = static_cast<int>(environment("ELASTIC_RANDOM_PROBLEMS", 20000) / 200);
  for (int seed = 1000; seed < 1000 + total; ++seed) {
    dice r(static_cast<std::uint64_t>(seed));
    int const block = r.pick({32, 64, 128, 128, 256}), stride = r.pick({1, 4, 8, 16, 16, 32});
    int const kv_heads = r.between(1, 2), q_len = r.between(1, r.pick({100, 600, 2400}));
    int const k_len = r.one_in(2) ? q_len : maximum(q_len + r.between(-20, 90) * stride, q_len % stride);
    problem_of const n{r.between(1, 3),
                       q_len,
                       maximum(k_len, 1),
                       kv_heads * r.between(1, 3),
                       kv_heads,
                       r.pick({64, 128}),
                       block,
                       stride,
                       k_len < 1 ? false : !r.one_in(4)};
    if (r.one_in(2))
      compare<bfloat16>(n, seed, served);
    else
      compare<half>(n, seed, served);
  }
  MESSAGE(served << " of " << total << " served");
  CHECK(served * 4 >= total);
}
