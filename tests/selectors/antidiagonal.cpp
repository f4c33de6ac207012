// Antidiagonal selection: the published code's scores and masks, both backends against each other on odd shapes, and
// attention through what was selected.
#include <elastic/selectors/antidiagonal.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>

#include <support/antidiagonal.hpp>
#include <support/golden.hpp>
#include <support/selection.hpp>

using namespace elastic;
using elastic::testing::golden_file;
using elastic::testing::margin_of;
using elastic::testing::random_heads;
using elastic::testing::scores_of;
using elastic::testing::selected_run;
using elastic::testing::selection;

namespace {

/// Lists of two backends agree wherever rounding cannot tip a choice; returns how many rows were compared.
template <class T>
int compare_backends(antidiagonal const& s, heads_view<T const> const& q, heads_view<T const> const& k,
                     options const& o = {}) {
  auto const exact = selected_run(reference{}, s, q, k, o).lists();
  auto const fast = selected_run(cpu{}, s, q, k, o).lists();
  auto const exact_scores = scores_of(reference{}, s, q, k, o), fast_scores = scores_of(cpu{}, s, q, k, o);
  double worst = 0;
  for (std::size_t i = 0; i < exact_scores.size(); ++i)
    worst = std::max(worst, std::abs(exact_scores[i] - fast_scores[i]));
  CHECK(worst < 1e-4 * s.block / s.stride);

  problem const p = make_problem<T>(q, k, o);
  int const rows = ceil_div(p.q_len, s.block), columns = ceil_div(p.k_len, s.block);
  int compared = 0;
  REQUIRE(exact.size() == fast.size());
  for (auto const& [at, list] : exact) {
    where const w = locate(p, at[0], at[1], 0);
    double const* const scores = exact_scores.data() + ((at[0] * p.query_heads + at[1]) * rows + at[2]) * columns;
    if (margin_of(s, s.row_of(w, at[2]), scores) < 1e-5) continue;
    CAPTURE(at[0]);
    CAPTURE(at[1]);
    CAPTURE(at[2]);
    CHECK(fast.at(at) == list);
    ++compared;
  }
  CHECK(compared * 10 >= static_cast<int>(exact.size()) * 9);
  return compared;
}

/// The same lists, built row by row into a dense mask: what a forward through the selector has to agree with.
struct dense_mask {
  selection const* lists;
  int block;
  bool operator()(where const& w, int q, int k) const {
    auto const found = lists->find({w.batch, w.query_head, q / block});
    return found != lists->end() && std::ranges::count(found->second, k / block) > 0;
  }
};

template <class T>
double largest_difference(heads_view<T const> const& a, heads_view<T const> const& b) {
  double worst = 0;
  for (int i = 0; i < a.extents[0]; ++i)
    for (int s = 0; s < a.extents[1]; ++s)
      for (int h = 0; h < a.extents[2]; ++h)
        for (int d = 0; d < a.extents[3]; ++d) {
          double const difference = std::abs(double(float(a(i, s, h, d))) - double(float(b(i, s, h, d))));
          worst = difference <= worst ? worst : difference;  // NaN stays
        }
  return worst;
}

template <class Backend>
void check_golden(Backend const& backend) {
  golden_file const fixture("xattn.safetensors");
  int rows = 0, compared_published = 0, compared_greedy = 0;
  for (auto const& golden : fixture.cases()) {
    CAPTURE(golden.name);
    auto const q = golden.input<half>("q"), k = golden.input<half>("k");
    antidiagonal s{.block = golden.parameters.at("block"), .stride = golden.parameters.at("stride")};
    s.chunk = golden.parameters.at("chunk_size");

    auto const sums = golden.load<float>("attn_sums");
    auto const scores = scores_of(backend, s, q.as_heads(), k.as_heads());
    REQUIRE(scores.size() == sums.values.size());
    double worst = 0;
    for (std::size_t i = 0; i < scores.size(); ++i)
      worst = std::max(worst, std::abs(scores[i] - double(sums.values[i])));
    CHECK(worst < 1e-4);

    int const key_blocks = static_cast<int>(sums.shape[3]);
    for (double const threshold : golden.parameters.at("thresholds")) {
      CAPTURE(threshold);
      s.threshold = static_cast<float>(threshold);
      std::string const at = "t" + std::to_string(static_cast<int>(std::lround(threshold * 100)));
      for (bool const published : {true, false}) {
        CAPTURE(published);
        s.rule = published ? selection_rule::first_chunk : selection_rule::greedy;
        auto const mask = golden.load<std::uint8_t>(at + (published ? ".mask" : ".mask_md"));
        auto const gap = golden.load<float>(at + (published ? ".rank_gap" : ".rank_gap_md"));
        auto const cut = golden.load<float>(at + (published ? ".cut_margin" : ".cut_margin_md"));
        auto const lists = selected_run(backend, s, q.as_heads(), k.as_heads()).lists();
        REQUIRE(lists.size() == gap.values.size());
        for (std::size_t row = 0; auto const& [where_at, list] : lists) {  // ascending: in the order of the fixture
          rows += published;
          if (gap.values[row] > 1e-3f && cut.values[row] > 1e-3f) {
            (published ? compared_published : compared_greedy) += 1;
            std::vector<std::int32_t> expected;
            for (int j = key_blocks - 1; j >= 0; --j)
              if (mask.values[row * static_cast<std::size_t>(key_blocks) + static_cast<std::size_t>(j)])
                expected.push_back(j);
            CAPTURE(row);
            CHECK(list == expected);
          }
          ++row;
        }
      }
    }
  }
  CHECK(rows == 498);
  CHECK(compared_published == 467);
  CHECK(compared_greedy == 498);
}

}  // namespace

