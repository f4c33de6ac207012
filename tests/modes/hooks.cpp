// What counts as a hook, and what a hook has to look like. That a mode whose hook does not fit fails to compile:
// compile_fail/misspelt_*.cpp.
#include <elastic/modes/hooks.hpp>

#include <doctest/doctest.h>

#include "support/modes.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

struct plain {
  static constexpr bool has_partial = true;
  bool keeps(where const&, int, int) const { return true; }
};

struct few_spans : plain {
  static constexpr int spans_max = 2;
  span_array<1> spans(where const&, int, tile_shape) const { return {}; }
};
struct uncounted_spans : plain {
  span_array<1> spans(where const&, int, tile_shape) const { return {}; }
};
struct spans_by_another_name : plain {
  static constexpr int spans_max = 1;
  span_array<1> span(where const&, int, tile_shape) const { return {}; }
};
struct mutable_list : plain {
  block_list list(where const&, int, tile_shape) { return {}; }
};
struct short_bits : plain {
  std::uint32_t kept_bits(where const&, int, int, int) const { return 0; }
};
struct score_without_key : plain {
  template <class Real>
  Real score(where const&, Real s, int) const {
    return s;
  }
};
struct score_of_rows : plain {
  float score(int, float s) const { return s; }
};
struct sink_of_head : plain {
  float sink_logit(int) const { return 0; }
};

struct two_scores : plain {
  float score(where const&, float s, int, int) const { return s; }
  double score(where const&, double s, int, int) const { return s; }
};

struct data_of_such_names : plain {
  int spans = 0, list = 0, score = 0, sink_logit = 0;
};

}  // namespace

TEST_CASE("a member function by the name of a hook is taken for one") {
  using namespace elastic::detail;
  static_assert(says_spans<few_spans> && !span_mode<few_spans>);
  static_assert(says_spans<uncounted_spans> && !span_mode<uncounted_spans>);
  static_assert(says_spans<spans_by_another_name> && !span_mode<spans_by_another_name>);
  static_assert(says_list<mutable_list> && !list_mode<mutable_list>);
  static_assert(says_kept_bits<short_bits> && !bits_mode<short_bits>);
  static_assert(says_score<score_without_key> && !scoring_mode<score_without_key>);
  static_assert(says_score<score_of_rows> && !scoring_mode<score_of_rows>);
  static_assert(says_sink_logit<sink_of_head> && !sink_logit_mode<sink_of_head>);
  static_assert(hooks_fit<data_of_such_names>() && hooks_fit<plain>() && hooks_fit<two_scores>());
}

TEST_CASE("hooks that do fit are seen as such, those that are constrained away are not") {
  using namespace elastic::detail;
  static_assert(says_spans<streaming> && says_kept_bits<streaming> && !says_list<streaming> && !says_score<streaming>);
  static_assert(says_list<block_sparse> && !says_spans<block_sparse>);
  static_assert(says_score<scored<full, alibi>> && says_sink_logit<sink_logits<full>>);
  static_assert(!says_score<hybrid<full, streaming>> && !says_sink_logit<hybrid<full, streaming>>);
  static_assert(says_score<hybrid<full, scored<streaming, alibi>>>);
  static_assert(!says_spans<union_of<block_sparse, full>> && says_spans<union_of<streaming, full>>);
}

TEST_CASE("the hooks of every mode fit") {
  for_each_type(every_mode{}, []<class M>(int) { static_assert(elastic::detail::hooks_fit<selected_t<M>>()); });
}
