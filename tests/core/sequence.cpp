#include <elastic/core/sequence.hpp>

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

using namespace elastic;

namespace {

std::vector<float> counted(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.f);
  return values;
}

}  // namespace

TEST_CASE("rows of a head, dense and packed") {
  auto const values = counted(2 * 5 * 3 * 4);
  heads_view<float const> const tensor(values.data(), {2, 5, 3, 4});
  head_rows<float const> const rows = rows_of(tensor, nullptr, 1, 2);
  for (int i = 0; i < 5; ++i) CHECK(rows[i] == &tensor(1, i, 2, 0));

  heads_view<float const> const packed(values.data(), {1, 10, 3, 4});
  std::vector<std::int32_t> const starts{0, 4, 10};
  CHECK(rows_of(packed, starts.data(), 1, 2)[3] == &packed(0, 7, 2, 0));
}

TEST_CASE("rows of lse") {
  std::vector<float> values(2 * 3 * 5);
  lse_view const lse(values.data(), {2, 3, 5});
  CHECK(lse_of(lse, nullptr, 1, 2)[4] == &lse(1, 2, 4));
  lse_view const packed(values.data(), {1, 3, 10});
  std::vector<std::int32_t> const starts{0, 4, 10};
  CHECK(lse_of(packed, starts.data(), 1, 2)[3] == &packed(0, 2, 7));
}

TEST_CASE("plain keys are one run") {
  auto const k = counted(2 * 5 * 2 * 4), v = counted(2 * 5 * 2 * 4);
  plain_keys<float> const source{{k.data(), {2, 5, 2, 4}}, {v.data(), {2, 5, 2, 4}}};
  problem const p;
  CHECK(source.run() == 0);
  CHECK(source.keys(p, 1, 1, 2)[1] == &source.k(1, 3, 1, 0));
  CHECK(source.values(p, 1, 0, 4)[0] == &source.v(1, 4, 0, 0));
}

TEST_CASE("a paged cache finds its pages by the table") {
  auto const k = counted(6 * 4 * 8), v = counted(6 * 4 * 8);
  std::vector<std::int32_t> const table{5, 0, 3, -1, 2, 1, 4, 4}, lengths{8, 7};
  paged_cache<float> const cache{
      {k.data(), {6, 4, 8}}, {v.data(), {6, 4, 8}}, {table.data(), {2, 2, 2}}, {lengths.data(), {2}}};
  problem const p;
  CHECK(cache.run() == 4);
  CHECK(cache.keys(p, 0, 0, 0)[3] == &cache.k_pages(5, 3, 0));
  CHECK(cache.keys(p, 0, 0, 6)[0] == &cache.k_pages(0, 2, 0));
  CHECK(cache.values(p, 1, 0, 4)[1] == &cache.v_pages(1, 1, 0));
}