TEST_CASE("the reference selects what the published code selects") { check_golden(reference{}); }

TEST_CASE("the CPU selects what the published code selects") { check_golden(cpu{}); }

TEST_CASE("the rule of one row") {
  float const scores[] = {.05f, .6f, .2f, .15f};
  std::int32_t kept[4];
  auto const blocks = [&](antidiagonal const& s, antidiagonal::row const& row) {
    int const n = s.keep(row, scores, kept);
    return std::vector<std::int32_t>(kept, kept + n);
  };
  using list = std::vector<std::int32_t>;
  antidiagonal half_of_it{.threshold = .5f};
  CHECK(blocks(half_of_it, {4, 3, 4, selection_rule::greedy}) == list{3, 1, 0});
  CHECK(blocks(half_of_it, {4, 3, 4, selection_rule::first_chunk}) == list{3, 2, 1, 0});
  CHECK(blocks(half_of_it, {1, 0, 1, selection_rule::first_chunk}) == list{0});
  CHECK(blocks(half_of_it, {0, 0, 0, selection_rule::greedy}).empty());
  CHECK(blocks(half_of_it, {4, 2, 4, selection_rule::greedy}) ==
        list{3, 2, 1, 0});  // two own blocks hold .4 with block 0
  CHECK(blocks({.threshold = .3f}, {4, 2, 4, selection_rule::greedy}) == list{3, 2, 0});
  CHECK(blocks({.threshold = .1f}, {4, 3, 4, selection_rule::greedy}) == list{3, 0});
  CHECK(blocks({.threshold = 1.f}, {4, 3, 4, selection_rule::greedy}) == list{3, 2, 1, 0});

  float const ties[] = {1, 2, 2, 2, 1};
  CHECK(antidiagonal{.threshold = .6f}.keep({5, 4, 5, selection_rule::greedy}, ties,
                                            std::vector<std::int32_t>(5).data()) == 4);
  std::int32_t first_of_ties[5];
  CHECK(antidiagonal{.threshold = .5f}.keep({5, 4, 5, selection_rule::greedy}, ties, first_of_ties) == 3);
  CHECK(first_of_ties[1] == 1);  // the lower index

  float const broken[] = {std::numeric_limits<float>::quiet_NaN(), 1, std::numeric_limits<float>::quiet_NaN(), 1};
  CHECK(antidiagonal{}.keep({4, 3, 4, selection_rule::greedy}, broken, kept) == 3);
}

