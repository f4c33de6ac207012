// The cost models of the CUDA backend against the figures that they are written from.
#include <elastic/cuda/costs.hpp>

#include <doctest/doctest.h>

using namespace elastic;

namespace {

/// Selection by the model ÷ full attention.
double selection(cuda_kernel kernel, int length, int heads, antidiagonal const& s = {}) {
  cost_model const costs = costs_on(kernel, s);
  problem p;
  p.q_len = p.k_len = length;
  double const pairs = heads * cost_model::pairs_of(p);
  return costs.select + (costs.select_once + double(costs.select_row) * heads * length) / pairs;
}

}  // namespace

TEST_CASE("selection as it was timed, within a fifth") {
  // Lengths, ms of selection and of full attention, 32 heads: by bench/results/h200-select-blocks.md and h200.md.
  CHECK(selection(cuda_kernel::portable, 8192, 32) == doctest::Approx(0.149 / 1.477).epsilon(.2));
  CHECK(selection(cuda_kernel::portable, 16384, 32) == doctest::Approx(0.357 / 5.609).epsilon(.2));
  CHECK(selection(cuda_kernel::portable, 32768, 32) == doctest::Approx(1.000 / 22.865).epsilon(.2));
  // By break_even.cu, in turn.
  CHECK(selection(cuda_kernel::sm90, 8192, 32) == doctest::Approx(0.128 / 0.729).epsilon(.2));
  CHECK(selection(cuda_kernel::sm90, 16384, 32) == doctest::Approx(0.290 / 3.06).epsilon(.2));
  CHECK(selection(cuda_kernel::sm90, 32768, 32) == doctest::Approx(0.793 / 12.2).epsilon(.2));
  CHECK(selection(cuda_kernel::sm90, 65536, 32) == doctest::Approx(2.49 / 49.0).epsilon(.2));
}

TEST_CASE("half the stride is twice the products, and lists cost something") {
  for (cuda_kernel const kernel : {cuda_kernel::portable, cuda_kernel::sm90}) {
    CHECK(costs_on(kernel, antidiagonal{.stride = 8}).select == 2 * costs_on(kernel, antidiagonal{}).select);
    CHECK(costs_on(kernel, antidiagonal{}).listed > 1);
    CHECK_NOTHROW(costs_on(kernel, antidiagonal{}).check(false));
  }
}
