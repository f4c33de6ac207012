#include <elastic/modes/sliding_window.hpp>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("a window of 3 holds the query and the two keys before it") {
  CHECK(picture_differs(sliding_window{3}, place(5, 7), {"###....", ".###...", "..###..", "...###.", "....###"}) == "");
  CHECK(picture_differs(sliding_window{3}, place(5, 3), {"...", "...", "#..", "##.", "###"}) == "");
}

TEST_CASE("a window of 1 is the diagonal") {
  CHECK(picture_differs(sliding_window{1}, place(4, 5), {".#...", "..#..", "...#.", "....#"}) == "");
  CHECK(picture_differs(sliding_window{1}, place(4, 5, false), {".#...", "..#..", "...#.", "....#"}) == "");
}

TEST_CASE("bidirectional, the window reaches as far to the right") {
  CHECK(picture_differs(sliding_window{2}, place(5, 7, false),
                        {".###...", "..###..", "...###.", "....###", ".....##"}) == "");
}

TEST_CASE("tiles inside the window are not asked, its edge is") {
  auto const tiles = tiles_of(sliding_window{64}, place(128, 128), 7, {16, 16});  // rows 112…127
  REQUIRE(tiles.count == 5);                                                      // keys 49 to 127
  CHECK(tiles[0].kind == tile_kind::clipped);
  CHECK(tiles[1].kind == tile_kind::full);
  CHECK(tiles[3].kind == tile_kind::full);
  CHECK(tiles[4].kind == tile_kind::partial);
  CHECK(tiles[4].index == 3);
}

TEST_CASE("sliding_window refuses an empty and an endless window") {
  problem const p;
  CHECK_NOTHROW(sliding_window{1}.check(p));
  CHECK_THROWS_WITH_AS(sliding_window{0}.check(p), doctest::Contains("sliding_window.window: got 0, expected 1 to"),
                       error);
  CHECK_THROWS_AS(sliding_window{-5}.check(p), error);
  CHECK_THROWS_AS(sliding_window{(1 << 29) + 1}.check(p), error);
}
