#include <elastic/modes/combine.hpp>

#include <doctest/doctest.h>

#include <elastic/modes/block_sparse.hpp>
#include <elastic/modes/full.hpp>
#include <elastic/modes/predicate.hpp>
#include <elastic/modes/sliding_window.hpp>
#include <elastic/modes/streaming.hpp>

#include <elastic/testing/laws.hpp>
#include "support/lists.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {
constexpr streaming by_token(int sink, int local) { return {sink, local, granularity::token}; }
}  // namespace

TEST_CASE("an intersection keeps what both keep") {
  intersection_of<sliding_window, streaming> const mode{{3}, by_token(1, 2)};
  CHECK(picture_differs(mode, place(5, 7), {"###....", "..##...", "...##..", "....##.", ".....##"}) == "");
}

TEST_CASE("a union keeps what either keeps") {
  union_of<streaming, sliding_window> const mode{by_token(2, 1), {2}};
  CHECK(picture_differs(mode, place(5, 7), {"###....", "####...", "##.##..", "##..##.", "##...##"}) == "");
}

TEST_CASE("span modes combine into span modes, others ask every tile in bounds") {
  static_assert(span_mode<intersection_of<sliding_window, streaming>>);
  static_assert(span_mode<union_of<union_of<full, sliding_window>, streaming>>);
  static_assert(!span_mode<intersection_of<block_sparse, streaming>> &&
                !list_mode<intersection_of<block_sparse, streaming>>);
  static_assert(attention_mode<union_of<block_sparse, full>>);
}

TEST_CASE("what both see whole is not asked") {
  intersection_of<full, sliding_window> const mode{{}, {64}};
  auto const tiles = tiles_of(mode, place(128, 128), 7, {16, 16});
  auto const alone = tiles_of(sliding_window{64}, place(128, 128), 7, {16, 16});
  REQUIRE(tiles.count == alone.count);
  for (int i = 0; i < tiles.count; ++i) {
    CHECK(tiles[i].index == alone[i].index);
    CHECK(tiles[i].kind == alone[i].kind);
  }
}

TEST_CASE("a union with full is full, an intersection with an empty mode visits nothing") {
  where const w = place(200, 300);
  union_of<streaming, full> const all{by_token(4, 4), {}};
  auto const tiles = tiles_of(all, w, 0, {64, 64});
  for (int i = 0; i < tiles.count; ++i) CHECK(tiles[i].kind != tile_kind::partial);
  intersection_of<full, streaming> const none{{}, by_token(0, 0)};
  for (int q_tile = 0; q_tile < 4; ++q_tile) CHECK(tiles_of(none, w, q_tile, {64, 64}).count == 0);
}

TEST_CASE("a list inside a combination") {
  hand_lists const lists({{1, 0}, {0}, {2, 0}});
  intersection_of<block_sparse, sliding_window> const mode{lists.mode(2, 3), {2}};
  CHECK(picture_differs(mode, place(5, 7), {".##....", "..##...", ".......", ".......", "......#"}) == "");
  CHECK(broken_law(mode, place(5, 7), {16, 16}) == "");
}

TEST_CASE("a combination checks its parts") {
  CHECK_THROWS_WITH_AS((union_of<full, sliding_window>{{}, {0}}.check({})), doctest::Contains("sliding_window.window"),
                       error);
  CHECK_THROWS_AS((intersection_of<sliding_window, full>{{-1}, {}}.check({})), error);
}

TEST_CASE("more spans than 32, and than the 64 that are walked") {
  using twenty = intersection_of<streaming, streaming>;
  using many = union_of<twenty, full>;
  static_assert(span_mode<many> && tiles_t<many>::spans_max > 32);
  twenty const both{by_token(3, 40), by_token(20, 50)};
  for (tile_shape const shape : {tile_shape{16, 16}, {32, 64}})
    CHECK(broken_law(many{both, {}}, place(100, 150), shape) == "");
  // The last of the spans is partial.
  span_array<42> spans;
  for (span& s : spans.items) s = {0, 0, coverage::full};
  spans[41] = {0, 1, coverage::partial};
  CHECK(span_tiles<42>(spans, bounds(place(16, 16), 0, {16, 16}))[0].kind == tile_kind::partial);
  spans[41].cover = coverage::full;
  spans[9] = {1, 1, coverage::partial};  // 41 − 32
  CHECK(span_tiles<42>(spans, bounds(place(16, 16), 0, {16, 16}))[0].kind != tile_kind::partial);

  using more = union_of<twenty, twenty>;
  static_assert(!span_mode<more> && attention_mode<more>);
  CHECK(broken_law(more{both, both}, place(100, 150), {16, 16}) == "");
}
