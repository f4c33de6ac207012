#include <elastic/modes/band.hpp>

#include <doctest/doctest.h>

#include "support/dice.hpp"

using namespace elastic;

namespace {

/// What the spans say of a tile: '.', 'p' or 'f'.
std::string picture(band const& b, int k_len, int columns) {
  std::string tiles(static_cast<std::size_t>(ceil_div(k_len, columns)), '.');
  auto const spans = band_spans(b, k_len, columns);
  for (int s = 0; s < spans.size; ++s)
    for (int i = maximum(spans[s].begin, 0); i < minimum(spans[s].end, static_cast<int>(tiles.size())); ++i)
      tiles[static_cast<std::size_t>(i)] = spans[s].cover == coverage::full ? 'f' : 'p';
  return tiles;
}

}  // namespace

TEST_CASE("sink, gap and window, each with its edges") {
  CHECK(picture({20, 65, 68, no_bound, no_bound}, 160, 10) == "ff....pfffffffff");
  CHECK(picture({25, 65, 68, no_bound, no_bound}, 160, 10) == "ffp...pfffffffff");
  CHECK(picture({0, 60, 60, 90, 95}, 160, 10) == "......fffp......");
  CHECK(picture({0, -5, 3, 40, 45}, 160, 10) == "pfffp...........");
}

TEST_CASE("a window that touches the sink leaves no edge between them") {
  CHECK(picture({25, 20, 25, no_bound, no_bound}, 60, 10) == "ffffff");
  CHECK(picture({25, 20, 26, no_bound, no_bound}, 60, 10) == "ffpfff");
  CHECK(picture({25, -9, -4, 40, 40}, 60, 10) == "ffff..");
}

TEST_CASE("what reaches the end of the sequence covers its last tile") {
  CHECK(picture({55, no_bound, no_bound, 0, 0}, 55, 10) == "ffffff");
  CHECK(picture({54, no_bound, no_bound, 0, 0}, 55, 10) == "fffffp");
  CHECK(picture({0, 30, 30, 55, 70}, 55, 10) == "...fff");
  CHECK(picture({0, 30, 30, 54, 70}, 55, 10) == "...ffp");
}

TEST_CASE("nothing kept, nothing visited") {
  CHECK(picture({0, no_bound, no_bound, 0, 0}, 60, 10) == "......");
  CHECK(picture({0, -20, -10, -9, 0}, 60, 10) == "......");
  CHECK(picture({5, 0, 0, no_bound, no_bound}, 0, 10) == "");
}

TEST_CASE("spans are ascending and disjoint, whatever the edges") {
  elastic::testing::dice r(7);
  for (int n = 0; n < 20000; ++n) {
    int const k_len = r.between(0, 200), columns = r.between(1, 70), low = r.between(-100, 250),
              high = r.between(-100, 250);
    band const b{r.between(0, 250), low, low + r.between(0, 60), high, high + r.between(0, 60)};
    auto const spans = band_spans(b, k_len, columns);
    int at = 0;
    for (int s = 0; s < spans.size; ++s) {
      if (spans[s].begin >= spans[s].end) continue;
      REQUIRE(spans[s].begin >= at);
      at = spans[s].end;
    }
  }
}