TEST_CASE("own blocks and candidates") {
  where w;
  w.q_len = 300;
  w.k_len = 300;
  antidiagonal const s;
  CHECK(s.row_of(w, 2).visible == 3);
  CHECK(s.row_of(w, 2).own_begin == 2);
  w.k_len = 300 + 64;  // straddling
  CHECK(s.row_of(w, 0).own_begin == 0);
  CHECK(s.row_of(w, 0).own_end == 2);
  CHECK(s.row_of(w, 2).own_begin == 2);
  CHECK(s.row_of(w, 2).own_end == 3);  // the last rows end within block 2
  w.q_len = 600;                       // rows before the first key
  CHECK(s.row_of(w, 0).visible == 0);
  CHECK(s.row_of(w, 1).visible == 1);
  w.causal = false;
  CHECK(s.row_of(w, 0).visible == 3);
  CHECK(s.row_of(w, 0).own_end == 0);
}

TEST_CASE("the first chunk is as long as the published code makes it") {
  antidiagonal const s{.rule = selection_rule::first_chunk};
  auto const published = [&](int q_len, int k_len, int query_block) {
    where w;
    w.q_len = q_len;
    w.k_len = k_len;
    return s.row_of(w, query_block).rule == selection_rule::first_chunk;
  };
  CHECK(published(2100, 2100, 16));  // chunks of 4096
  CHECK(published(16384, 16384, 127));
  CHECK(published(16385, 16385, 63));  // chunks of 8192
  CHECK(!published(16385, 16385, 64));
  CHECK(published(200000, 200000, 15));  // chunks of 2048
  CHECK(!published(200000, 200000, 16));
  CHECK(published(1000, 1128, 3));  // one chunk each
  CHECK(!published(8192, 16400, 0));

  where w;
  w.q_len = w.k_len = (1 << 29) - 1;  // the longest sequence in the longest chunk
  antidiagonal const longest{.rule = selection_rule::first_chunk, .chunk = 1 << 29};
  CHECK(longest.row_of(w, 4000000).rule == selection_rule::first_chunk);
}

TEST_CASE("backends agree on odd shapes") {
  struct odd {
    int q_len, k_len, query_heads, kv_heads, head_dim, block, stride;
    float threshold;
    bool causal;
  };
  for (odd const& c : {odd{300, 300, 4, 2, 32, 128, 16, .8f, true}, odd{1000, 1000, 3, 1, 64, 128, 16, .9f, true},
                       odd{257, 769, 2, 2, 64, 128, 8, .9f, true}, odd{130, 258, 2, 1, 96, 64, 16, .7f, true},
                       odd{200, 264, 2, 2, 32, 128, 64, .9f, true}, odd{384, 352, 2, 1, 32, 64, 32, .9f, true},
                       odd{1, 1, 1, 1, 32, 128, 16, .9f, true}, odd{700, 700, 2, 1, 128, 256, 16, .6f, true},
                       odd{129, 1025, 2, 2, 32, 32, 4, .5f, true}, odd{500, 500, 2, 1, 64, 128, 1, .9f, true},
                       odd{500, 333, 2, 1, 64, 128, 16, .9f, false}, odd{300, 900, 4, 4, 32, 64, 16, .8f, false},
                       odd{150, 150, 1, 1, 32, 128, 128, .99f, true}, odd{3000, 3000, 1, 1, 32, 128, 16, .95f, true}}) {
    CAPTURE(c.q_len);
    CAPTURE(c.k_len);
    CAPTURE(c.block);
    random_heads<float> const q({2, c.q_len, c.query_heads, c.head_dim}, 1, 2.5f, 3);
    random_heads<float> const k({2, c.k_len, c.kv_heads, c.head_dim}, 2, 2.5f, 5, true);
    antidiagonal s{.block = c.block, .stride = c.stride, .threshold = c.threshold};
    compare_backends<float>(s, q.view(), k.view(), {.causal = c.causal, .threads = 3});
    s.rule = selection_rule::first_chunk;
    if (c.causal) compare_backends<float>(s, q.view(), k.view(), {.threads = 1});
  }
}

