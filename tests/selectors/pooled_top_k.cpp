// Pooled top-k: literal lists, both backends against each other on odd shapes, and attention through the lists.
#include <elastic/selectors/pooled_top_k.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include <support/selection.hpp>

using namespace elastic;
using elastic::testing::random_heads;
using elastic::testing::selected_run;
using elastic::testing::selection;

namespace {

/// How far apart the last block taken and the first one left are, by the formula, written out once more.
template <class T>
double gap_at_cut(pooled_top_k const& s, problem const& p, where const& w, int query_block,
                  heads_view<T const> const& q, heads_view<T const> const& k) {
  auto const queries = rows_of(q, p.cu_seqlens_q, w.batch, w.query_head);
  auto const keys = rows_of(k, p.cu_seqlens_k, w.batch, w.kv_head);
  int const rows_end = std::min((query_block + 1) * s.block_rows, w.q_len);
  int const keys_end = std::min(w.k_len, w.position(rows_end - 1) + 1);
  std::vector<double> scores;
  for (int begin = 0; begin < keys_end; begin += s.block_columns) {
    int const end = std::min(begin + s.block_columns, w.k_len);
    double dot = 0;
    for (int d = 0; d < p.head_dim; ++d) {
      double query = 0, key = 0;
      for (int i = query_block * s.block_rows; i < rows_end; ++i) query += double(float(queries[i][d]));
      for (int j = begin; j < end; ++j) key += double(float(keys[j][d]));
      dot += query / (rows_end - query_block * s.block_rows) * key / (end - begin);
    }
    scores.push_back(dot);
  }
  std::ranges::sort(scores, std::greater<>());
  auto const cut = static_cast<std::size_t>(s.k);
  return scores.size() <= cut ? 1 : scores[cut - 1] - scores[cut];
}

template <class T>
void compare_backends(pooled_top_k const& s, heads_view<T const> const& q, heads_view<T const> const& k,
                      options const& o = {}) {
  auto const exact = selected_run(reference{}, s, q, k, o), fast = selected_run(cpu{}, s, q, k, o);
  auto const exact_lists = exact.lists(), fast_lists = fast.lists();
  REQUIRE(exact_lists.size() == fast_lists.size());
  int compared = 0;
  for (auto const& [at, list] : exact_lists) {
    where const w = locate(exact.shape, at[0], at[1], 0);
    int const last = std::min((at[2] + 1) * s.block_rows, w.q_len) - 1;
    int const blocks = (std::max(w.position(last) + 1, 0) + s.block_columns - 1) / s.block_columns;
    CHECK(static_cast<int>(list.size()) == std::min(s.k, blocks));
    if (gap_at_cut<T>(s, exact.shape, w, at[2], q, k) < 1e-5) continue;
    CHECK(fast_lists.at(at) == list);
    ++compared;
  }
  CHECK(compared * 10 >= static_cast<int>(exact_lists.size()) * 9);
}

}  // namespace

TEST_CASE("the k best, ties to the lower index") {
  double const scores[] = {1, 5, 3, 5, 3, std::numeric_limits<double>::quiet_NaN()};
  std::int32_t entries[6];
  auto const kept = [&](int k, int candidates) {
    int const n = pooled_top_k{.k = k}.keep(candidates, scores, entries);
    return std::vector<std::int32_t>(entries, entries + n);
  };
  using list = std::vector<std::int32_t>;
  CHECK(kept(1, 6) == list{1});
  CHECK(kept(2, 6) == list{3, 1});
  CHECK(kept(3, 6) == list{3, 2, 1});
  CHECK(kept(5, 6) == list{4, 3, 2, 1, 0});
  CHECK(kept(100, 4) == list{3, 2, 1, 0});
  CHECK(kept(2, 0).empty());
}

TEST_CASE("keys that are all equal tie, those of a last short block too") {
  random_heads<float> const q({1, 1500, 2, 96}, 21), key({1, 1, 1, 96}, 22);
  heads_view<float const> const k(key.view().data, {1, 1500, 1, 96}, {0, 0, 0, 1});
  for (int block : {16, 64}) {
    CAPTURE(block);
    auto const lists = selected_run(cpu{}, pooled_top_k{block, block, 3}, q.view(), k).lists();
    CHECK(lists == selected_run(reference{}, pooled_top_k{block, block, 3}, q.view(), k).lists());
    CHECK(lists.at({0, 1, 1499 / block}) == std::vector<std::int32_t>{2, 1, 0});
  }
}

TEST_CASE("blocks that point the query's way are found") {
  // Key block J points along axis J; query block I along axis (I · 5) mod 7, a little less along (I · 3) mod 7.
  random_heads<float> const q({1, 7 * 64 - 10, 1, 32}, 1, 0), k({1, 7 * 64 - 10, 1, 32}, 2, 0);
  for (int s = 0; s < 7 * 64 - 10; ++s) {
    k.mutable_view()(0, s, 0, s / 64) = 1;
    q.mutable_view()(0, s, 0, s / 64 * 3 % 7) += .5f;
    q.mutable_view()(0, s, 0, s / 64 * 5 % 7) += 1;
  }
  auto const check = [&](auto const& backend) {
    auto const lists = selected_run(backend, pooled_top_k{.k = 2}, q.view(), k.view()).lists();
    CHECK(lists.at({0, 0, 0}) == std::vector<std::int32_t>{0});
    CHECK(lists.at({0, 0, 3}) == std::vector<std::int32_t>{2, 1});  // 15 mod 7, 9 mod 7
    CHECK(lists.at({0, 0, 5}) == std::vector<std::int32_t>{4, 1});  // 25 mod 7, 15 mod 7
    CHECK(lists.at({0, 0, 6}) == std::vector<std::int32_t>{4, 2});  // 30 mod 7, 18 mod 7
  };
  check(reference{});
  check(cpu{});
}

