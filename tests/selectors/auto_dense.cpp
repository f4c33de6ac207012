// Selectors that fall back to full attention: both decisions against break-even worked out by hand, what they report,
// and attention that is full's where dense and the selector's where not.
#include <elastic/selectors/auto_dense.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <support/selection.hpp>

using namespace elastic;
using elastic::testing::random_heads;
using elastic::testing::selected_run;

namespace {

constexpr int length = 256, heads = 3, blocks = 4;  // of 64: full attention visits 1 + 2 + 3 + 4 tiles

struct tensors {
  random_heads<float> q{{1, length, heads, 32}, 1}, k{{1, length, 1, 32}, 2}, v{{1, length, 1, 32}, 3};
};

/// Of the 10 tiles that full attention visits head 0 lists 9, head 1 lists 8, and head 2 its diagonal, 4.
block_mask three_masks() {
  static std::vector<std::uint8_t> const bits = [] {
    std::vector<std::uint8_t> made(heads * blocks * blocks, 1);
    made[3 * 4 + 0] = 0;
    made[16 + 3 * 4 + 0] = made[16 + 3 * 4 + 1] = 0;
    for (int i = 0; i < blocks; ++i)
      for (int j = 0; j < i; ++j) made[static_cast<std::size_t>(32 + 4 * i + j)] = 0;
    return made;
  }();
  return {{bits.data(), {1, heads, blocks, blocks}}, 64, 64};
}

constexpr cost_model quarter_more{.listed = 1.25f};  // 8 of 10 tiles: break-even

struct result {
  std::vector<float> out = std::vector<float>(length * heads * 32);
  std::vector<float> lse = std::vector<float>(length * heads);
  std::vector<std::byte> memory;

  heads_view<float> view() { return {out.data(), {1, length, heads, 32}}; }
  lse_view lse_rows() { return {lse.data(), {1, heads, length}}; }
};

/// Step by step, in memory that is poisoned first, so that `memory` holds what select left.
template <class Attention>
result run(Attention const& attend, tensors const& x, std::vector<std::int32_t> routes = {}, options const& o = {}) {
  routes.resize(heads);
  const_assignment_view const assignment(routes.data(), {1, heads});
  result r;
  r.memory.assign(attend.workspace_bytes(attend.shape(x.q.view(), x.k.view(), o)), std::byte{0xff});
  attend.select(x.q.view(), x.k.view(), assignment, r.memory, o);
  attend.validate(x.q.view(), x.k.view(), assignment, r.memory, o);
  attend.forward(x.q.view(), x.k.view(), x.v.view(), r.view(), r.lse_rows(), assignment, r.memory, o);
  return r;
}

double head_difference(result const& a, result const& b, int head) {
  double worst = 0;
  for (int i = 0; i < length; ++i)
    for (int d = 0; d < 32; ++d) {
      auto const at = static_cast<std::size_t>((i * heads + head) * 32 + d);
      double const difference = std::abs(double(a.out[at]) - double(b.out[at]));
      worst = difference <= worst ? worst : difference;
    }
  return worst;
}

bool same_bits(result const& a, result const& b) {
  return std::memcmp(a.out.data(), b.out.data(), a.out.size() * 4) == 0 &&
         std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * 4) == 0;
}

template <class Backend>
std::vector<std::int32_t> flags_on(Backend const& backend, auto const& mode, tensors const& x, options const& o = {},
                                   std::vector<std::int32_t> routes = {}, int route = every_route) {
  auto const chosen = selected_run(backend, mode, x.q.view(), x.k.view(), o, routes, route);
  auto const flags = chosen.mode().flags;
  REQUIRE(flags.size() == heads);
  return {flags.data, flags.data + heads};
}

}  // namespace

