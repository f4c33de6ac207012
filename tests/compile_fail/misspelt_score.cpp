// expects: elastic: score of a Mode must be Real score(where, Real s, int q, int k) const, for float and double
#include <elastic/attention.hpp>

using namespace elastic;

struct shifted {
  static constexpr bool has_partial = false;
  bool keeps(where const&, int, int) const { return true; }
#ifdef ELASTIC_SHOULD_COMPILE
  template <class Real>
  Real score(where const&, Real s, int, int) const {
    return s - 1;
  }
#else
  template <class Real>
  Real score(Real s) const {
    return s - 1;
  }
#endif
};

attention<planned<shifted>> const attend;
