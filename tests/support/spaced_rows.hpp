#pragma once

#include <cmath>
#include <random>
#include <vector>

#include <elastic/core/sequence.hpp>

namespace elastic::testing {

/// Rows of random numbers `stride` apart, NaN between them.
template <class T>
struct spaced_rows {
  std::vector<T> data;
  int stride;

  spaced_rows(int count, int head_dim, int apart)
      : data(static_cast<std::size_t>(count * apart), static_cast<T>(NAN)), stride(apart) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (int i = 0; i < count; ++i)
      for (int c = 0; c < head_dim; ++c) at(i, c) = static_cast<T>(normal(random));
  }
  T& at(int i, int c) { return data[static_cast<std::size_t>(i * stride + c)]; }
  float value(int i, int c) { return static_cast<float>(at(i, c)); }
  head_rows<T const> rows() const { return {data.data(), stride}; }
};

}  // namespace elastic::testing