TEST_CASE_TEMPLATE("16-bit inputs", T, half, bfloat16) {
  random_heads<T> const q({1, 777, 4, 64}, 3, 2, 1), k({1, 777, 2, 64}, 4, 2, 2, true);
  compare_backends<T>({}, q.view(), k.view());
}

TEST_CASE("packed sequences select as they would alone") {
  std::vector<std::int32_t> const starts{0, 300, 300, 301, 901}, key_starts{0, 300, 428, 429, 1285};
  random_heads<float> const q({1, 901, 2, 32}, 5, 2.5f), k({1, 1285, 1, 32}, 6, 2.5f);
  antidiagonal const s{.stride = 8};
  options const packed{.cu_seqlens_q = starts, .cu_seqlens_k = key_starts};
  CHECK(compare_backends<float>(s, q.view(), k.view(), packed) >= 12);
  auto const together = selected_run(cpu{}, s, q.view(), k.view(), packed).lists();
  CHECK(together.size() == 2 * (3 + 0 + 1 + 5));
  for (int i : {0, 2, 3}) {
    auto const part = [&](heads_view<float const> view, std::vector<std::int32_t> const& at) {
      auto const from = static_cast<std::size_t>(i);
      view.data += at[from] * view.strides[1];
      view.extents[1] = at[from + 1] - at[from];
      return view;
    };
    auto const alone = selected_run(cpu{}, s, part(q.view(), starts), part(k.view(), key_starts)).lists();
    for (auto const& [at, list] : alone) CHECK(together.at({i, at[1], at[2]}) == list);
  }
}

TEST_CASE("chunks of query rows select what one go selects") {
  random_heads<float> const q({2, 900, 2, 64}, 7, 2), k({2, 1156, 2, 64}, 8, 2);
  for (int block : {64, 128, 256}) {
    antidiagonal const s{.block = block, .rule = selection_rule::first_chunk, .chunk = 512};
    auto const whole = selected_run(cpu{}, s, q.view(), k.view()).lists();
    selection pieces;
    for (int begin = 0; begin < 900; begin += 384) {
      auto const piece =
          selected_run(cpu{}, s, q.view(), k.view(), {.q_begin = begin, .q_end = std::min(begin + 384, 900)}).lists();
      pieces.insert(piece.begin(), piece.end());
    }
    CHECK(pieces == whole);
  }
}

TEST_CASE("heads that are not routed here get empty lists") {
  random_heads<float> const q({2, 400, 3, 32}, 9, 2), k({2, 400, 1, 32}, 10, 2);
  std::vector<std::int32_t> const routes{0, 1, 0, 1, 1, 0};
  auto const check = [&](auto const& backend) {
    auto const lists = selected_run(backend, antidiagonal{}, q.view(), k.view(), {}, routes, 1).lists();
    for (auto const& [at, list] : lists)
      CHECK(list.empty() == (routes[static_cast<std::size_t>(at[0] * 3 + at[1])] == 0));
  };
  check(reference{});
  check(cpu{});
}

TEST_CASE("attention through the front door agrees with a dense mask made of the lists") {
  random_heads<float> const q({2, 700, 4, 64}, 11, 2), k({2, 828, 2, 64}, 12, 2), v({2, 828, 2, 64}, 13);
  random_heads<float> const out({2, 700, 4, 64}, 14), expected({2, 700, 4, 64}, 15);
  std::vector<std::int32_t> routes{0, 1, 1, 0, 1, 1, 0, 1};
  const_assignment_view const assignment(routes.data(), {2, 4});
  antidiagonal const s{.threshold = .7f};

  auto const lists = selected_run(cpu{}, s, q.view(), k.view()).lists();
  attention const oracle{hybrid{full{}, predicate{dense_mask{&lists, s.block}}}, fixed_router{}, reference{}};
  oracle.forward(q.view(), k.view(), v.view(), expected.mutable_view(), {}, assignment, {});

  auto const check = [&](auto const& backend, options o) {
    attention const attend{hybrid{full{}, s}, fixed_router{}, backend};
    for (int begin = 0; begin < 700; begin += 256) {
      o.q_begin = begin;
      o.q_end = std::min(begin + 256, 700);
      std::vector<std::byte> memory(attend.workspace_bytes(attend.shape(q.view(), k.view(), o)), std::byte{0xff});
      attend.select(q.view(), k.view(), assignment, memory, o);
      attend.forward(q.view(), k.view(), v.view(), out.mutable_view(), {}, assignment, memory, o);
    }
    CHECK(largest_difference(out.view(), expected.view()) < 3e-5);
  };
  check(cpu{}, {.threads = 2});
  check(reference{}, {});

  attention const alone{s, fixed_router{}, cpu{}};
  attention const alone_oracle{predicate{dense_mask{&lists, s.block}}, fixed_router{}, reference{}};
  alone(q.view(), k.view(), v.view(), out.mutable_view());
  alone_oracle(q.view(), k.view(), v.view(), expected.mutable_view());
  CHECK(largest_difference(out.view(), expected.view()) < 3e-5);
}

