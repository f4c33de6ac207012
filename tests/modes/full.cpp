#include <elastic/modes/full.hpp>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("full, causal: the last query sees the last key") {
  CHECK(picture_differs(full{}, place(5, 7), {"###....", "####...", "#####..", "######.", "#######"}) == "");
}

TEST_CASE("full, causal, more queries than keys: the first rows see nothing") {
  CHECK(picture_differs(full{}, place(7, 5), {".....", ".....", "#....", "##...", "###..", "####.", "#####"}) == "");
}

TEST_CASE("full, bidirectional: every pair") {
  CHECK(picture_differs(full{}, place(3, 5, false), {"#####", "#####", "#####"}) == "");
}

TEST_CASE("full asks for nothing dearer than a clipped tile, and for it only on the diagonal and at the end") {
  auto const tiles = tiles_of(full{}, place(40, 100), 0, {16, 16});  // rows 0…15 see keys up to 60…75
  REQUIRE(tiles.count == 5);
  CHECK(tiles[0].index == 4);
  CHECK(tiles[0].kind == tile_kind::clipped);
  CHECK(tiles[1].kind == tile_kind::clipped);
  for (int i = 2; i < 5; ++i) CHECK(tiles[i].kind == tile_kind::full);

  auto const all = tiles_of(full{}, place(40, 100, false), 2, {16, 16});
  REQUIRE(all.count == 7);
  CHECK(all[0].kind == tile_kind::clipped);
  CHECK(all[1].kind == tile_kind::full);
}
