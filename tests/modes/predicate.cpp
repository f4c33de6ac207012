#include <elastic/modes/predicate.hpp>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("any callable is a mode") {
  predicate const checkers{[](where const&, int q, int k) { return q % 2 == k % 2; }};
  static_assert(attention_mode<decltype(checkers)> && !span_mode<decltype(checkers)>);
  CHECK(picture_differs(checkers, place(5, 7), {"#.#....", ".#.#...", "#.#.#..", ".#.#.#.", "#.#.#.#"}) == "");
  CHECK(picture_differs(checkers, place(2, 4, false), {"#.#.", ".#.#"}) == "");
}

TEST_CASE("a predicate sees which head and sequence it is asked about") {
  predicate const second{[](where const& w, int, int) { return w.query_head == 1 && w.batch == 2; }};
  where w = place(1, 2);
  CHECK(picture_differs(second, w, {".."}) == "");
  w.query_head = 1;
  w.batch = 2;
  CHECK(picture_differs(second, w, {"##"}) == "");
}

TEST_CASE("every tile in bounds is visited as partial") {
  predicate const nothing{[](where const&, int, int) { return false; }};
  auto const tiles = tiles_of(nothing, place(32, 64), 0, {16, 16});  // positions 32…47
  REQUIRE(tiles.count == 3);
  for (int i = 0; i < 3; ++i) {
    CHECK(tiles[i].index == 2 - i);
    CHECK(tiles[i].kind == tile_kind::partial);
  }
}