TEST_CASE("what does not fit is refused") {
  random_heads<float> const q({1, 100, 1, 32}, 16), k({1, 105, 1, 32}, 17);
  problem const p = make_problem<float>(q.view(), q.view());
  auto const refused = [&](antidiagonal const& s, problem const& at) { CHECK_THROWS_AS(s.check(at), error); };
  CHECK_NOTHROW(antidiagonal{}.check(p));
  for (float threshold :
       {0.f, -1.f, 1.01f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    refused({.threshold = threshold}, p);
  refused({.block = 0}, p);
  refused({.block = 96}, p);
  refused({.block = -128}, p);
  refused({.stride = 0}, p);
  refused({.stride = 24}, p);
  refused({.stride = 256}, p);
  refused({.block = 2048, .stride = 2048}, p);
  refused({.rule = static_cast<selection_rule>(9)}, p);
  refused({.chunk = -128}, p);
  refused({.chunk = 100}, p);
  refused({.chunk = (1 << 29) + 128}, p);
  refused({.chunk = std::numeric_limits<int>::max() - 127}, p);
  CHECK_NOTHROW(antidiagonal{.chunk = 1 << 29}.check(p));
  problem both_ways = make_problem<float>(q.view(), k.view(), {.causal = false});
  CHECK_NOTHROW(antidiagonal{}.check(both_ways));
  refused({.rule = selection_rule::first_chunk}, both_ways);
  try {
    antidiagonal{}.check(make_problem<float>(q.view(), k.view()));
    FAIL("not refused");
  } catch (error const& e) {
    CHECK(e.argument() == "antidiagonal: k_len - q_len");
    CHECK(e.given() == "5 in sequence 0");
  }
  std::vector<std::int32_t> const starts{0, 50, 100}, key_starts{0, 55, 105};
  options const packed{.cu_seqlens_q = starts, .cu_seqlens_k = key_starts};
  CHECK_THROWS_AS(selected_run(cpu{}, antidiagonal{}, q.view(), k.view(), packed), error);
  CHECK_THROWS_AS(selected_run(reference{}, antidiagonal{}, q.view(), k.view(), packed), error);
}

TEST_CASE("a block longer than the sequence costs the sequence's memory, not the block's") {
  random_heads<float> const q({1, 160, 2, 32}, 18), k({1, 176, 1, 32}, 19);
  antidiagonal const s{.block = 1 << 20};
  problem const p = make_problem<float>(q.view(), k.view(), {.threads = 2});
  CHECK(scratch_bytes_on(cpu{}, s, p) < 1 << 20);
  CHECK(selected_run(cpu{}, s, q.view(), k.view()).lists() == selected_run(reference{}, s, q.view(), k.view()).lists());
  antidiagonal const folded{.block = 1024, .stride = 1024, .threshold = 0.5f};
  random_heads<float> const more({1, 2208, 1, 32}, 20);  // 160 + 2·1024: three blocks
  CHECK(selected_run(cpu{}, folded, q.view(), more.view()).lists() ==
        selected_run(reference{}, folded, q.view(), more.view()).lists());
}
