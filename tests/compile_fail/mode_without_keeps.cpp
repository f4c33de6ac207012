// expects: elastic: Mode must satisfy attention_mode (keeps, has_partial, trivially copyable) or selector
#include <elastic/attention.hpp>

struct every_other {
  static constexpr bool has_partial = true;
#ifdef ELASTIC_SHOULD_COMPILE
  bool keeps(elastic::where const&, int q, int k) const { return (q + k) % 2 == 0; }
#endif
};

elastic::attention<every_other> const attend;
