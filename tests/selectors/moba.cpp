// MoBA: the published code's blocks and outputs, both backends against each other on random problems, and attention
// through what was selected.
#include <elastic/selectors/moba.hpp>

#include <doctest/doctest.h>

#include <map>

#include <support/golden.hpp>
#include <support/selected_modes.hpp>

using namespace elastic;
using namespace elastic::testing;

namespace {

/// Score gap at the cut of a row's gates, relative to the largest: how near the row is to another choice.
double gap_of(std::vector<double> gates, int k) {
  std::ranges::sort(gates, std::greater<>());
  if (static_cast<int>(gates.size()) <= k || k < 2) return 1;  // nothing to decide
  double const largest = std::max(std::abs(gates[1]), std::abs(gates.back()));
  return (gates[static_cast<std::size_t>(k) - 1] - gates[static_cast<std::size_t>(k)]) / largest;
}

template <class Backend>
void check_golden(Backend const& backend) {
  golden_file const fixture("moba_vertical_slash.safetensors");
  int rows = 0, near_ties = 0;
  for (char const* name : {"moba00", "moba01"}) {
    auto const golden = fixture.at(name);
    CAPTURE(name);
    auto const q = golden.load<half>("q"), k = golden.load<half>("k"), v = golden.load<half>("v");
    auto const starts = golden.load<std::int32_t>("cu_seqlens");
    auto const select = golden.load<std::uint8_t>("select");  // [H, S, N]
    auto const gap = golden.load<float>("gap");               // [H, S]
    auto const expected = golden.load<float>("o");            // [S, H, d]
    auto const chosen = select.template view<3>();
    moba const s{golden.parameters.at("chunk"), golden.parameters.at("topk")};
    options o;
    o.cu_seqlens_q = o.cu_seqlens_k = starts.values;

    selected_run const run(backend, s, q.as_packed(), k.as_packed(), o);
    for_each_pair(run.shape, [&](where const& w, int i, int j, bool admitted) {
      int const row = starts.values[static_cast<std::size_t>(w.batch)] + i;
      rows += j == 0;
      near_ties += j == 0 && gap.template view<2>()(w.query_head, row) < 1e-5f;
      if (!admitted || gap.template view<2>()(w.query_head, row) < 1e-5f) return;
      CHECK(run.mode().keeps(w, i, j) == (chosen(w.query_head, row, j / s.block) != 0));
    });

    // In float, so that the published output can be compared to its own precision.
    auto const widen = [](golden_tensor<half> const& from) {
      return golden_tensor<float>{from.shape, std::vector<float>(from.values.begin(), from.values.end())};
    };
    auto const wide_q = widen(q), wide_k = widen(k), wide_v = widen(v);
    std::vector<float> memory(expected.values.size());
    heads_view<float> const out(memory.data(), {1, expected.shape[0], expected.shape[1], expected.shape[2]});
    attention attend{s, fixed_router{}, backend};
    attend(wide_q.as_packed(), wide_k.as_packed(), wide_v.as_packed(), out, {}, o);
    float worst = 0;
    for (std::size_t i = 0; i < memory.size(); ++i) worst = std::max(worst, std::abs(memory[i] - expected.values[i]));
    CHECK(worst < 2e-6f);
    check_laws(run.mode(), run.shape);
  }
  CHECK(rows == 2 * 96 + 111);
  CHECK(near_ties == 0);
}

moba draw_moba(dice& r) {
  return {r.pick({4, 16, 16, 32, 48, 64, 128, 256, 100}), r.pick({1, 2, 2, 3, 3, 4, 8, 2147483647})};
}

/// Blocks of both backends agree wherever rounding cannot tip a choice. Returns rows and near-ties.
template <element T>
std::pair<int, int> compare_backends(moba const& s, random_problem<T> const& drawn,
                                     std::vector<std::int32_t> const& routes) {
  selected_run const exact(reference{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
  selected_run const fast(cpu{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
  std::pair<int, int> rows{0, 0};
  select_inputs<T> const in{drawn.q, drawn.k, exact.shape,
                            const_assignment_view(exact.routes.data(), {exact.shape.batch, exact.shape.query_heads}),
                            1};
  gates_on(reference{}, s, in, [&](where const& w, int q, std::vector<double> const& gates) {
    ++rows.first;
    int kept = 0;
    for (int j = 0; j < static_cast<int>(gates.size()); ++j)
      kept += exact.storage.blocks.test(exact.mode().row(w, q), j);
    CHECK(kept == minimum(s.k, static_cast<int>(gates.size())));
    if (gap_of(gates, s.k) < 1e-5) {
      ++rows.second;
      return;
    }
    for (int word = 0; word < exact.storage.blocks.words_per_row; ++word)
      CHECK(exact.storage.blocks.row(exact.mode().row(w, q))[word] ==
            fast.storage.blocks.row(fast.mode().row(w, q))[word]);
  });
  return rows;
}

template <element T>
void check_random(std::uint64_t seed, double tolerance) {
  int rows = 0, near_ties = 0;
  for (int i = 0; i < 40; ++i) {
    CAPTURE(i);
    dice r(seed, static_cast<std::uint64_t>(i));
    random_problem<T> const drawn(r, 400);
    moba const s = draw_moba(r);
    auto const routes = drawn.random_routes(r, 2);
    auto const [compared, near] = compare_backends(s, drawn, routes);
    rows += compared;
    near_ties += near;

    selected_run const run(cpu{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
    auto const mask = mask_of(run.mode(), run.shape);
    CHECK(mask == mask_in_chunks(cpu{}, s, drawn, routes, 1, 128));
    for_each_pair(run.shape, [&](where const& w, int q, int k, bool) {  // heads of other routes see nothing
      if (routes[static_cast<std::size_t>(w.batch * w.query_heads + w.query_head)] == 0 && mask(w, q, k))
        FAIL("a head of another route");
    });
    if (i % 4 == 0) check_laws(run.mode(), run.shape);
    CHECK(front_door_error(cpu{}, s, drawn, routes, i % 2 == 0 ? 128 : 512) < tolerance);
    if (i % 4 == 1) CHECK(front_door_error(reference{}, s, drawn, routes, i % 2 == 0 ? 256 : 512) < tolerance);
  }
  MESSAGE(std::string(dtype_name<T>) << ": " << rows << " rows compared, " << near_ties << " near-ties");
  CHECK(rows > 5000);
  CHECK(near_ties * 100 < rows);
}

}  // namespace

TEST_CASE("the reference selects and attends as the published code does") { check_golden(reference{}); }

TEST_CASE("the CPU selects and attends as the published code does") { check_golden(cpu{}); }

TEST_CASE("random problems in float") { check_random<float>(11, 2e-6); }
TEST_CASE("random problems in half") { check_random<half>(12, 1e-3); }
TEST_CASE("random problems in bfloat16") { check_random<bfloat16>(13, 8e-3); }

TEST_CASE("ties go to the lower block, on every backend") {
  // Gates of small integers are exact everywhere, and most of them tie.
  int const rows = 200, d = 32;
  std::vector<float> q(static_cast<std::size_t>(rows * d)), k(q.size());
  dice r(5);
  for (int i = 0; i < rows; ++i)
    for (int c = 0; c < d; ++c) {
      q[static_cast<std::size_t>(i * d + c)] = c == 0 ? static_cast<float>(r.between(-1, 1)) : 0.f;
      k[static_cast<std::size_t>(i * d + c)] = c == 0 ? static_cast<float>(i / 8 % 3) : 0.f;
    }
  heads_view<float const> const queries(q.data(), {1, rows, 1, d}), keys(k.data(), {1, rows, 1, d});
  moba const s{8, 4};
  selected_run const exact(reference{}, s, queries, keys);
  selected_run const fast(cpu{}, s, queries, keys);
  CHECK(mask_of(exact.mode(), exact.shape) == mask_of(fast.mode(), fast.shape));
  where const w = locate(exact.shape, 0, 0, 0);
  for (int i = 96; i < rows; ++i) {  // block J has the gate q·(J mod 3)
    std::vector<int> seen, expected;
    for (int j = 0; j <= i / 8; ++j)
      if (exact.mode().keeps(w, i, 8 * j)) seen.push_back(j);
    float const query = q[static_cast<std::size_t>(i * d)];
    if (query > 0) expected = {2, 5, 8, i / 8};
    if (query == 0) expected = {0, 1, 2, i / 8};
    if (query < 0) expected = {0, 3, 6, i / 8};
    CHECK(seen == expected);
  }
}

TEST_CASE("keys that are all equal tie, whatever rounding makes of their gates") {
  random_heads<float> const queries({1, 700, 2, 96}, 21), key({1, 1, 1, 96}, 22);
  heads_view<float const> const keys(key.view().data, {1, 700, 1, 96}, {0, 0, 0, 1});
  for (moba const& s : {moba{64, 3}, moba{16, 5}, moba{7, 2}}) {
    CAPTURE(s.block);
    selected_run const exact(reference{}, s, queries.view(), keys);
    selected_run const fast(cpu{}, s, queries.view(), keys);
    CHECK(mask_of(exact.mode(), exact.shape) == mask_of(fast.mode(), fast.shape));
    where const w = locate(fast.shape, 0, 1, 0);
    for (int j = 0; j <= 699; ++j)
      CHECK(fast.mode().keeps(w, 699, j) == (j / s.block < s.k - 1 || j / s.block == 699 / s.block));
  }
}

TEST_CASE("by hand: two blocks of four keys, queries that continue a cache") {
  // Gates fall from block to block, so that a query sees block 0 and its own.
  int const q_len = 6, k_len = 14, d = 32;
  std::vector<float> q(static_cast<std::size_t>(q_len * d), 1.f), k(static_cast<std::size_t>(k_len * d));
  for (int j = 0; j < k_len; ++j)
    for (int c = 0; c < d; ++c) k[static_cast<std::size_t>(j * d + c)] = static_cast<float>(-(j / 4));
  selected_run const run(cpu{}, moba{4, 2}, heads_view<float const>(q.data(), {1, q_len, 1, d}),
                         heads_view<float const>(k.data(), {1, k_len, 1, d}));
  CHECK(picture_differs(run.mode(), locate(run.shape, 0, 0, 0),
                        {"####....#.....", "####....##....", "####....###...", "####....####..", "####........#.",
                         "####........##"}) == "");
}

TEST_CASE("parameters that make no sense are refused") {
  std::vector<float> x(64 * 32);
  heads_view<float const> const q(x.data(), {1, 64, 1, 32});
  auto const refused = [&](moba const& s, options const& o = {}) {
    try {
      attention{s}.shape(q, q, o);
    } catch (error const& e) {
      return e.argument();
    }
    return std::string();
  };
  CHECK(refused({}).empty());
  CHECK(refused({0, 8}) == "moba.block");
  CHECK(refused({2147483647, 8}) == "moba.block");
  CHECK(refused({16, 0}) == "moba.k");
  CHECK(refused({16, 2}, {.causal = false}) == "moba");
  attention attend{moba{16, 2}};
  std::vector<std::byte> memory(attend.workspace_bytes(attend.shape(q, q)), std::byte{0xff});
  std::vector<float> out(x.size());
  std::int32_t const route = 0;
  const_assignment_view const assignment(&route, {1, 1});
  CHECK_THROWS_AS(attend.forward(q, q, q, heads_view<float>(out.data(), {1, 64, 1, 32}), {}, assignment, memory),
                  error);
}
