#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <elastic/cpu/panel.hpp>

namespace {

using namespace elastic::detail;

/// Memory aligned for packets.
struct floats {
  std::vector<float> memory;
  float* data;
  explicit floats(int n) : memory(static_cast<std::size_t>(n) + 16) {
    data = memory.data() + Eigen::internal::first_default_aligned(memory.data(), 16);
  }
};

}  // namespace

TEST_CASE("panel products equal plain loops for any number of keys, at any stride") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (int head_dim : {32, 64, 96, 128, 192, 256})
    for (int columns : {1, 2, 3, 5, 6, 7, 8, 9, 13, 31, 64, 127, 128}) {
      int const stride = head_dim + 3;
      floats query(head_dim * panel_rows), scores(columns * panel_rows), output(head_dim * panel_rows),
          scale(panel_rows);
      std::vector<float> keys(static_cast<std::size_t>(columns * stride));
      for (int i = 0; i < head_dim * panel_rows; ++i) query.data[i] = normal(random), output.data[i] = normal(random);
      for (float& x : keys) x = normal(random);
      for (int r = 0; r < panel_rows; ++r) scale.data[r] = normal(random);
      std::vector<float> const before(output.data, output.data + head_dim * panel_rows);

      panel_scores(query.data, {keys.data(), stride}, columns, head_dim, 0.5f, scores.data);
      double worst = 0;
      for (int c = 0; c < columns; ++c)
        for (int r = 0; r < panel_rows; ++r) {
          double dot = 0;
          for (int d = 0; d < head_dim; ++d)
            dot += static_cast<double>(query.data[d * panel_rows + r]) * keys[static_cast<std::size_t>(c * stride + d)];
          worst = std::max(worst, std::abs(0.5 * dot - scores.data[c * panel_rows + r]));
        }
      CHECK(worst < 1e-4);

      panel_output(scores.data, {keys.data(), stride}, columns, head_dim, scale.data, output.data);
      worst = 0;
      for (int d = 0; d < head_dim; ++d)
        for (int r = 0; r < panel_rows; ++r) {
          double sum = static_cast<double>(before[static_cast<std::size_t>(d * panel_rows + r)]) * scale.data[r];
          for (int c = 0; c < columns; ++c)
            sum +=
                static_cast<double>(scores.data[c * panel_rows + r]) * keys[static_cast<std::size_t>(c * stride + d)];
          worst = std::max(worst, std::abs(sum - output.data[d * panel_rows + r]));
        }
      CHECK(worst < 2e-3);
    }
}
