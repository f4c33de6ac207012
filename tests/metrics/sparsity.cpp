#include <elastic/metrics/sparsity.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <vector>

using namespace elastic;

namespace {

problem shape_of(int batch, int q_len, int k_len, int query_heads, bool causal = true) {
  problem p;
  p.batch = batch;
  p.q_len = p.q_end = q_len;
  p.k_len = k_len;
  p.query_heads = query_heads;
  p.kv_heads = 1;
  p.head_dim = 64;
  p.causal = causal;
  p.softmax_scale = 0.125f;
  p.threads = 2;
  return p;
}

/// Every pair asked.
template <class M>
head_sparsity brute_force(M const& mode, where const& w, int begin, int end) {
  head_sparsity count;
  for (int q = begin; q < minimum(end, w.q_len); ++q)
    for (int k = 0; k < w.k_len; ++k) {
      bool const visible = w.admits(q, k), kept = visible && mode.keeps(w, q, k);
      count.visible += visible;
      count.kept += kept;
      if (q == w.q_len - 1) {
        count.last_visible += visible;
        count.last_kept += kept;
      }
    }
  return count;
}

template <class M>
void agrees(M const& mode, problem const& p, std::vector<std::int32_t> const& routes) {
  const_assignment_view const assignment(routes.data(), {p.batch, p.query_heads});
  for (tile_shape const shape : {tile_shape{128, 128}, {64, 128}, {128, 32}, {16, 16}, {96, 160}}) {
    CAPTURE(shape.rows);
    CAPTURE(shape.columns);
    effective_sparsity const counted = count_sparsity(mode, p, assignment, shape);
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h) {
        head_sparsity const expected = brute_force(mode, locate(p, b, h, assignment(b, h)), p.q_begin, p.q_end);
        head_sparsity const& got = counted(b, h);
        CHECK(got.kept == expected.kept);
        CHECK(got.visible == expected.visible);
        CHECK(got.last_kept == expected.last_kept);
        CHECK(got.last_visible == expected.last_visible);
        CHECK(got.tiles <= got.visible_tiles);
        CHECK(got.tiles * counted.shape.rows * counted.shape.columns >= got.kept);
      }
  }
}

struct every_third {
  bool operator()(where const& w, int q, int k) const { return (w.position(q) - k) % 3 == 0; }
};

}  // namespace

TEST_CASE("counted by tiles, pairs are what keeps says one by one") {
  for (auto const& [q_len, k_len] :
       {std::array{300, 300}, {1, 1}, {1, 517}, {131, 700}, {700, 131}, {256, 384}, {0, 10}, {10, 0}})
    for (bool const causal : {true, false}) {
      CAPTURE(q_len);
      CAPTURE(k_len);
      CAPTURE(causal);
      problem const p = shape_of(2, q_len, k_len, 3, causal);
      std::vector<std::int32_t> const none(6, 0), mixed{0, 1, 1, 1, 0, 0};
      agrees(full{}, p, none);
      agrees(sliding_window{50}, p, none);
      agrees(streaming{1, 2}, p, none);
      agrees(streaming{20, 70, granularity::token}, p, none);
      agrees(predicate{every_third{}}, p, none);
      agrees(hybrid<full, streaming>{full{}, streaming{30, 40, granularity::token}}, p, mixed);
      agrees(scored{sliding_window{77}, soft_cap{}}, p, none);
      if (causal) agrees(triangle{8, 40, 60, 0}, p, none);
    }
}

TEST_CASE("lists count by their blocks") {
  // Query blocks 0 … 2 see blocks {0}, {1, 0}, {2, 0} of 128 keys; 300 rows.
  std::vector<std::int32_t> const entries{0, 1, 0, 2, 0};
  std::vector<std::int64_t> const begin{0, 1, 3};
  std::vector<std::int32_t> const count{1, 2, 2};
  block_sparse mode;
  mode.entries = entries.data();
  mode.size = 5;
  mode.begin = {begin.data(), {1, 1, 3}};
  mode.count = {count.data(), {1, 1, 3}};
  problem const p = shape_of(1, 300, 300, 1);
  agrees(mode, p, {0});
  agrees(hybrid<full, block_sparse>{full{}, mode}, p, {1});
  std::int32_t const route = 0;
  effective_sparsity const counted = count_sparsity(mode, p, const_assignment_view(&route, {1, 1}));
  CHECK(counted(0, 0).tiles == 5);
  CHECK(counted(0, 0).visible_tiles == 6);
  CHECK(counted(0, 0).last_kept == 128 + 44);
  CHECK(counted.tile_density() == doctest::Approx(5. / 6));
  // A list that leaves the array is refused before it is read.
  mode.size = 4;
  CHECK_THROWS_AS(count_sparsity(mode, p, const_assignment_view(&route, {1, 1})), error);
}

