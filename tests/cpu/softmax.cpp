#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <elastic/cpu/softmax.hpp>

namespace {

using namespace elastic::detail;
constexpr float none = -std::numeric_limits<float>::infinity();

float packet_exp(float x) { return Eigen::internal::pfirst(exp_of_negative(Eigen::internal::pset1<packet>(x))); }

}  // namespace

TEST_CASE("exp of negative numbers, in both forms") {
  double worst = 0;
  for (float x = 0; x > -87.3f; x -= 0.00037f)
    for (float const y : {exp_of_negative(x), packet_exp(x)})
      worst = std::max(worst, std::abs(static_cast<double>(y) / std::exp(static_cast<double>(x)) - 1));
  CHECK(worst < 3e-7);
  for (float const x : {-87.31f, -100.f, -1e30f, none}) {
    CHECK(exp_of_negative(x) == 0);
    CHECK(packet_exp(x) == 0);
  }
  CHECK(exp_of_negative(0) == 1);
  CHECK(packet_exp(0) == 1);
}

TEST_CASE("online softmax over runs equals softmax over all, and rows that see nothing stay empty") {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0, 4);
  constexpr int runs = 5, columns = 37;
  alignas(64) float scores[columns * panel_rows], highest[panel_rows], total[panel_rows], scale[panel_rows];
  std::vector<double> expected(panel_rows, 0), running(panel_rows, 0);
  std::fill_n(highest, panel_rows, none);
  std::fill_n(total, panel_rows, 0.f);
  for (int i = 0; i < runs; ++i) {
    for (int c = 0; c < columns; ++c)
      for (int r = 0; r < panel_rows; ++r) {
        bool const hidden = r == 1 || (r == 2 && i < 2);  // never sees a key; sees none at first
        float const s = hidden ? none : normal(random);
        scores[c * panel_rows + r] = s;
        expected[static_cast<std::size_t>(r)] += std::exp(static_cast<double>(s));
      }
    online_softmax(scores, columns, highest, total, scale);
    for (int r = 0; r < panel_rows; ++r) {
      double sum = 0;
      for (int c = 0; c < columns; ++c) sum += scores[c * panel_rows + r];
      auto& at = running[static_cast<std::size_t>(r)];
      at = at * scale[r] + sum;
    }
  }
  for (int r = 0; r < panel_rows; ++r) {
    auto const n = static_cast<std::size_t>(r);
    if (r == 1) {
      CHECK(total[r] == 0);
      CHECK(highest[r] == none);
      continue;
    }
    CHECK(std::log(total[r]) + highest[r] == doctest::Approx(std::log(expected[n])).epsilon(1e-5));
    CHECK(running[n] == doctest::Approx(total[r]).epsilon(1e-5));
  }
}
