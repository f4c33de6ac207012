// The laws of elastic/testing/laws.hpp, for every mode, over many tile shapes and places.
#include <elastic/modes/tiles.hpp>

#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>
#include "support/modes.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

problem draw_shape(dice& r) {
  problem p;
  auto const length = [&] { return r.one_in(4) ? r.below(4) : r.one_in(3) ? r.between(0, 40) : r.between(0, 400); };
  p.q_len = length();
  p.k_len = r.one_in(4) ? p.q_len : length();
  p.q_end = p.q_len;
  p.causal = !r.one_in(3);
  p.batch = 2;
  p.query_heads = 2;
  p.layer = r.below(3);
  return p;
}

/// Runs check(mode, where, shape) for many drawn modes; shapes that do not divide a list mode's blocks are left out.
template <class M, class Draw, class Check>
void over_many(int times, Draw&& draw_mode, Check&& check) {
  for (int n = 0; n < times; ++n) {
    dice r(1, static_cast<std::uint64_t>(n));
    problem p = draw_shape(r);
    arena memory;
    M mode = draw_mode(r, p, memory);
    try {
      check_mode(mode, p);
    } catch (error const&) {
      REQUIRE(!p.causal);  // the only thing that a drawn mode may refuse
      p.causal = true;
    }
    where const w = locate(p, r.below(p.batch), r.below(p.query_heads), r.below(routes<M>));
    tile_shape const any = law_shapes[r.below(static_cast<int>(std::size(law_shapes)))];
    tile_shape const largest = largest_tile_of(mode);
    tile_shape const shape{gcd(largest.rows, any.rows), gcd(largest.columns, any.columns)};
    INFO("draw " << n);
    check(mode, w, shape);
  }
}

}  // namespace

TEST_CASE("every mode keeps the laws") {
  for_each_type(every_mode{}, [&]<class M>(int) {
    if constexpr (attention_mode<M>) {
      INFO(name_of_mode<M>());
      over_many<M>(1000, draw<M>{}, [](M const& mode, where const& w, tile_shape shape) {
        std::string const broken = broken_law(mode, w, shape);
        if (!broken.empty()) FAIL_CHECK(broken);
      });
    }
  });
}

TEST_CASE("full, windows, streaming and block lists are tight: no tile is needless or dearer than it has to be") {
  auto const tight = [](auto const& mode, where const& w, tile_shape shape) {
    std::string const broken = broken_tightness(mode, w, shape);
    if (!broken.empty()) FAIL_CHECK(broken);
  };
  over_many<full>(1000, draw<full>{}, tight);
  over_many<sliding_window>(3000, draw<sliding_window>{}, tight);
  over_many<block_sparse>(3000, draw<block_sparse>{}, tight);
  over_many<streaming>(6000, draw<streaming>{}, [&](streaming const& mode, where const& w, tile_shape shape) {
    // A window that follows the query blocks can leave a hole between two of them: exact within one.
    if (mode.alignment == alignment::query_block && 128 % shape.rows != 0) return;
    tight(mode, w, shape);
  });
  over_many<triangle>(3000, draw<triangle>{}, [&](triangle const& mode, where const& w, tile_shape shape) {
    if (mode.local > 0) tight(mode, w, shape);  // without a window, a tile of sparse and dense rows may ask needlessly
  });
}

TEST_CASE("the slack of a window that follows the query blocks is below one tile in a thousand") {
  slack measured;
  over_many<streaming>(6000, draw<streaming>{}, [&](streaming const& mode, where const& w, tile_shape shape) {
    if (mode.alignment == alignment::query_block) broken_law(mode, w, shape, &measured);
  });
  MESSAGE(measured.needless << " needless and " << measured.dear << " too dear of " << measured.visited << " tiles");
  CHECK((measured.needless + measured.dear) * 1000 < measured.visited);
}