TEST_CASE("packed sequences, and chunks that add up") {
  std::vector<std::int32_t> const q_starts{0, 200, 200, 530}, k_starts{0, 250, 260, 640};
  problem p = shape_of(3, 330, 380, 2);
  p.cu_seqlens_q = q_starts.data();
  p.cu_seqlens_k = k_starts.data();
  std::vector<std::int32_t> const routes{0, 1, 1, 0, 1, 1};
  hybrid<full, streaming> const mode{full{}, streaming{10, 60, granularity::token}};
  agrees(mode, p, routes);
  const_assignment_view const assignment(routes.data(), {3, 2});
  effective_sparsity const whole = count_sparsity(mode, p, assignment);
  std::vector<head_sparsity> sum(6);
  for (int begin : {0, 128, 256}) {
    p.q_begin = begin;
    p.q_end = minimum(begin + 128, 330);
    agrees(mode, p, routes);
    auto const part = count_sparsity(mode, p, assignment);
    for (std::size_t i = 0; i < 6; ++i) sum[i] += part.heads[i];
  }
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(sum[i].kept == whole.heads[i].kept);
    CHECK(sum[i].last_kept == whole.heads[i].last_kept);
    CHECK(sum[i].last_visible == whole.heads[i].last_visible);
    CHECK(sum[i].tiles == whole.heads[i].tiles);
  }
}

TEST_CASE("effective sparsity of static modes: 1 - n/S by the last row") {
  std::int32_t const sparse = 1;
  for (int length : {512, 8192, 65536}) {
    problem const p = shape_of(1, length, length, 1);
    const_assignment_view const assignment(&sparse, {1, 1});
    // Sink 128 and local 1024, the setting that the paper's plots fit: n = 1152.
    hybrid<full, streaming> const token{full{}, streaming{128, 1024, granularity::token}};
    auto const counted = count_sparsity(token, p, assignment);
    CHECK(counted.last_row() == doctest::Approx(maximum(0., 1 - 1152. / length)).epsilon(1e-12));
    // By area: rows below n keep everything.
    double const n = minimum(1152, length), kept = n * (n + 1) / 2 + (length - n) * n;
    CHECK(counted.area() == doctest::Approx(1 - kept / (length * (length + 1.) / 2)).epsilon(1e-12));
    CHECK(counted.density() == doctest::Approx(1 - counted.area()).epsilon(1e-12));
  }
}

TEST_CASE("effective sparsity is the mean over heads, full heads counting 0") {
  problem const p = shape_of(1, 4096, 4096, 4);
  std::vector<std::int32_t> const routes{0, 1, 1, 1};
  hybrid<full, streaming> const mode{full{}, streaming{128, 1024, granularity::token}};
  auto const counted = count_sparsity(mode, p, const_assignment_view(routes.data(), {1, 4}));
  CHECK(counted(0, 0).last_row() == 0);
  CHECK(counted(0, 0).area() == 0);
  CHECK(counted.last_row() == doctest::Approx(0.75 * (1 - 1152. / 4096)).epsilon(1e-12));
  CHECK(counted.area() == doctest::Approx(0.75 * counted(0, 1).area()).epsilon(1e-12));
}

TEST_CASE("sequences without a row count for nothing in the means") {
  std::vector<std::int32_t> const starts{0, 0, 100};
  problem p = shape_of(2, 100, 100, 1);
  p.cu_seqlens_q = p.cu_seqlens_k = starts.data();
  std::vector<std::int32_t> const routes{0, 0};
  auto const counted = count_sparsity(sliding_window{25}, p, const_assignment_view(routes.data(), {2, 1}));
  CHECK(counted.last_row() == doctest::Approx(0.75));
}

