// Explicit block masks: the lists are the mask's ones, the attention is that of the mask.
#include <elastic/selectors/block_mask.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include <support/selection.hpp>

using namespace elastic;
using elastic::testing::random_heads;
using elastic::testing::selected_run;
using elastic::testing::selection;

namespace {

std::vector<std::uint8_t> random_bits(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> bits(n);
  for (auto& bit : bits) bit = static_cast<std::uint8_t>(random() % 3 == 0 ? random() % 255 + 1 : 0);
  return bits;
}

double largest_difference(heads_view<float const> const& a, heads_view<float const> const& b) {
  double worst = 0;
  for (int i = 0; i < a.extents[0]; ++i)
    for (int s = 0; s < a.extents[1]; ++s)
      for (int h = 0; h < a.extents[2]; ++h)
        for (int d = 0; d < a.extents[3]; ++d) {
          double const difference = std::abs(double(a(i, s, h, d)) - double(b(i, s, h, d)));
          worst = difference <= worst ? worst : difference;  // NaN stays
        }
  return worst;
}

}  // namespace

TEST_CASE("attention is that of the mask, for blocks of every size, causal or not") {
  struct size {
    int q_len, k_len, rows, columns;
    bool causal;
  };
  for (size const& c : {size{300, 300, 128, 128, true}, size{257, 400, 32, 64, true}, size{257, 400, 64, 128, false},
                        size{300, 129, 128, 32, true}, size{300, 300, 256, 256, false}, size{65, 700, 16, 64, true}}) {
    CAPTURE(c.q_len);
    CAPTURE(c.rows);
    int const rows = (c.q_len + c.rows - 1) / c.rows, columns = (c.k_len + c.columns - 1) / c.columns;
    random_heads<float> const q({2, c.q_len, 4, 32}, 1), k({2, c.k_len, 2, 32}, 2, 1, 3), v({2, c.k_len, 2, 32}, 3);
    random_heads<float> const out({2, c.q_len, 4, 32}, 4), expected({2, c.q_len, 4, 32}, 5);
    auto const bits = random_bits(static_cast<std::size_t>(8 * rows * columns), 6);
    for (bool const shared : {false, true}) {
      block_mask s{.block_rows = c.rows, .block_columns = c.columns};
      s.mask = shared ? strided_view<std::uint8_t const, 4>(bits.data(), {1, 1, rows, columns})
                      : strided_view<std::uint8_t const, 4>(bits.data(), {2, 4, rows, columns});
      auto const allowed = [&](where const& w, int i, int j) {
        int const head = shared ? 0 : w.batch * 4 + w.query_head;
        return bits[static_cast<std::size_t>((head * rows + i / c.rows) * columns + j / c.columns)] != 0;
      };
      options const o{.causal = c.causal, .threads = 2};
      auto const lists = selected_run(cpu{}, s, q.view(), k.view(), o).lists();
      CHECK(selected_run(reference{}, s, q.view(), k.view(), o).lists() == lists);
      attention{predicate{allowed}, fixed_router{}, reference{}}(q.view(), k.view(), v.view(), expected.mutable_view(),
                                                                 {}, o);
      attention{s}(q.view(), k.view(), v.view(), out.mutable_view(), {}, o);
      CHECK(largest_difference(out.view(), expected.view()) < 1e-5);
      attention{s, fixed_router{}, reference{}}(q.view(), k.view(), v.view(), out.mutable_view(), {}, o);
      CHECK(largest_difference(out.view(), expected.view()) < 1e-6);
    }
  }
}

