// A small seeded generator (splitmix64) that gives the same draws on every machine and library.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string>

namespace elastic::testing {

class dice {
 public:
  explicit dice(std::uint64_t seed) : state_(seed) {}

  /// A stream of its own for every (seed, number).
  dice(std::uint64_t seed, std::uint64_t number) : state_(seed * 0x9e3779b97f4a7c15u) {
    state_ = bits() ^ (number * 0xbf58476d1ce4e5b9u);
    bits();
  }

  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  /// 0 … n − 1.
  int below(int n) { return static_cast<int>((bits() >> 32) % static_cast<std::uint64_t>(n)); }
  /// low … high.
  int between(int low, int high) { return low + below(high - low + 1); }
  bool one_in(int n) { return below(n) == 0; }

  int pick(std::initializer_list<int> choices) { return choices.begin()[below(static_cast<int>(choices.size()))]; }

  /// [0, 1).
  float uniform() { return static_cast<float>(bits() >> 40) * 0x1p-24f; }

  /// About N(0, 1), bounded by ±6: the sum of twelve uniforms.
  float normal() {
    std::uint64_t sum = 0;
    for (int i = 0; i < 3; ++i)
      for (std::uint64_t r = bits(), part = 0; part < 4; ++part, r >>= 16) sum += r & 0xffffu;
    return static_cast<float>(sum) * 0x1p-16f - 6.f;
  }

 private:
  std::uint64_t state_;
};

/// A non-negative number from the environment, or the default.
inline std::int64_t environment(char const* name, std::int64_t otherwise) {
  char const* const text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoll(text, nullptr, 0);
}

}  // namespace elastic::testing
