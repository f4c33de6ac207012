// MoBA's selection on the CUDA backend: the reference's blocks wherever rounding cannot tip a choice, lists that follow
// from the bits, and attention through both.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "support/cuda_selected_modes.cuh"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<32, 64, 128>;

struct tally {
  int rows = 0, near_ties = 0, differ = 0, wrong = 0, wrong_lists = 0;
};

template <element T>
void compare(dice& r, tally& sum, int longest) {
  moba const s{r.pick({4, 16, 16, 32, 48, 64, 128, 256, 100}), r.pick({1, 2, 2, 3, 3, 4, 8, 40, 2147483647})};
  drawn_problem<T> const x(r, {32, 64, 128}, longest);
  problem const p = make_problem<T>(x.q->host(), x.k->host(), x.o);
  std::vector<std::int32_t> routes(static_cast<std::size_t>(p.batch * p.query_heads));
  for (auto& route : routes) route = r.one_in(4) ? 0 : 1;
  device_run<moba, T> run(gpu{}, s, *x.q, *x.k, x.o, routes, 1);
  CHECK(run.fault == "");
  workspace_cursor cursor(run.memory.data());
  moba::storage const given = s.bind(p, cursor);
  moba_selected const mode = given.selected();

  // Lists by the host from the device's bits.
  std::vector<std::byte> again = run.memory;
  workspace_cursor again_cursor(again.data());
  moba::storage const expected = s.bind(p, again_cursor);
  expected.lists.clear();
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      bool const comes = routes[static_cast<std::size_t>(b * p.query_heads + h)] == 1;
      for (int i = p.q_begin / chunk_alignment; comes && i < ceil_div(minimum(p.q_end, w.q_len), chunk_alignment); ++i)
        expected.write_list(w, i);
      for (int q = p.q_begin; q < p.q_end; ++q)
        for (int word = 0; (!comes || q >= w.q_len) && word < given.blocks.words_per_row; ++word)
          sum.wrong += given.blocks.row(mode.row(w, q))[word] != 0;
    }
  selection one, other;
  add_lists(given.lists.selected(), p, one);
  add_lists(expected.lists.selected(), p, other);
  sum.wrong_lists += one != other;
  mode.validate(p);

  select_inputs<T> const in{x.q->host(), x.k->host(), p, const_assignment_view(routes.data(), {p.batch, p.query_heads}),
                            1};
  gates_on(reference{}, s, in, [&](where const& w, int q, std::vector<double> const& gates) {
    int const n = static_cast<int>(gates.size());
    int kept = 0;
    double worst_kept = std::numeric_limits<double>::infinity(), best_left = -worst_kept, largest = 0;
    for (int j = 0; j < n; ++j) {
      double const gate = gates[static_cast<std::size_t>(j)];
      bool const keeps = given.blocks.test(mode.row(w, q), j);
      kept += keeps;
      if (std::isfinite(gate)) largest = std::max(largest, std::abs(gate));
      (keeps ? worst_kept = std::min(worst_kept, gate) : best_left = std::max(best_left, gate));
    }
    for (int j = n; j < 32 * given.blocks.words_per_row; ++j) sum.wrong += given.blocks.test(mode.row(w, q), j);
    ++sum.rows;
    sum.wrong += kept != minimum(s.k, n) || (n > 0 && !given.blocks.test(mode.row(w, q), n - 1));
    sum.wrong += best_left - worst_kept > 1e-5 * largest;  // a choice that rounding cannot excuse
    sum.differ += best_left > worst_kept;
    sum.near_ties +=
        std::isfinite(best_left) && std::isfinite(worst_kept) && std::abs(worst_kept - best_left) < 1e-5 * largest;
  });
}

}  // namespace

