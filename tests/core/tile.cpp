#include <elastic/core/tile.hpp>

#include <doctest/doctest.h>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using elastic::testing::place;

TEST_CASE("rows of a query tile, cut at the sequence's end") {
  tile_rows const first(place(50, 50), 0, {32, 16}), last(place(50, 50), 1, {32, 16});
  CHECK(first.first == 0);
  CHECK(first.last == 31);
  CHECK(last.first == 32);
  CHECK(last.last == 49);
}

TEST_CASE("bounds equal what admits says of every tile") {
  for (int q_len : {1, 5, 16, 33, 100})
    for (int k_len : {0, 1, 15, 16, 17, 64, 100, 131})
      for (bool causal : {true, false})
        for (tile_shape shape : {tile_shape{16, 16}, {32, 8}, {7, 48}, {1, 1}, {128, 128}}) {
          where const w = place(q_len, k_len, causal);
          for (int q_tile = 0; q_tile < ceil_div(q_len, shape.rows); ++q_tile) {
            bounds const cut(w, q_tile, shape);
            tile_rows const rows(w, q_tile, shape);
            for (int k_tile = 0; k_tile < ceil_div(k_len, shape.columns) + 1; ++k_tile) {
              bool any = false, all = true;
              for (int q = rows.first; q <= rows.last; ++q)
                for (int k = k_tile * shape.columns; k < (k_tile + 1) * shape.columns; ++k) {
                  any |= w.admits(q, k);
                  all &= w.admits(q, k);
                }
              REQUIRE((k_tile < cut.visible) == any);
              REQUIRE((k_tile < cut.whole) == all);
            }
          }
        }
}