TEST_CASE("after selection each head goes where it is cheaper, and the flags say where") {
  tensors const x;
  auto_dense const mode{three_masks(), quarter_more};
  CHECK(flags_on(cpu{}, mode, x) == std::vector<std::int32_t>{1, 0, 0});
  CHECK(flags_on(reference{}, mode, x) == std::vector<std::int32_t>{1, 0, 0});
  CHECK(flags_on(cpu{}, auto_dense{three_masks(), {.listed = 1.26f}}, x) == std::vector<std::int32_t>{1, 1, 0});
  CHECK(flags_on(cpu{}, auto_dense{three_masks(), {.listed = 2.49f}}, x) == std::vector<std::int32_t>{1, 1, 0});
  CHECK(flags_on(cpu{}, auto_dense{three_masks(), {.listed = 2.51f}}, x) == std::vector<std::int32_t>{1, 1, 1});
  CHECK(flags_on(cpu{}, auto_dense{three_masks(), {.listed = 1.f}}, x) == std::vector<std::int32_t>{0, 0, 0});
  CHECK(flags_on(cpu{}, auto_dense{three_masks(), {.attend_row = 33, .listed = 1.f}}, x) ==
        std::vector<std::int32_t>{1, 1, 0});  // four lists: 4 · 33 / 64 tiles more
}

TEST_CASE("attention is that of full in the heads that went dense, and the selector's in the others") {
  tensors const x;
  auto const check = [&](auto const& backend) {
    auto const dense = run(attention{full{}, fixed_router{}, backend}, x);
    auto const sparse = run(attention{three_masks(), fixed_router{}, backend}, x);
    auto const chosen = run(attention{auto_dense{three_masks(), quarter_more}, fixed_router{}, backend}, x);
    CHECK(head_difference(dense, sparse, 0) > 1e-3);
    CHECK(head_difference(chosen, dense, 0) < 1e-6);
    CHECK(head_difference(chosen, sparse, 1) == 0);
    CHECK(head_difference(chosen, sparse, 2) == 0);
  };
  check(cpu{});
  check(reference{});
}

TEST_CASE("before selection the shape and the density decide, and where dense nothing is selected") {
  tensors const x;
  // 32896 pairs and 256 rows a head: 0.25 + 12.85 · 256 / 32896 + 1.25 · x = 1 where x = 0.52.
  cost_model const costs{.select = .25f, .select_row = 12.85f, .listed = 1.25f};
  problem const p = make_problem<float>(x.q.view(), x.k.view());
  CHECK(auto_dense{three_masks(), costs}.break_even(p) == doctest::Approx(.52));
  auto_dense const sparse{three_masks(), costs, .51f}, dense{three_masks(), costs, .53f};
  CHECK(!sparse.goes_dense(p));
  CHECK(dense.goes_dense(p));
  CHECK(!auto_dense{three_masks(), costs}.goes_dense(p));  // no density: the decision comes after selection
  problem chunk = p;
  chunk.q_begin = 128;
  CHECK(dense.goes_dense(chunk));

  attention const attend{dense};
  CHECK(attend.workspace_bytes(p) == 0);
  CHECK(same_bits(run(attend, x), run(attention{full{}}, x)));
  CHECK(same_bits(run(attention{dense, fixed_router{}, reference{}}, x),
                  run(attention{full{}, fixed_router{}, reference{}}, x)));
  CHECK(attend.selected_in(p, {}).is_dense(locate(p, 0, 2, 0)));

  // Where it says sparse, no head decides again: the first one would go dense.
  attention const by_selection{sparse};
  CHECK(same_bits(run(by_selection, x), run(attention{three_masks()}, x)));
  CHECK(by_selection.workspace_bytes(p) == attention{three_masks()}.workspace_bytes(p));
  auto const by_head = run(attention{auto_dense{three_masks(), quarter_more}}, x);
  auto const by_density = run(attention{auto_dense{three_masks(), quarter_more, 0.f}}, x);
  CHECK(head_difference(by_head, by_density, 0) > 1e-3);
  CHECK(head_difference(by_head, by_density, 1) == 0);
}

