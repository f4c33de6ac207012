// The cost models of the CPU backend: each is one, and says what the fit says where it can be worked out by hand.
#include <elastic/cpu/costs.hpp>

#include <doctest/doctest.h>

#include <elastic/cpu/cpu.hpp>

using namespace elastic;

TEST_CASE("every selector's costs are a model") {
  CHECK_NOTHROW(costs_on(cpu{}, antidiagonal{}).check(false));
  CHECK_NOTHROW(costs_on(cpu{}, pooled_top_k{}).check(false));
  CHECK_NOTHROW(costs_on(cpu{}, moba{}).check(true));
  CHECK_NOTHROW(costs_on(cpu{}, vertical_slash{}).check(true));
}

TEST_CASE("antidiagonal selection: shorter strides and shorter sequences break even earlier") {
  problem p;
  auto const break_even = [&](int length, int stride) {
    p.q_len = p.k_len = length;
    return costs_on(cpu{}, antidiagonal{.stride = stride}).break_even(p, 1);
  };
  for (int length : {512, 2048, 8192}) CHECK(break_even(length, 8) < break_even(length, 16));
  for (int stride : {8, 16}) CHECK(break_even(512, stride) < break_even(8192, stride));
  static_assert(costs_on(cpu{}, antidiagonal{.stride = 1}).select > .5f);
}
