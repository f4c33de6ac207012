// expects: elastic: largest_tile of a Mode must be tile_shape largest_tile() const
#include <elastic/attention.hpp>

using namespace elastic;

struct small {
  static constexpr bool has_partial = false;
  bool keeps(where const&, int, int) const { return true; }
#ifdef ELASTIC_SHOULD_COMPILE
  tile_shape largest_tile() const { return {64, 64}; }
#else
  tile_shape largest_tile() { return {64, 64}; }
#endif
};

attention<small> const attend;
