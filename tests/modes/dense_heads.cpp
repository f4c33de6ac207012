// Heads that a flag makes dense have the tiles of full, the others those of the lists.
#include <elastic/modes/dense_heads.hpp>

#include <doctest/doctest.h>

#include <elastic/modes/modes.hpp>
#include <elastic/testing/laws.hpp>
#include "support/lists.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

where head(int number) {
  where w = place(100, 120);
  w.query_head = number;
  w.query_heads = 2;
  return w;
}

void check_same_tiles(auto const& mode, auto const& alone, where const& w) {
  for (int q_tile = 0; q_tile < 2; ++q_tile) {
    auto const expected = tiles_of(alone, w, q_tile, {64, 32}), tiles = tiles_of(mode, w, q_tile, {64, 32});
    REQUIRE(tiles.count == expected.count);
    for (int i = 0; i < tiles.count; ++i) {
      CHECK(tiles[i].index == expected[i].index);
      CHECK(tiles[i].kind == expected[i].kind);
    }
  }
}

}  // namespace

TEST_CASE("a flag for each head") {
  hand_lists const lists({{2, 0}, {3, 1}});
  block_sparse const sparse = lists.mode(64, 32, 1, 2);
  std::int32_t const flags[] = {0, 1};
  dense_heads<block_sparse> mode{sparse, {flags, {1, 2}}};
  CHECK(!mode.is_dense(head(0)));
  CHECK(mode.is_dense(head(1)));
  check_same_tiles(mode, sparse, head(0));
  check_same_tiles(mode, full{}, head(1));
  for (int h : {0, 1}) CHECK(broken_tightness(mode, head(h), {64, 32}) == "");
  CHECK(largest_tile_of(mode).rows == 64);
  hybrid<streaming, dense_heads<block_sparse>> const inside{{}, mode};
  where w = head(1);
  w.route = 1;
  check_same_tiles(inside, full{}, w);
  w.query_head = 0;
  check_same_tiles(inside, sparse, w);
  static_assert(std::is_same_v<tiles_t<decltype(inside)>, mixed_tiles<5>>);
}

TEST_CASE("all heads dense: neither flags nor lists are read, and the tile is the kernel's own") {
  dense_heads<block_sparse> const mode{{}, {}, dense_choice::all};
  check_same_tiles(mode, full{}, head(0));
  CHECK(broken_tightness(mode, head(1), {48, 112}) == "");
  CHECK(largest_tile_of(mode).columns == any_tile.columns);
  problem p;
  p.q_len = p.q_end = p.k_len = 100;
  CHECK_NOTHROW(mode.check(p));
  CHECK_NOTHROW(mode.validate(p));
  CHECK_THROWS_AS((dense_heads<block_sparse>{}.check(p)), error);

  hand_lists const lists({{0}, {1}});
  std::int32_t const flags[] = {0, 1};
  p.query_heads = 2;
  CHECK_NOTHROW((dense_heads<block_sparse>{lists.mode(64, 64, 1, 2), {flags, {1, 2}}}.check(p)));
  CHECK_THROWS_WITH_AS((dense_heads<block_sparse>{lists.mode(64, 64, 1, 2), {flags, {1, 1}}}.check(p)),
                       doctest::Contains("dense_heads.flags"), error);
}

TEST_CASE("hooks of the inner mode stay where a head is dense") {
  std::int32_t const flags[] = {1};
  float const sinks[] = {1.25f};
  using inner = listed<sink_logits<scored<full, soft_cap>>>;
  dense_heads<inner> const mode{inner{{{full{}, {1.f}}, sinks}, {}}, {flags, {1, 1}}};
  CHECK(mode.keeps(place(4, 4), 0, 3));
  CHECK(mode.score(place(4, 4), 100., 0, 0) == doctest::Approx(1));
  CHECK(mode.sink_logit(place(4, 4)) == 1.25f);
  static_assert(dense_heads<listed<full>>::has_partial && !dense_heads<block_sparse>::has_partial);
  static_assert(!scoring_mode<dense_heads<block_sparse>> && !sink_logit_mode<dense_heads<block_sparse>>);
}
