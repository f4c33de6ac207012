#include <elastic/modes/scored.hpp>

#include <doctest/doctest.h>

#include <elastic/modes/full.hpp>
#include <elastic/modes/hybrid.hpp>
#include <elastic/modes/sliding_window.hpp>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("a hook changes scores, not what is kept") {
  scored<sliding_window, soft_cap> const mode{{2}, {30.f}};
  CHECK(picture_differs(mode, place(3, 4), {"##..", ".##.", "..##"}) == "");
  CHECK(routes<scored<hybrid<full, full>, alibi>> == 2);
}

TEST_CASE("soft cap: cap · tanh(s / cap)") {
  scored<full, soft_cap> const mode{{}, {30.f}};
  where const w = place(1, 1);
  CHECK(mode.score(w, 0.0, 0, 0) == 0.0);
  CHECK(mode.score(w, 15.0, 0, 0) == doctest::Approx(13.863514717800293).epsilon(1e-12));
  CHECK(mode.score(w, -1e6, 0, 0) == doctest::Approx(-30));
  CHECK(mode.score(w, 15.f, 0, 0) == doctest::Approx(13.8635147f));
  CHECK_THROWS_WITH_AS((scored<full, soft_cap>{{}, {0.f}}.check({})), doctest::Contains("soft_cap.cap: got 0"), error);
  CHECK_THROWS_AS((scored<full, soft_cap>{{}, {std::nanf("")}}.check({})), error);
  CHECK_THROWS_AS((scored<full, soft_cap>{{}, {std::numeric_limits<float>::infinity()}}.check({})), error);
}

TEST_CASE("ALiBi: the paper's slopes, or the caller's, on the distance of positions") {
  scored<full, alibi> mode{{}, {}};
  where w = place(2, 5);  // query 0 at position 3
  w.query_heads = 8;
  w.query_head = 0;
  CHECK(mode.score(w, 1.0, 0, 1) == 1.0 - 0.5 * 2);
  w.query_head = 7;
  CHECK(mode.score(w, 1.0, 0, 1) == 1.0 - 2.0 / 256);
  CHECK(mode.score(w, 1.0, 0, 4) == 1.0 - 1.0 / 256);
  float const slopes[] = {0, 0, 0, 0, 0, 0, 0, 3};
  mode.hook.slopes = slopes;
  CHECK(mode.score(w, 1.0, 0, 1) == -5.0);
}

TEST_CASE("hooks stack, the inner one first") {
  scored<scored<full, alibi>, soft_cap> const mode{{{}, {}}, {2.f}};
  where const w = place(1, 3);  // one head: slope 2^-8
  CHECK(mode.score(w, 1.0, 0, 0) == doctest::Approx(2 * std::tanh((1 - 2.0 / 256) / 2)).epsilon(1e-12));
}
