// Products of rows with means of blocks: their values, and that equal means have equal products wherever they stand.
#include <elastic/cpu/row_dots.hpp>

#include <cmath>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <support/aligned_memory.hpp>

using namespace elastic;
using namespace elastic::detail;

TEST_CASE_TEMPLATE("products with means of blocks are right, and the same for every block of equal rows", T, float,
                   half) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int head_dim : {32, 96, 256})
    for (int blocks : {0, 1, 5, panel_rows, panel_rows + 1, 3 * panel_rows - 1})
      for (int count : {1, 7, 64}) {
        int const block = 3, keys = maximum(blocks * block - 1, 0), stride = head_dim + 5;  // the last block is short
        std::vector<T> k(static_cast<std::size_t>((keys + 1) * stride)), q(static_cast<std::size_t>(count * stride));
        for (int j = 0; j < keys; ++j)
          for (int c = 0; c < head_dim; ++c)  // every other block is made of one row
            k[static_cast<std::size_t>(j * stride + c)] =
                j / block % 2 == 0 && j > 0 ? k[static_cast<std::size_t>(c)] : static_cast<T>(normal(random));
        for (T& x : q) x = static_cast<T>(normal(random));

        workspace_cursor sizes;
        row_dots(count, blocks, head_dim, sizes);
        std::int64_t const size = mean_panels::size(blocks, head_dim);
        sizes.take<float>(size);
        testing::aligned_memory memory(sizes.used());
        workspace_cursor cursor = memory.cursor();
        row_dots const dots(count, blocks, head_dim, cursor);
        mean_panels const means{cursor.take<float>(size), head_dim};
        for (int b = 0; b < blocks; ++b)
          means.write(b, head_rows<T const>{k.data(), stride}, b * block, minimum((b + 1) * block, keys));

        int emitted = 0;
        double worst = 0;
        bool equal = true;
        dots.each<T>({q.data(), stride}, count, means, blocks, [&](int i, float const* products) {
          CHECK(i == emitted++);
          for (int b = 0; b < blocks; ++b) {
            double dot = 0;
            int const end = minimum((b + 1) * block, keys);
            for (int j = b * block; j < end; ++j)
              for (int c = 0; c < head_dim; ++c)
                dot += double{static_cast<float>(q[static_cast<std::size_t>(i * stride + c)])} *
                       static_cast<float>(k[static_cast<std::size_t>(j * stride + c)]) / (end - b * block);
            worst = std::max(worst, std::abs(dot - products[b]));
            if (b % 2 == 0) equal = equal && products[b] == products[0];
          }
        });
        CHECK(emitted == count);
        CHECK(worst < 1e-4);
        CHECK(equal);
      }
}