TEST_CASE("a bare predicate visits every tile in bounds, from the last to the first") {
  predicate<striped> const mode{};
  auto const tiles = tiles_of(mode, place(10, 50), 0, {16, 16});
  CHECK(tiles.count == 4);
  CHECK(tiles_of(mode, place(50, 10), 1, {16, 16}).count == 0);  // positions −24…−9
}

TEST_CASE("a list is cut by causality as a prefix, a block of several tiles inside too") {
  std::int32_t const entries[] = {5, 3, ~2, 0};
  where const w = place(1, 60);
  tile_shape const shape{16, 8};
  list_tiles const tiles({entries, 4, 16}, shape, bounds(w, 0, shape));  // 60 keys: tiles 0…7
  REQUIRE(tiles.count == 6);
  int const expected[] = {7, 6, 5, 4, 1, 0};
  for (int i = 0; i < 6; ++i) CHECK(tiles[i].index == expected[i]);
  CHECK(tiles[0].kind == tile_kind::clipped);  // keys 56…63 of 60
  CHECK(tiles[1].kind == tile_kind::full);
  CHECK(tiles[2].kind == tile_kind::partial);
  CHECK(tiles[3].kind == tile_kind::partial);
  CHECK(tiles[5].kind == tile_kind::full);

  list_tiles const cut({entries, 4, 16}, shape, bounds(place(100, 100), 0, shape));  // positions 0…15
  REQUIRE(cut.count == 2);
  CHECK(cut[0].index == 1);
  CHECK(list_tiles({entries, 0, 16}, shape, bounds(w, 0, shape)).count == 0);
  CHECK(list_tiles({entries, 1, 16}, shape, bounds(w, 0, shape)).count == 0);
}

TEST_CASE("a list that names blocks which do not exist has a count of 0 or more, and no tile that another block has") {
  where const w = place(1280, 1280);
  tile_shape const shape{128, 64};
  bounds const cut(w, 9, shape);  // 20 tiles, 10 blocks of 128
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  for (std::int32_t const far : {10, 11, 1 << 24, 1 << 29, 1 << 30, most - 1, most})
    for (std::int32_t const entry : {far, ~far}) {
      INFO("entry " << entry);

      for (int columns : {64, 128, 256, 1 << 29}) {
        std::int32_t const alone[] = {entry, entry};
        if (far >= ceil_div(1280, columns)) CHECK(list_tiles({alone, 2, columns}, shape, cut).count == 0);
      }
      std::int32_t const first[] = {entry, entry, 3, ~1};
      list_tiles const rest({first, 4, 128}, shape, cut);
      REQUIRE(rest.count == 4);
      CHECK(rest[0].index == 7);
      CHECK(rest[3].index == 2);
      CHECK(rest[3].kind == tile_kind::partial);
      for (int columns : {128, 256}) {  // 256: products of 32 bits would come back to tiles that exist
        std::int32_t const inside[] = {3, entry, 0};
        list_tiles const tiles({inside, 3, columns}, shape, cut);
        int const per_block = columns / 64;
        REQUIRE(tiles.count == 3 * per_block);
        for (int i = 0; i < per_block; ++i) {
          CHECK(tiles[i].index == 4 * per_block - 1 - i);
          if (far >= ceil_div(1280, columns)) CHECK(tiles[per_block + i].index >= 20);
          CHECK(tiles[2 * per_block + i].index == per_block - 1 - i);
        }
      }
    }

  std::vector<std::int32_t> const same(1000, 2);  // longer than any list
  CHECK(list_tiles({same.data(), 1000, 128}, shape, cut).count == 20);
  CHECK(list_tiles({same.data(), 1000, 1 << 29}, shape, bounds(place(0, 0), 0, shape)).count == 0);
  CHECK(list_tiles({same.data(), -1, 128}, shape, cut).count == 0);
}

TEST_CASE("tiles are trivially copyable") {
  for_each_type(every_mode{}, []<class M>(int) {
    if constexpr (attention_mode<M>) static_assert(std::is_trivially_copyable_v<tiles_t<M>>);
  });
}