TEST_CASE("without a density the shape decides where selection by itself is dearer than full attention") {
  tensors const x;
  problem const p = make_problem<float>(x.q.view(), x.k.view());
  // 256 rows and 32896 pairs a head: selection costs as much as full attention at 128.5 a row.
  auto const at = [](float select_row) {
    return auto_dense{three_masks(), {.select_row = select_row, .listed = 1.25f}};
  };
  CHECK(!at(128).goes_dense(p));
  CHECK(at(129).goes_dense(p));
  CHECK(at(129).break_even(p) < 0);
  CHECK(flags_on(cpu{}, at(128), x) == std::vector<std::int32_t>{1, 0, 0});

  attention const attend{at(129)};
  CHECK(attend.workspace_bytes(p) == 0);
  CHECK(same_bits(run(attend, x), run(attention{full{}}, x)));
  for (int h = 0; h < heads; ++h) CHECK(attend.selected_in(p, {}).is_dense(locate(p, 0, h, 0)));
}

TEST_CASE("the density counts as pairs where keeps is asked too") {
  tensors const x;
  problem const p = make_problem<float>(x.q.view(), x.k.view());
  cost_model const costs{.listed = 1, .partial = 4};
  CHECK(auto_dense{moba{}, costs}.break_even(p) == .25);
  CHECK(auto_dense{three_masks(), costs}.break_even(p) == 1);

  // Of four blocks every query sees its own and one more: block 0 whole; of the others some rows see some.
  moba const s{.block = 64, .k = 2};
  auto const alone = selected_run(cpu{}, s, x.q.view(), x.k.view());
  moba_selected const lists = alone.mode();
  for (float const partial : {1e-6f, .75f, 1.f, 1.5f, 100.f}) {
    std::vector<std::int32_t> expected;
    for (int h = 0; h < heads; ++h) {
      double by_lists = 0;
      for (int i = 0; i < 2; ++i)
        for (int e = 0; e < lists.lists.row(locate(p, 0, h, 0), i).count; ++e)
          by_lists += lists.lists.row(locate(p, 0, h, 0), i).entries[e] < 0 ? partial : 1;
      expected.push_back(by_lists > 2 + 4);
    }
    CHECK(flags_on(cpu{}, auto_dense{s, {.listed = 1, .partial = partial}}, x) == expected);
    CHECK(flags_on(reference{}, auto_dense{s, {.listed = 1, .partial = partial}}, x) == expected);
    if (partial > 50) CHECK(expected == std::vector<std::int32_t>{1, 1, 1});
    if (partial < .5f) CHECK(expected == std::vector<std::int32_t>{0, 0, 0});
  }
}

TEST_CASE("a branch of a hybrid falls back alone, under any router, and reports for the heads that came to it") {
  tensors const x;
  auto_dense const branch{three_masks(), quarter_more};
  CHECK(flags_on(cpu{}, branch, x, {}, {1, 1, 0}, 1) == std::vector<std::int32_t>{1, 0, 0});
  CHECK(flags_on(reference{}, branch, x, {}, {0, 1, 1}, 1) == std::vector<std::int32_t>{0, 0, 0});

  attention const attend{hybrid{streaming{1, 8, granularity::token}, branch}};
  auto const chosen = run(attend, x, {1, 1, 0});
  auto const sparse = run(attention{hybrid{streaming{1, 8, granularity::token}, three_masks()}}, x, {1, 1, 0});
  CHECK(head_difference(chosen, run(attention{full{}}, x), 0) < 1e-6);
  CHECK(head_difference(chosen, sparse, 1) == 0);
  CHECK(head_difference(chosen, sparse, 2) == 0);
  std::vector<std::byte> memory = chosen.memory;
  problem const p = attend.shape(x.q.view(), x.k.view());
  std::int32_t const routes[] = {1, 1, 0};
  attend.select(x.q.view(), x.k.view(), const_assignment_view(routes, {1, heads}), memory);
  auto const report = part<1>(attend.selected_in(p, memory));
  for (int h = 0; h < heads; ++h) CHECK(report.is_dense(locate(p, 0, h, 1)) == (h == 0));
  CHECK(!part<1>(attend.mode()).goes_dense(p));
  CHECK(part<0>(attend.mode()).local == 8);

  auto_dense const first{three_masks(), quarter_more, 1.f};
  CHECK(first.goes_dense(p));
  result one_call;
  for (double const share : {0., .5, 1.})
    attention{hybrid{first, streaming{}}, ratio_router{share}}(x.q.view(), x.k.view(), x.v.view(), one_call.view());
  attention{hybrid{first, streaming{}}, oracle_router{}}(x.q.view(), x.k.view(), x.v.view(), one_call.view());

  // Through more than one composition, and where the decision comes before selection.
  float const logits[heads] = {};
  attention const nested{sink_logits{hybrid{full{}, scored{first, soft_cap{}}}, logits}};
  CHECK(part<0>(part<1>(part<0>(nested.mode()))).goes_dense(p));
  memory.resize(nested.workspace_bytes(p));
  CHECK(part<0>(part<1>(part<0>(nested.selected_in(p, memory)))).is_dense(locate(p, 0, 2, 1)));
}

