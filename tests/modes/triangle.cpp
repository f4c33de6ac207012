#include <elastic/modes/triangle.hpp>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("the last rows are dense, the others stream") {
  where w = place(5, 7);
  w.layer = 16;
  CHECK(picture_differs(triangle{1, 2, 2, 16}, w, {"###....", "#.##...", "#..##..", "######.", "#######"}) == "");
  CHECK(picture_differs(triangle{1, 2, 0, 16}, w, {"###....", "#.##...", "#..##..", "#...##.", "#....##"}) == "");
  CHECK(picture_differs(triangle{0, 1, 9, 16}, w, {"###....", "####...", "#####..", "######.", "#######"}) == "");
}

TEST_CASE("layers below the threshold are full") {
  where w = place(5, 7);
  w.layer = 15;
  CHECK(picture_differs(triangle{1, 2, 2, 16}, w, {"###....", "####...", "#####..", "######.", "#######"}) == "");
}

TEST_CASE("triangle refuses attention without causality and negative sizes") {
  problem p;
  CHECK_NOTHROW(triangle{}.check(p));
  CHECK_THROWS_WITH_AS((triangle{-1, 2, 2, 0}.check(p)), doctest::Contains("triangle.sink: got -1"), error);
  CHECK_THROWS_WITH_AS((triangle{1, -2, 2, 0}.check(p)), doctest::Contains("triangle.local: got -2"), error);
  CHECK_THROWS_WITH_AS((triangle{1, 2, -2, 0}.check(p)), doctest::Contains("triangle.last: got -2"), error);
  CHECK_THROWS_WITH_AS((triangle{1, 2, 2, -1}.check(p)), doctest::Contains("triangle.layer_threshold: got -1"), error);
  p.causal = false;
  CHECK_THROWS_WITH_AS(triangle{}.check(p), doctest::Contains("triangle: got attention without causality"), error);
}