TEST_CASE("model sparsity: per sample and over layers") {
  std::vector<std::int32_t> const first{0, 1, 1, 1, 0, 0, 0, 2}, second{0, 0, 0, 0, 1, 1, 1, 1};
  std::vector<const_assignment_view> const layers{{first.data(), {2, 4}}, {second.data(), {2, 4}}};
  CHECK(model_sparsity(layers[0]) == 0.5);
  CHECK(model_sparsity_of_samples(layers) == std::vector<double>{3. / 8, 5. / 8});
  CHECK(model_sparsity(layers) == 0.5);
  CHECK_THROWS_AS(model_sparsity(std::span<const_assignment_view const>{}), error);
  std::vector<const_assignment_view> const ragged{{first.data(), {2, 4}}, {second.data(), {1, 4}}};
  CHECK_THROWS_AS(model_sparsity(ragged), error);
  CHECK_THROWS_AS(model_sparsity(const_assignment_view(nullptr, {1, 4})), error);
  CHECK_THROWS_AS(model_sparsity(const_assignment_view(first.data(), {1, -4})), error);
}

TEST_CASE("tiles of no size, and of more than an int can count, are refused; tiles longer than the problem are not") {
  problem const p = shape_of(1, 160, 160, 1);
  std::int32_t const route = 0;
  const_assignment_view const assignment(&route, {1, 1});
  std::int64_t const kept = count_sparsity(sliding_window{25}, p, assignment).total().kept;
  CHECK(count_sparsity(sliding_window{25}, p, assignment, {1 << 29, 1 << 29}).total().kept == kept);
  constexpr int most = std::numeric_limits<int>::max();
  for (tile_shape const bad : {tile_shape{most, most}, {128, (1 << 29) + 1}, {0, 128}, {128, -1}})
    CHECK_THROWS_WITH_AS(count_sparsity(sliding_window{25}, p, assignment, bad), doctest::Contains("wanted: got"),
                         error);
}

TEST_CASE_TEMPLATE("of no sequences, and of sequences without rows, nothing is counted", M, full, antidiagonal, moba,
                   vertical_slash, pooled_top_k, top_k, auto_dense<moba>) {
  M mode;
  if constexpr (requires { mode.costs; }) mode.costs = costs_on(cpu{}, mode.inner);
  attention const attend(mode);
  std::vector<std::int32_t> const routes(4);
  for (std::int64_t const batch : {0, 1})
    for (std::int64_t const length : {0, 512}) {
      if (batch > 0 && length > 0) continue;
      CAPTURE(batch);
      heads_view<float const> const q(nullptr, {batch, length, 4, 32}), k(nullptr, {batch, length, 2, 32});
      auto const counted = count_sparsity(attend, q, k, const_assignment_view(routes.data(), {batch, 4}));
      CHECK(counted.query_heads == 4);
      CHECK(counted.heads.size() == static_cast<std::size_t>(batch) * 4);
      CHECK(counted.total().visible == 0);
      CHECK(counted.density() == 1);
    }
}

TEST_CASE("through the front door, static modes and selectors alike") {
  int const length = 700;
  std::vector<float> q(static_cast<std::size_t>(length * 4 * 32)), k(static_cast<std::size_t>(length * 2 * 32));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.02f;
  for (std::size_t i = 0; i < k.size(); ++i) k[i] = static_cast<float>(static_cast<int>(i * 53 % 103) - 51) * 0.02f;
  heads_view<float const> const queries(q.data(), {1, length, 4, 32}), keys(k.data(), {1, length, 2, 32});
  std::vector<std::int32_t> const routes{0, 0, 1, 1};
  const_assignment_view const assignment(routes.data(), {1, 4});
  attention const fixed(hybrid<full, streaming>{full{}, streaming{10, 60, granularity::token}});
  auto const counted = count_sparsity(fixed, queries, keys, assignment);
  CHECK(counted.last_row() == doctest::Approx(0.5 * (1 - 70. / length)));

  attention const selecting(hybrid<antidiagonal, streaming>{antidiagonal{}, streaming{10, 60, granularity::token}});
  auto const chosen = count_sparsity(selecting, queries, keys, assignment);
  problem const p = selecting.shape(queries, keys);
  std::vector<std::byte> memory(selecting.workspace_bytes(p));
  selecting.select(queries, keys, assignment, memory);
  auto const mode = selecting.selected_in(p, memory);
  for (int h = 0; h < 4; ++h) {
    head_sparsity const expected = brute_force(mode, locate(p, 0, h, assignment(0, h)), 0, length);
    CHECK(chosen(0, h).kept == expected.kept);
    CHECK(chosen(0, h).last_kept == expected.last_kept);
  }
}
