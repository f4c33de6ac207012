#include <elastic/modes/mode.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "support/modes.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

struct no_keeps {
  static constexpr bool has_partial = false;
};
struct no_has_partial {
  bool keeps(where const&, int, int) const { return true; }
};
struct owns_memory {
  static constexpr bool has_partial = true;
  std::string name;
  bool keeps(where const&, int, int) const { return true; }
};
struct bare {
  static constexpr bool has_partial = true;
  bool keeps(where const&, int, int) const { return true; }
};
struct refuses {
  static constexpr bool has_partial = true;
  bool keeps(where const&, int, int) const { return true; }
  void check(problem const& p) const { require(p.layer == 0, "refuses", p.layer, "layer 0"); }
};

}  // namespace

TEST_CASE("what is a mode and what is none") {
  static_assert(attention_mode<bare> && !span_mode<bare> && !list_mode<bare>);
  static_assert(!attention_mode<no_keeps> && !attention_mode<no_has_partial> && !attention_mode<owns_memory>);
  static_assert(!attention_mode<int>);
  static_assert(has_partial_of<bare> && !has_partial_of<full> && !has_partial_of<no_keeps>);
}

TEST_CASE("absent hooks cost nothing: the score stays, the sink is −∞, any tile fits") {
  where const w;
  CHECK(score_of(bare{}, w, 1.25, 0, 0) == 1.25);
  CHECK(sink_logit_of(bare{}, w) == -INFINITY);
  CHECK(largest_tile_of(bare{}).rows == 0);
  CHECK_NOTHROW(check_mode(bare{}, problem{}));
  problem p;
  p.layer = 3;
  CHECK_THROWS_WITH_AS(check_mode(refuses{}, p), "elastic: refuses: got 3, expected layer 0", error);
}

TEST_CASE("ranges of bits, clipped to a word") {
  for (int begin : {-1000, -1, 0, 1, 31, 32, 63, 64, 1000})
    for (int end : {-1000, 0, 1, 33, 63, 64, 65, 1000}) {
      std::uint64_t expected = 0;
      for (int i = 0; i < 64; ++i) expected |= std::uint64_t{i >= begin && i < end} << i;
      CHECK(bit_range(begin, end) == expected);
    }
  static_assert(bit_range(0, 64) == ~std::uint64_t{0} && bit_range(3, 3) == 0);
}

TEST_CASE("what fits two tiles") {
  CHECK(common_tile({128, 64}, any_tile).rows == 128);
  CHECK(common_tile({128, 64}, any_tile).columns == 64);
  CHECK(common_tile({128, 64}, {96, 48}).rows == 32);
  CHECK(common_tile({128, 64}, {96, 48}).columns == 16);
}

TEST_CASE("bidirectional attention is refused where it is not defined") {
  problem p;
  p.causal = false;
  CHECK_NOTHROW(check_mode(full{}, p));
  CHECK_NOTHROW(check_mode(sliding_window{}, p));
  CHECK_NOTHROW(check_mode(streaming{}, p));
  CHECK_NOTHROW(check_mode(hybrid<full, streaming>{}, p));
  CHECK_THROWS_AS(check_mode(triangle{}, p), error);
  CHECK_THROWS_AS(check_mode(hybrid<full, triangle>{}, p), error);
  CHECK_THROWS_AS(check_mode(union_of<triangle, full>{}, p), error);
}
