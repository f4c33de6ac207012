// A mode behind a list: its tiles are the list's, its pairs, scores and sink logits the inner mode's.
#include <elastic/modes/listed.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <elastic/modes/modes.hpp>
#include <elastic/testing/laws.hpp>

using namespace elastic;
using elastic::testing::broken_law;

namespace {

/// Two query blocks of 128 rows against three of 128 keys, one head; Δ = 128 + 20.
where some_head() {
  where w;
  w.q_len = 200;
  w.k_len = 348;
  return w;
}

struct lists_of_two {
  std::vector<std::int32_t> entries;
  std::vector<std::int64_t> begin;
  std::vector<std::int32_t> count;
  block_sparse view() const {
    block_sparse lists{.entries = entries.data(), .size = static_cast<std::int64_t>(entries.size())};
    lists.begin = {begin.data(), {1, 1, 2}};
    lists.count = {count.data(), {1, 1, 2}};
    return lists;
  }
};

problem problem_of(where const& w) {
  problem p;
  p.q_len = p.q_end = w.q_len;
  p.k_len = w.k_len;
  p.head_dim = 32;
  return p;
}

}  // namespace

TEST_CASE("tiles are the list's, partial where it says so") {
  where const w = some_head();
  // A window of 140 keys: rows 0 … 127 have positions 148 … 275, rows 128 … 199 positions 276 … 347.
  lists_of_two const lists{{~2, ~1, ~0, ~2, ~1}, {0, 3}, {3, 2}};
  listed<sliding_window> const mode{sliding_window{140}, lists.view()};
  mode.validate(problem_of(w));
  for (tile_shape const shape : {tile_shape{128, 128}, {64, 64}, {128, 32}, {16, 128}})
    CHECK(broken_law(mode, w, shape) == "");

  auto const tiles = tiles_of(mode, w, 0, {128, 64});
  CHECK(tiles.count == 5);  // the last of six lies in the future of every row
  CHECK(tiles[0].index == 4);
  CHECK(tiles[0].kind == tile_kind::partial);
}

TEST_CASE("blocks that are not partial are full or clipped") {
  where const w = some_head();
  lists_of_two const lists{{2, 1, 0}, {0, 0}, {3, 3}};
  listed<full> const mode{full{}, lists.view()};
  CHECK(broken_law(mode, w, {128, 128}) == "");
  auto const tiles = tiles_of(mode, w, 0, {128, 128});
  REQUIRE(tiles.count == 3);
  CHECK(tiles[0].kind == tile_kind::clipped);
  CHECK(tiles[2].kind == tile_kind::full);
}

TEST_CASE("a list that leaves out kept pairs, or calls a partial block full, breaks a law") {
  where const w = some_head();
  lists_of_two const lacking{{~2, ~1, ~2, ~1}, {0, 2}, {2, 2}};
  CHECK(broken_law(listed<sliding_window>{{140}, lacking.view()}, w, {128, 128}) != "");
  lists_of_two const boasting{{~2, 1, ~0, ~2, ~1}, {0, 3}, {3, 2}};
  CHECK(broken_law(listed<sliding_window>{{140}, boasting.view()}, w, {128, 128}) != "");
}

TEST_CASE("lists are read before they are trusted") {
  problem const p = problem_of(some_head());
  auto const refused = [&](std::vector<std::int32_t> entries) {
    lists_of_two const lists{std::move(entries), {0, 1}, {1, 2}};
    CHECK_THROWS_AS((listed<full>{full{}, lists.view()}.validate(p)), error);
  };
  refused({0, 1, ~1});  // twice the same
  refused({0, ~0, 1});  // ascending
  refused({3, 2, 1});   // there is no block 3
  refused({~3, 2, 1});
  refused({0, 1});  // a list past the entries
}

TEST_CASE("score and sink logit are the inner mode's, and absent where it has none") {
  where w = some_head();
  float const sinks[] = {1.25f};
  using inner = sink_logits<scored<full, alibi>>;
  listed<inner> const mode{inner{{full{}, alibi{}}, sinks}, {}};
  static_assert(scoring_mode<listed<inner>> && sink_logit_mode<listed<inner>>);
  static_assert(!scoring_mode<listed<full>> && !sink_logit_mode<listed<full>>);
  CHECK(mode.sink_logit(w) == 1.25f);
  CHECK(mode.score(w, 2., 10, 3) == doctest::Approx(2 - std::exp2(-8.) * (10 + 148 - 3)));
}