TEST_CASE("packed sequences and chunks of rows") {
  std::vector<std::int32_t> const starts{0, 200, 200, 256};
  tensors const x;
  options o{.cu_seqlens_q = starts, .cu_seqlens_k = starts};
  auto_dense const mode{pooled_top_k{.block_rows = 16, .block_columns = 16, .k = 4}, quarter_more};
  auto const flags_of = [&](auto const& backend) {
    auto const chosen = selected_run(backend, mode, x.q.view(), x.k.view(), o);
    auto const flags = chosen.mode().flags;
    return std::vector<std::int32_t>(flags.data, flags.data + flags.size());
  };
  // 200 keys are 13 blocks: 46 of 91 tiles are listed; 56 keys are 4: all of 10. No keys: nothing to gain.
  std::vector<std::int32_t> const expected{0, 0, 0, 0, 0, 0, 1, 1, 1};
  CHECK(flags_of(cpu{}) == expected);
  CHECK(flags_of(reference{}) == expected);

  o = {.q_begin = 128, .q_end = 256};  // the lists of this chunk: 8 · 4 of 9 + … + 16 tiles
  CHECK(flags_of(cpu{}) == std::vector<std::int32_t>{0, 0, 0});
  o = {.q_begin = 0, .q_end = 128};  // 1 + 2 + 3 + 5 · 4 = 26 of 36
  CHECK(flags_of(cpu{}) == std::vector<std::int32_t>{0, 0, 0});
  auto_dense const dearer{mode.inner, {.listed = 1.4f}};
  CHECK(flags_on(cpu{}, dearer, x, o) == std::vector<std::int32_t>{1, 1, 1});
  CHECK(flags_on(cpu{}, dearer, x) == std::vector<std::int32_t>{0, 0, 0});
}

TEST_CASE("decode is the selector's own") {
  static_assert(std::is_same_v<decltype(decode_mode(auto_dense<antidiagonal>{})), full>);
  static_assert(std::is_same_v<decltype(decode_mode(auto_dense<planned<sliding_window>>{})), sliding_window>);
  using biased = scored<sliding_window, alibi>;
  static_assert(std::is_same_v<decltype(decode_mode(auto_dense<planned<biased>>{})), biased>);
  static_assert(scoring_mode<decltype(dense_mode(auto_dense<planned<biased>>{}))>);
}

TEST_CASE("what does not fit is refused") {
  tensors const x;
  auto const shape = [&](auto const& mode) { return attention{hybrid{full{}, mode}}.shape(x.q.view(), x.k.view()); };
  CHECK_NOTHROW(shape(auto_dense{three_masks(), quarter_more}));
  CHECK_NOTHROW(shape(auto_dense{three_masks(), quarter_more, 0.f}));
  CHECK_NOTHROW(shape(auto_dense{three_masks(), quarter_more, 1.f}));
  for (float const bad : {-.1f, 1.1f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    CHECK_THROWS_WITH_AS(shape(auto_dense{three_masks(), quarter_more, bad}), doctest::Contains("auto_dense.density"),
                         error);
  CHECK_THROWS_WITH_AS(shape(auto_dense{three_masks()}), doctest::Contains("auto_dense.costs"), error);
  CHECK_THROWS_WITH_AS(shape(auto_dense{moba{}, quarter_more}), doctest::Contains("auto_dense.costs"), error);
  CHECK_THROWS_WITH_AS(shape(auto_dense{block_mask{}, quarter_more}), doctest::Contains("block_mask.mask"), error);
}
