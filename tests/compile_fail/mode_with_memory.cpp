// expects: elastic: Mode must satisfy attention_mode (keeps, has_partial, trivially copyable) or selector
#include <elastic/attention.hpp>

#include <vector>

struct listed_keys {
  static constexpr bool has_partial = true;
#ifdef ELASTIC_SHOULD_COMPILE
  bool const* seen = nullptr;
#else
  std::vector<bool> seen;
#endif
  bool keeps(elastic::where const&, int, int k) const { return seen[k]; }
};

elastic::attention<listed_keys> const attend;
