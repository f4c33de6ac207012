#include <elastic/modes/sink_logits.hpp>

#include <doctest/doctest.h>

#include <elastic/modes/full.hpp>
#include <elastic/modes/hybrid.hpp>
#include <elastic/modes/scored.hpp>
#include <elastic/modes/sliding_window.hpp>

#include <elastic/testing/laws.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("a sink logit for each head; what is kept stays") {
  float const logits[] = {1.f, -2.f};
  sink_logits<sliding_window> const mode{{1}, logits};
  CHECK(picture_differs(mode, place(2, 3), {".#.", "..#"}) == "");
  where w = place(1, 1);
  CHECK(mode.sink_logit(w) == 1.f);
  w.query_head = 1;
  CHECK(mode.sink_logit(w) == -2.f);
  static_assert(sink_logit_mode<sink_logits<full>> && !scoring_mode<sink_logits<full>>);
  static_assert(scoring_mode<sink_logits<scored<full, soft_cap>>> &&
                sink_logit_mode<scored<sink_logits<full>, soft_cap>>);
  CHECK(routes<sink_logits<hybrid<full, full, full>>> == 3);
}

TEST_CASE("sink_logits refuses null") {
  CHECK_THROWS_WITH_AS((sink_logits<full>{}.check({})), doctest::Contains("sink_logits.logits: got null"), error);
}