TEST_CASE("backends agree on odd shapes") {
  struct odd {
    int q_len, k_len, query_heads, kv_heads, head_dim, block_rows, block_columns, k;
  };
  for (odd const& c :
       {odd{1000, 1000, 4, 2, 64, 64, 64, 5}, odd{333, 700, 3, 1, 32, 128, 32, 7}, odd{500, 450, 2, 2, 96, 32, 128, 1},
        odd{1, 1, 1, 1, 32, 64, 64, 1}, odd{5000, 5000, 1, 1, 32, 64, 64, 20}, odd{700, 700, 2, 1, 128, 256, 64, 3}}) {
    CAPTURE(c.q_len);
    random_heads<float> const q({2, c.q_len, c.query_heads, c.head_dim}, 3, 1, 3);
    random_heads<float> const k({2, c.k_len, c.kv_heads, c.head_dim}, 4, 1, 1, true);
    compare_backends<float>({c.block_rows, c.block_columns, c.k}, q.view(), k.view(), {.threads = 3});
  }
}

TEST_CASE_TEMPLATE("16-bit inputs", T, half, bfloat16) {
  random_heads<T> const q({1, 777, 4, 64}, 5), k({1, 777, 2, 64}, 6, 1, 2, true);
  compare_backends<T>({.k = 4}, q.view(), k.view());
}

TEST_CASE("packed sequences, chunks and routing") {
  std::vector<std::int32_t> const starts{0, 300, 300, 301, 901}, key_starts{0, 310, 410, 411, 1285};
  random_heads<float> const q({1, 901, 4, 32}, 7), k({1, 1285, 2, 32}, 8);
  options o{.threads = 2, .cu_seqlens_q = starts, .cu_seqlens_k = key_starts};
  pooled_top_k const s{.k = 3};
  compare_backends<float>(s, q.view(), k.view(), o);
  auto const whole = selected_run(cpu{}, s, q.view(), k.view(), o).lists();
  selection pieces;
  for (int begin = 0; begin < 600; begin += 256) {
    o.q_begin = begin;
    o.q_end = std::min(begin + 256, 600);
    auto const run = selected_run(cpu{}, s, q.view(), k.view(), o);
    CHECK(run.storage.query_blocks == (o.q_end - begin + 63) / 64);  // no memory for other rows
    auto const piece = run.lists();
    pieces.insert(piece.begin(), piece.end());
  }
  CHECK(pieces == whole);

  o.q_begin = 0, o.q_end = -1;
  std::vector<std::int32_t> const routes{0, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1};
  auto const check = [&](auto const& backend) {
    auto const routed = selected_run(backend, s, q.view(), k.view(), o, routes, 1).lists();
    for (auto const& [at, list] : routed) {
      bool const comes = routes[static_cast<std::size_t>(at[0] * 4 + at[1])] == 1;
      CHECK(list == (comes ? whole.at(at) : std::vector<std::int32_t>{}));
    }
  };
  check(cpu{});
  check(reference{});
}

TEST_CASE("attention through the front door") {
  random_heads<float> const q({1, 500, 2, 32}, 9), k({1, 500, 1, 32}, 10), v({1, 500, 1, 32}, 11);
  random_heads<float> const out({1, 500, 2, 32}, 12), expected({1, 500, 2, 32}, 13);
  pooled_top_k const s{.k = 2};
  auto const run = selected_run(cpu{}, s, q.view(), k.view());
  auto const lists = run.lists();
  auto const dense = [&](where const& w, int i, int j) {
    return std::ranges::count(lists.at({w.batch, w.query_head, i / 64}), j / 64) > 0;
  };
  attention{hybrid{full{}, s}, fixed_router{{1, 1}, 2}}(q.view(), k.view(), v.view(), out.mutable_view());
  attention{predicate{dense}, fixed_router{}, reference{}}(q.view(), k.view(), v.view(), expected.mutable_view());
  double worst = 0;
  for (int i = 0; i < 500; ++i)
    for (int h = 0; h < 2; ++h)
      for (int d = 0; d < 32; ++d)
        worst = std::max(worst, double(std::abs(out.view()(0, i, h, d) - expected.view()(0, i, h, d))));
  CHECK(worst < 1e-5);
}

TEST_CASE("what does not fit is refused") {
  problem p;
  p.q_len = p.q_end = p.k_len = 100;
  CHECK_NOTHROW(pooled_top_k{}.check(p));
  CHECK_THROWS_AS(pooled_top_k{.block_rows = 0}.check(p), error);
  CHECK_THROWS_AS(pooled_top_k{.block_columns = 48}.check(p), error);
  CHECK_THROWS_AS(pooled_top_k{.k = 0}.check(p), error);
  p.causal = false;
  CHECK_THROWS_AS(pooled_top_k{}.check(p), error);
}
