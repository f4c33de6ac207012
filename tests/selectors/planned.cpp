// Plans: exactly the blocks that hold kept pairs, marked partial exactly where some pairs are not kept; attention and
// decode as without a plan.
#include <elastic/selectors/planned.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include <support/selection.hpp>

using namespace elastic;
using elastic::testing::random_heads;
using elastic::testing::selected_run;
using elastic::testing::selection;

namespace {

/// Every third diagonal stripe of 100 keys, but for the second head.
struct stripes {
  bool operator()(where const& w, int q, int k) const {
    return w.query_head == 1 || (w.position(q) - k) / 100 % 3 == 0;
  }
};

/// Every key, twice.
struct twice {
  static constexpr bool has_partial = false;
  static constexpr int spans_max = 2;
  bool keeps(where const&, int, int) const { return true; }
  span_array<2> spans(where const& w, int, tile_shape shape) const {
    span const all{0, ceil_div(w.k_len, shape.columns), coverage::full};
    return {{all, all}};
  }
};

/// The plan, by asking every pair of the problem.
template <class Mode>
selection plan_of(Mode const& mode, problem const& p, tile_shape block) {
  selection plan;
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      for (int i = p.q_begin / block.rows; i * block.rows < std::min(p.q_end, w.q_len); ++i) {
        auto& list = plan[{b, h, i}];
        for (int j = w.k_len / block.columns; j >= 0; --j) {
          int inside = 0, kept = 0;
          for (int q = i * block.rows; q < std::min((i + 1) * block.rows, w.q_len); ++q)
            for (int k = j * block.columns; k < std::min((j + 1) * block.columns, w.k_len); ++k)
              if (w.admits(q, k)) {
                ++inside;
                kept += mode.keeps(w, q, k);
              }
          if (kept > 0) list.push_back(kept == inside ? j : ~j);
        }
      }
    }
  return plan;
}

template <class Mode>
selection check_plan(Mode const& mode, heads_view<float const> const& q, heads_view<float const> const& k,
                     options const& o = {}, tile_shape block = {128, 128}) {
  planned<Mode> const s(mode);
  auto const fast = selected_run(cpu{}, s, q, k, o);
  auto const expected = plan_of(mode, fast.shape, block);
  CHECK(fast.lists() == expected);
  CHECK(selected_run(reference{}, s, q, k, o).lists() == expected);
  return expected;
}

template <class A, class B>
void check_attention(A const& mode, B const& expected_mode, options o = {}) {
  random_heads<float> const q({2, 500, 2, 32}, 1), k({2, 612, 1, 32}, 2), v({2, 612, 1, 32}, 3);
  random_heads<float> const out({2, 500, 2, 32}, 4), expected({2, 500, 2, 32}, 5);
  std::vector<float> lse(2 * 2 * 500), expected_lse(lse);
  lse_view const lse_out(lse.data(), {2, 2, 500}), lse_expected(expected_lse.data(), {2, 2, 500});
  attention{expected_mode, fixed_router{}, reference{}}(q.view(), k.view(), v.view(), expected.mutable_view(),
                                                        lse_expected, o);
  auto const compare = [&] {
    double worst = 0;
    for (int b = 0; b < 2; ++b)
      for (int s = 0; s < 500; ++s)
        for (int h = 0; h < 2; ++h) {
          for (int d = 0; d < 32; ++d) {
            double const difference = std::abs(double(out.view()(b, s, h, d)) - double(expected.view()(b, s, h, d)));
            worst = difference <= worst ? worst : difference;
          }
          float const one = lse_out(b, h, s), other = lse_expected(b, h, s);
          if (one != other) worst = std::max(worst, double(std::abs(one - other)));
        }
    CHECK(worst < 1e-5);
  };
  attention{mode}(q.view(), k.view(), v.view(), out.mutable_view(), lse_out, o);
  compare();
  attention{mode, fixed_router{}, reference{}}(q.view(), k.view(), v.view(), out.mutable_view(), lse_out, o);
  compare();
}

}  // namespace

TEST_CASE("plans hold what keeps says, and no more") {
  for (auto [q_len, k_len] : {std::pair{700, 700}, {300, 813}, {500, 300}, {1, 1}, {128, 256}}) {
    CAPTURE(q_len);
    random_heads<float> const q({2, q_len, 3, 32}, 6), k({2, k_len, 1, 32}, 7);
    for (bool const causal : {true, false}) {
      options const o{.causal = causal, .threads = 2};
      check_plan(predicate{stripes{}}, q.view(), k.view(), o);
      check_plan(sliding_window{200}, q.view(), k.view(), o);
      check_plan(union_of<streaming, predicate<stripes>>{streaming{1, 1}, {}}, q.view(), k.view(), o);
      check_plan(intersection_of<sliding_window, predicate<stripes>>{sliding_window{350}, {}}, q.view(), k.view(), o);
    }
  }
}

TEST_CASE("a stripe of whole blocks is full, an empty one is not visited") {
  random_heads<float> const q({1, 1000, 2, 32}, 8);
  auto const lists = check_plan(sliding_window{400}, q.view(), q.view());
  CHECK(lists.at({0, 0, 6}) == std::vector<std::int32_t>{6, 5, 4, ~3, ~2});
  auto const nothing = check_plan(predicate{[](where const&, int, int) { return false; }}, q.view(), q.view());
  for (auto const& [at, list] : nothing) CHECK(list.empty());
}

