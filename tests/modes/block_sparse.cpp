#include <elastic/modes/block_sparse.hpp>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>
#include "support/lists.hpp"

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("lists of key blocks for blocks of query rows, cut by causality and length") {
  hand_lists const lists({{1, 0}, {0}, {2, 0}});
  block_sparse const mode = lists.mode(2, 3);
  CHECK(picture_differs(mode, place(5, 7), {"###....", "####...", "###....", "###....", "###...#"}) == "");
  CHECK(picture_differs(mode, place(5, 7, false), {"######.", "######.", "###....", "###....", "###...#"}) == "");
  CHECK(picture_differs(mode, place(5, 3), {"...", "...", "#..", "##.", "###"}) == "");
}

TEST_CASE("lists may begin with a later block of rows") {
  hand_lists const lists({{0}, {1}});
  block_sparse mode = lists.mode(2, 3);
  mode.first_block = 1;
  where const w = place(6, 6);
  CHECK(mode.keeps(w, 2, 2));
  CHECK(!mode.keeps(w, 3, 3));
  CHECK(mode.keeps(w, 4, 3));
}

TEST_CASE("a kernel's tiles divide the blocks, and none is partial") {
  hand_lists const lists({{2, 0}, {3, 1}});
  block_sparse const mode = lists.mode(64, 32);
  CHECK(fits(mode, {64, 32}));
  CHECK(fits(mode, {16, 16}));
  CHECK(!fits(mode, {128, 32}));
  CHECK(!fits(mode, {64, 64}));
  auto const tiles = tiles_of(mode, place(100, 120), 2, {32, 16});  // rows 64…95 at 84…115: blocks 3 and 1
  REQUIRE(tiles.count == 4);
  int const expected[] = {7, 6, 3, 2};
  for (int i = 0; i < 4; ++i) CHECK(tiles[i].index == expected[i]);
  CHECK(tiles[0].kind == tile_kind::clipped);
  CHECK(tiles[2].kind == tile_kind::full);
  for (tile_shape shape : {tile_shape{64, 32}, {32, 32}, {16, 8}, {1, 16}})
    for (bool causal : {true, false}) CHECK(broken_tightness(mode, place(100, 120, causal), shape) == "");
}

TEST_CASE("check refuses shapes that do not fit") {
  hand_lists const lists({{0}, {1}});
  problem p;
  p.q_len = p.k_len = p.q_end = 200;
  CHECK_NOTHROW(lists.mode(128, 128).check(p));
  auto const refused = [&](block_sparse const& mode, char const* words) {
    CHECK_THROWS_WITH_AS(mode.check(p), doctest::Contains(words), error);
  };
  refused(lists.mode(0, 128), "block_sparse.block_rows: got 0");
  refused(lists.mode(128, -1), "block_sparse.block_columns: got -1");
  refused(lists.mode(64, 128), "block_sparse rows: got 2, expected lists for every block");
  refused({}, "block_sparse: got null lists");
  block_sparse late = lists.mode(128, 128);
  late.first_block = 1;
  refused(late, "lists for every block of the query rows");
  block_sparse wild = lists.mode(128, 128);
  wild.begin.strides[2] = std::int64_t{1} << 62;
  wild.begin.extents[2] = 1 << 20;
  refused(wild, "block_sparse.begin");
  p.query_heads = 2;
  refused(lists.mode(128, 128), "lists for every query head");
  p.query_heads = 1;
  p.batch = 3;
  refused(lists.mode(128, 128), "lists for every sequence");
}

TEST_CASE("lists of no rows, and lists without entries, may have no data") {
  problem p;
  p.q_len = p.k_len = p.q_end = 200;
  std::int64_t const begin[2] = {};
  std::int32_t const count[2] = {};
  block_sparse none;
  none.begin = {begin, {1, 1, 2}};
  none.count = {count, {1, 1, 2}};
  CHECK_NOTHROW(none.check(p));
  CHECK_NOTHROW(none.validate(p));
  none.begin.data = nullptr;
  CHECK_THROWS_WITH_AS(none.check(p), doctest::Contains("null lists"), error);
  none.size = 1;
  p.batch = 0;
  none.begin.extents[0] = none.count.extents[0] = 0;
  CHECK_THROWS_WITH_AS(none.check(p), doctest::Contains("null lists"), error);
  none.size = 0;
  CHECK_NOTHROW(none.check(p));
  p.batch = 1;
  p.q_end = 0;
  none.begin = {nullptr, {1, 1, 0}};
  none.count = {nullptr, {1, 1, 0}};
  CHECK_NOTHROW(none.check(p));
}

TEST_CASE("validate reads every list") {
  problem p;
  p.q_len = p.k_len = p.q_end = 200;
  auto const refused = [&](std::vector<std::int32_t> row, char const* words) {
    hand_lists const lists({{0}, std::move(row)});
    CHECK_THROWS_WITH_AS(lists.mode(128, 128).validate(p), doctest::Contains(words), error);
  };
  for (hand_lists const& fine : {hand_lists({{0}, {1, 0}}), hand_lists({{}, {}})})
    CHECK_NOTHROW(fine.mode(128, 128).validate(p));
  refused({0, 1}, "block_sparse.entries: got 1, expected existing key blocks in descending order");
  refused({1, 1}, "block_sparse.entries: got 1");
  refused({2}, "block_sparse.entries: got 2");
  refused({-1}, "block_sparse.entries: got -1");
  refused({1, 0, 0}, "block_sparse.count: got 3");

  hand_lists const lists({{1, 0}, {1, 0}});
  block_sparse short_of = lists.mode(128, 128);
  short_of.size = 3;
  CHECK_THROWS_WITH_AS(short_of.validate(p), doctest::Contains("block_sparse.begin: got 2"), error);
  std::int64_t const begins[] = {0, -1};
  block_sparse before = lists.mode(128, 128);
  before.begin.data = begins;
  CHECK_THROWS_WITH_AS(before.validate(p), doctest::Contains("block_sparse.begin: got -1"), error);
  std::int32_t const counts[] = {1, -1};
  block_sparse negative = lists.mode(128, 128);
  negative.count.data = counts;
  CHECK_THROWS_WITH_AS(negative.validate(p), doctest::Contains("block_sparse.count: got -1"), error);
}

TEST_CASE("blocks of any size an int can add up, and no negative number of entries") {
  hand_lists const lists(std::vector<std::vector<std::int32_t>>{{0}});
  problem p;
  p.q_len = p.k_len = p.q_end = 160;
  constexpr int most = 1 << 29;
  block_sparse const whole = lists.mode(most, most);
  CHECK_NOTHROW(whole.check(p));
  CHECK_NOTHROW(whole.validate(p));
  for (int const bad : {most + 1, std::numeric_limits<int>::max()}) {
    CHECK_THROWS_WITH_AS(lists.mode(bad, 128).check(p), doctest::Contains("block_sparse.block_rows"), error);
    CHECK_THROWS_WITH_AS(lists.mode(128, bad).check(p), doctest::Contains("block_sparse.block_columns"), error);
  }
  block_sparse negative = whole;
  negative.size = std::numeric_limits<std::int64_t>::min();
  CHECK_THROWS_WITH_AS(negative.check(p), doctest::Contains("block_sparse.size"), error);
}
