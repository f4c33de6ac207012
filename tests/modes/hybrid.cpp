#include <elastic/modes/hybrid.hpp>

#include <doctest/doctest.h>

#include <elastic/modes/block_sparse.hpp>
#include <elastic/modes/full.hpp>
#include <elastic/modes/scored.hpp>
#include <elastic/modes/sink_logits.hpp>
#include <elastic/modes/sliding_window.hpp>
#include <elastic/modes/streaming.hpp>

#include <elastic/testing/laws.hpp>
#include "support/lists.hpp"

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("the route chooses the mode") {
  hybrid<full, sliding_window, streaming> const mode{{}, {2}, {1, 1, granularity::token}};
  CHECK(picture_differs(mode, place(3, 5, true, 0), {"###..", "####.", "#####"}) == "");
  CHECK(picture_differs(mode, place(3, 5, true, 1), {".##..", "..##.", "...##"}) == "");
  CHECK(picture_differs(mode, place(3, 5, true, 2), {"#.#..", "#..#.", "#...#"}) == "");
  CHECK(routes<hybrid<full, sliding_window, streaming>> == 3);
}

TEST_CASE("every route has the tiles of its mode alone") {
  hand_lists const lists({{2, 0}, {3, 1}});
  hybrid<full, block_sparse, sliding_window> const mode{{}, lists.mode(64, 32), {20}};
  auto const same = [&](auto const& alone, int route) {
    for (int q_tile = 0; q_tile < 2; ++q_tile) {
      auto const expected = tiles_of(alone, place(100, 120), q_tile, {64, 32});
      auto const tiles = tiles_of(mode, place(100, 120, true, route), q_tile, {64, 32});
      REQUIRE(tiles.count == expected.count);
      for (int i = 0; i < tiles.count; ++i) {
        CHECK(tiles[i].index == expected[i].index);
        CHECK(tiles[i].kind == expected[i].kind);
      }
    }
  };
  same(full{}, 0);
  same(lists.mode(64, 32), 1);
  same(sliding_window{20}, 2);
}

TEST_CASE("tiles of span modes merge into one small object; a list among them makes it mixed") {
  static_assert(std::is_same_v<tiles_t<hybrid<full, streaming>>, span_tiles<5>>);
  static_assert(std::is_same_v<tiles_t<hybrid<full, full>>, span_tiles<1>>);
  static_assert(std::is_same_v<tiles_t<hybrid<full, block_sparse>>, mixed_tiles<1>>);
  static_assert(std::is_trivially_copyable_v<tiles_t<hybrid<streaming, block_sparse>>>);
  static_assert(!has_partial_of<hybrid<full, block_sparse>> && has_partial_of<hybrid<full, streaming>>);
}

TEST_CASE("the largest tile fits every list") {
  hand_lists const lists({{0}, {0}});
  hybrid<full, block_sparse, block_sparse> const mode{{}, lists.mode(64, 96), lists.mode(48, 128)};
  CHECK(mode.largest_tile().rows == 16);
  CHECK(mode.largest_tile().columns == 32);
  CHECK(hybrid<full, streaming>{}.largest_tile().rows == 0);
}

TEST_CASE("hooks belong to their part") {
  float const logit = 2.5f;
  hybrid<scored<full, soft_cap>, sink_logits<full>> const mode{{{}, {1.f}}, {{}, &logit}};
  where const first = place(1, 1, true, 0), second = place(1, 1, true, 1);
  CHECK(mode.score(first, 100., 0, 0) == doctest::Approx(1));
  CHECK(mode.score(second, 100., 0, 0) == 100.);
  CHECK(mode.sink_logit(second) == 2.5f);
  CHECK(std::isinf(mode.sink_logit(first)));
}

TEST_CASE("a hybrid checks every part") {
  hybrid<full, streaming> const mode{{}, {-1, 2}};
  CHECK_THROWS_WITH_AS(mode.check({}), doctest::Contains("streaming.sink"), error);
}