TEST_CASE("lists are the ones of the mask that causality leaves, strided or shared by stride 0") {
  std::uint8_t const bits[] = {1, 0, 7, 1, 1, 1};  // (key blocks, query blocks)
  block_mask s{.block_rows = 32, .block_columns = 64};
  s.mask = {bits, {1, 3, 2, 3}, {0, 0, 1, 2}};
  random_heads<float> const q({1, 60, 3, 32}, 7), k({1, 160, 1, 32}, 8);
  auto const lists = selected_run(cpu{}, s, q.view(), k.view()).lists();
  REQUIRE(lists.size() == 6);
  for (int h = 0; h < 3; ++h) {
    CHECK(lists.at({0, h, 0}) == std::vector<std::int32_t>{2, 1, 0});
    CHECK(lists.at({0, h, 1}) == std::vector<std::int32_t>{2, 1});
  }
}

TEST_CASE("packed sequences, chunks and routing") {
  std::vector<std::int32_t> const starts{0, 300, 300, 440};
  random_heads<float> const q({1, 440, 2, 32}, 9), k({1, 440, 2, 32}, 10);
  auto const bits = random_bits(3 * 2 * 5 * 10, 11);
  block_mask const s{.mask = {bits.data(), {3, 2, 5, 10}}, .block_rows = 64, .block_columns = 32};
  options o{.cu_seqlens_q = starts, .cu_seqlens_k = starts};
  auto const whole = selected_run(cpu{}, s, q.view(), k.view(), o).lists();
  CHECK(whole.size() == 2 * (5 + 0 + 3));
  for (auto const& [at, list] : whole) {
    std::vector<std::int32_t> expected;
    int const length = at[0] == 0 ? 300 : 140;
    for (int j = std::min((at[2] + 1) * 64, length) - 1; j >= 0; --j)  // by key, once for each block
      if (j % 32 == 0 && bits[static_cast<std::size_t>(((at[0] * 2 + at[1]) * 5 + at[2]) * 10 + j / 32)])
        expected.push_back(j / 32);
    CHECK(list == expected);
  }
  selection pieces;
  for (int begin = 0; begin < 300; begin += 128) {
    o.q_begin = begin;
    o.q_end = std::min(begin + 128, 300);
    auto const piece = selected_run(reference{}, s, q.view(), k.view(), o).lists();
    pieces.insert(piece.begin(), piece.end());
  }
  CHECK(pieces == whole);
  o.q_begin = 0, o.q_end = -1;
  auto const routed = selected_run(cpu{}, s, q.view(), k.view(), o, {0, 1, 1, 1, 1, 0}, 1).lists();
  for (auto const& [at, list] : routed) {
    bool const comes = at[0] != 0 ? !(at[0] == 2 && at[1] == 1) : at[1] == 1;
    CHECK(list == (comes ? whole.at(at) : std::vector<std::int32_t>{}));
  }
}

TEST_CASE("what does not fit is refused") {
  problem p;
  p.q_len = p.q_end = p.k_len = 300;
  p.batch = 2;
  p.query_heads = 4;
  std::vector<std::uint8_t> const bits(2 * 4 * 3 * 3);
  auto const mask = [&](std::array<std::int64_t, 4> shape) {
    return strided_view<std::uint8_t const, 4>(bits.data(), shape);
  };
  CHECK_NOTHROW(block_mask{mask({2, 4, 3, 3})}.check(p));
  CHECK_NOTHROW(block_mask{mask({1, 4, 3, 3})}.check(p));
  CHECK_NOTHROW(block_mask{mask({2, 1, 3, 3})}.check(p));
  CHECK_THROWS_AS(block_mask{}.check(p), error);
  CHECK_THROWS_AS(block_mask{mask({2, 2, 3, 3})}.check(p), error);
  CHECK_THROWS_AS(block_mask{mask({2, 4, 2, 3})}.check(p), error);
  CHECK_THROWS_AS(block_mask{mask({2, 4, 3, 4})}.check(p), error);
  CHECK_THROWS_AS((block_mask{mask({2, 4, 3, 3}), 100, 128}.check(p)), error);
  CHECK_THROWS_AS((block_mask{mask({2, 4, 3, 3}), 128, 0}.check(p)), error);
  CHECK_THROWS_AS((block_mask{strided_view<std::uint8_t const, 4>(nullptr, {2, 4, 3, 3})}.check(p)), error);
}
