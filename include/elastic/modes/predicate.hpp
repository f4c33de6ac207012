// A mode made from any callable bool(where, q, k): every tile in bounds is visited, and asked about each
// pair. planned<predicate<F>> (selectors/planned.hpp) finds the tiles first.
#pragma once

#include <elastic/modes/mode.hpp>

namespace elastic {

template <class F>
struct predicate {
  F function;

  static constexpr bool has_partial = true;

  ELASTIC_HOST_DEVICE bool keeps(where const& w, int q, int k) const { return function(w, q, k); }
};

template <class F>
predicate(F) -> predicate<F>;

}  // namespace elastic
