// expects: elastic: forgets of a Mode must be key_range forgets(where, int position) const
#include <elastic/attention.hpp>

using namespace elastic;

struct forgetful {
  static constexpr bool has_partial = false;
  bool keeps(where const&, int, int) const { return true; }
#ifdef ELASTIC_SHOULD_COMPILE
  key_range forgets(where const&, int) const { return {}; }
#else
  key_range forgets(int) const { return {}; }
#endif
};

attention<forgetful> const attend;
