// The cut of a top-k: the k-th largest score and the last index kept among those equal to it, so that
// ties go to the lower index. keeps(score, index) then decides for every item by itself.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>

#include <elastic/core/host_device.hpp>
#include <elastic/modes/mode.hpp>

namespace elastic {

template <class Real>
struct top_cut {
  Real threshold = std::numeric_limits<Real>::infinity();  // so: keeps nothing
  int tie = -1;
  static constexpr int every_index = std::numeric_limits<int>::max();

  ELASTIC_HOST_DEVICE bool keeps(Real score, int index) const {
    return score > threshold || (score == threshold && index <= tie);
  }

  static constexpr top_cut everything() { return {-std::numeric_limits<Real>::infinity(), every_index}; }

  ELASTIC_HOST_DEVICE bool is_everything() const { return tie == every_index; }
  ELASTIC_HOST_DEVICE bool is_nothing() const { return tie < 0; }
};

namespace detail {

/// NaN, which orders with nothing, counts as the lowest score.
template <class Real>
ELASTIC_HOST_DEVICE Real orderable(Real score) {
  return score == score ? score : Real(minus_infinity);
}

/// The cut that keeps k of n orderable scores, all where n ≤ k. `copy` holds n of them.
template <class Real>
top_cut<Real> cut_of_top(Real const* scores, int n, int k, Real* copy) {
  if (k <= 0) return {};
  if (n <= k) return top_cut<Real>::everything();
  std::copy_n(scores, n, copy);
  std::nth_element(copy, copy + (k - 1), copy + n, std::greater<Real>());
  Real const threshold = copy[k - 1];
  int ties = k;
  for (int i = 0; i < n; ++i) ties -= scores[i] > threshold ? 1 : 0;
  int tie = -1;
  for (int i = 0; ties > 0; ++i)
    if (scores[i] == threshold) {
      tie = i;
      --ties;
    }
  return {threshold, tie};
}

}  // namespace detail

}  // namespace elastic