TEST_CASE_TEMPLATE("random problems", T, float, half, bfloat16) {
  if (device_missing("MoBA: random problems")) return;
  tally sum;
  auto const many = static_cast<int>(maximum<std::int64_t>(environment("ELASTIC_RANDOM_PROBLEMS", 20000) / 160, 2));
  for (int i = 0; i < many; ++i) {
    CAPTURE(i);
    dice r(21, static_cast<std::uint64_t>(i));
    compare<T>(r, sum, i % 10 == 9 ? 3000 : 500);
  }
  CHECK(sum.wrong == 0);
  CHECK(sum.wrong_lists == 0);
  MESSAGE(std::string(dtype_name<T>) << ": " << sum.rows << " rows, " << sum.near_ties << " ties within rounding, "
                                     << sum.differ << " of them chosen otherwise");
}

TEST_CASE("ties go to the lower block") {
  if (device_missing("MoBA: ties go to the lower block")) return;
  // Gates of small integers are exact, and most of them tie: more blocks than a warp holds in registers.
  int const rows = 2600, d = 64;
  std::vector<half> q(std::size_t(rows * d), half(0.f)), k(q.size(), half(0.f));
  dice r(5);
  for (int i = 0; i < rows; ++i) {
    q[std::size_t(i * d)] = half(static_cast<float>(r.between(-1, 1)));
    k[std::size_t(i * d)] = half(static_cast<float>(i / 8 % 3));
  }
  device_buffer<half> const dq{std::span<half const>(q)}, dk{std::span<half const>(k)};
  std::array<std::int64_t, 4> const shape{1, rows, 1, d};
  for (int const kept : {2, 4, 50, 300}) {
    moba const s{8, kept};
    std::int32_t const route = 0;
    device_buffer<std::int32_t> const routed{std::span<std::int32_t const>(&route, 1)};
    attention<moba, fixed_router, gpu> const attend{s};
    heads_view<half const> const queries(dq.data(), shape), keys(dk.data(), shape);
    problem const p = attend.shape(queries, keys);
    device_buffer<std::byte> const space(attend.workspace_bytes(p));
    attend.select(queries, keys, const_assignment_view(routed.data(), {1, 1}), {space.data(), space.size()});
    selected_run const exact(reference{}, s, heads_view<half const>(q.data(), shape),
                             heads_view<half const>(k.data(), shape));
    auto memory = space.read();
    workspace_cursor cursor(memory.data());
    moba::storage const given = s.bind(p, cursor);
    std::size_t const words = std::size_t(rows * given.blocks.words_per_row);
    CHECK(std::memcmp(given.blocks.words, exact.storage.blocks.words, 4 * words) == 0);
  }
}

TEST_CASE_TEMPLATE("attention through the selection", T, half, bfloat16) {
  if (device_missing("MoBA: attention through the selection")) return;
  for (std::uint64_t i = 0; i < 12; ++i) {
    CAPTURE(i);
    dice r(77, i);
    moba const s{r.pick({16, 64, 128}), r.pick({1, 2, 3, 8})};
    CHECK(misjudged_attention<T>(cuda_for<64>{}, s, r, {64}) == "");
  }
}

TEST_CASE("wild lengths and routes in device memory stay inside the tensors") {
  if (device_missing("MoBA: wild lengths and routes")) return;
  select_from_wild_memory(cuda_for<64>{}, moba{16, 3});
}

TEST_CASE("more blocks than the kernel's numbers hold are refused before anything is launched") {
  problem p;
  p.batch = p.query_heads = p.kv_heads = 1;
  p.head_dim = 64;
  p.q_len = p.k_len = p.q_end = 1 << 24;
  moba const s{1, 3};
  workspace_cursor counting;
  elastic::detail::moba_arguments<half> const a{{.shape = p}, s, s.bind(p, counting), {s, p, counting}};
  CHECK(a.scratch.ctas == 1);
  CHECK_THROWS_WITH_AS(elastic::detail::launch_moba<64>(a), doctest::Contains("fewer than 2^24 blocks of keys"), error);
}
