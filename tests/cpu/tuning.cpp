#include <doctest/doctest.h>

#include <elastic/cpu/tuning.hpp>

TEST_CASE("tiles divide what a list allows and stay inside a page") {
  for (int rows : {0, 16, 32, 48, 64, 96, 128, 192, 256})
    for (int columns : {0, 16, 32, 64, 128, 512, 1024})
      for (int page : {0, 16, 48, 64, 128, 256}) {
        auto const [shape, run] = elastic::cpu_tiling_for({rows, columns}, page);
        INFO(rows, " x ", columns, ", pages of ", page, ": ", shape.rows, " x ", shape.columns, ", runs of ", run);
        CHECK(shape.rows > 0);
        CHECK(shape.columns > 0);
        CHECK(rows % shape.rows == 0);
        CHECK(columns % shape.columns == 0);
        CHECK(page % shape.columns == 0);
        CHECK(run % shape.columns == 0);
        CHECK((page == 0 || page % run == 0));
      }
}