TEST_CASE("blocks follow the lists inside") {
  std::vector<std::int32_t> const entries{3, 1, 0, 5, 2};
  std::vector<std::int64_t> const begin{0, 0, 0, 3, 3, 2, 1, 1};
  std::vector<std::int32_t> const count{1, 2, 3, 2, 2, 0, 1, 2};
  block_sparse lists{.entries = entries.data(), .size = 5, .block_rows = 64, .block_columns = 32};
  lists.begin = {begin.data(), {1, 2, 4}};
  lists.count = {count.data(), {1, 2, 4}};
  random_heads<float> const q({1, 200, 2, 32}, 9);
  auto const joined = union_of<block_sparse, sliding_window>{lists, sliding_window{40}};
  planned const s(union_of<predicate<stripes>, sliding_window>{{}, {40}});
  CHECK(s.blocks().rows == 128);
  check_plan(lists, q.view(), q.view(), {.causal = false}, {64, 32});
  check_plan(joined, q.view(), q.view(), {.causal = false});
}

TEST_CASE("packed sequences, chunks and routing") {
  std::vector<std::int32_t> const starts{0, 300, 300, 440, 940}, key_starts{0, 310, 410, 411, 1285};
  random_heads<float> const q({1, 940, 2, 32}, 10), k({1, 1285, 1, 32}, 11);
  options o{.threads = 2, .cu_seqlens_q = starts, .cu_seqlens_k = key_starts};
  auto const whole = check_plan(predicate{stripes{}}, q.view(), k.view(), o);
  selection pieces;
  for (int begin = 0; begin < 500; begin += 256) {
    o.q_begin = begin;
    o.q_end = std::min(begin + 256, 500);
    auto const piece = check_plan(predicate{stripes{}}, q.view(), k.view(), o);
    pieces.insert(piece.begin(), piece.end());
  }
  CHECK(pieces == whole);

  o.q_begin = 0, o.q_end = -1;
  auto const routed =
      selected_run(cpu{}, planned{predicate{stripes{}}}, q.view(), k.view(), o, {0, 1, 1, 0, 0, 0, 1, 1}, 1);
  for (auto const& [at, list] : routed.lists()) {
    bool const comes = routed.routes[static_cast<std::size_t>(at[0] * 2 + at[1])] == 1;
    CHECK(list == (comes ? whole.at(at) : std::vector<std::int32_t>{}));
  }
}

TEST_CASE("a mode that names tiles twice, which breaks the laws, fills no more than its lists") {
  random_heads<float> const q({1, 300, 2, 32}, 6), k({1, 300, 1, 32}, 7);
  selected_run const plan(cpu{}, planned<twice>{twice{}}, q.view(), k.view());
  block_lists const& lists = plan.storage.lists;
  for (std::int64_t i = 0; i < lists.rows(); ++i) CHECK(lists.count[i] <= lists.capacity);
}

TEST_CASE("attention is that of the mode without a plan") {
  for (bool const causal : {true, false}) {
    options const o{.causal = causal, .threads = 2};
    check_attention(planned{predicate{stripes{}}}, predicate{stripes{}}, o);
    using joined = union_of<streaming, predicate<stripes>>;
    check_attention(planned{joined{streaming{1, 1}, {}}}, joined{streaming{1, 1}, {}}, o);
  }
  scored<predicate<stripes>, alibi> const biased{{}, alibi{}};
  check_attention(planned{biased}, biased);
  check_attention(scored<planned<predicate<stripes>>, soft_cap>{planned{predicate{stripes{}}}, soft_cap{2}},
                  scored<predicate<stripes>, soft_cap>{{}, soft_cap{2}});
  float const sinks[] = {1.5f, -.5f};
  sink_logits<predicate<stripes>> const sunk{{}, sinks};
  check_attention(planned{sunk}, sunk);
}

TEST_CASE("one branch of a hybrid may be planned") {
  random_heads<float> const q({1, 400, 2, 32}, 12), k({1, 400, 1, 32}, 13), v({1, 400, 1, 32}, 14);
  random_heads<float> const out({1, 400, 2, 32}, 15), expected({1, 400, 2, 32}, 16);
  fixed_router const routes({1, 0}, 2);
  attention{hybrid{full{}, planned{predicate{stripes{}}}}, routes}(q.view(), k.view(), v.view(), out.mutable_view());
  attention{hybrid{full{}, predicate{stripes{}}}, routes, reference{}}(q.view(), k.view(), v.view(),
                                                                       expected.mutable_view());
  double worst = 0;
  for (int i = 0; i < 400; ++i)
    for (int h = 0; h < 2; ++h)
      for (int d = 0; d < 32; ++d)
        worst = std::max(worst, double(std::abs(out.view()(0, i, h, d) - expected.view()(0, i, h, d))));
  CHECK(worst < 1e-5);
}

TEST_CASE("decode uses the mode that was planned, and lists inside it the whole cache") {
  static_assert(std::is_same_v<decltype(decode_mode(planned{sliding_window{}})), sliding_window>);
  static_assert(std::is_same_v<decltype(decode_mode(hybrid{full{}, planned{block_sparse{}}})), hybrid<full, full>>);
  CHECK(decode_mode(planned{sliding_window{77}}).window == 77);
  // Dense decode keeps the hooks of what was planned.
  static_assert(scoring_mode<decltype(dense_mode(planned<scored<sliding_window, alibi>>{}))>);
  static_assert(std::is_same_v<decltype(dense_mode(planned<sliding_window>{})), full>);
}
