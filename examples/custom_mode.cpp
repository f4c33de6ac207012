// A mode of one's own: a dilated window. The struct is all a researcher writes; both backends run it, the library cuts
// causality and lengths, and the laws check its tiles against its keeps, pair by pair.
#include <array>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <elastic/attention.hpp>
#include <elastic/metrics/output_error.hpp>
#include <elastic/testing/laws.hpp>

struct dilated_window {
  int keys = 64;
  int step = 4;  // every step-th key, the query itself first

  ELASTIC_HOST_DEVICE bool keeps(elastic::where const& w, int q, int k) const {
    int const distance = w.position(q) - k;
    return distance >= 0 && distance < keys * step && distance % step == 0;
  }

  // Optional: which key tiles a tile of queries visits. Without it, all are asked.
  static constexpr bool has_partial = true;  // keeps has to be asked inside a tile
  static constexpr int spans_max = 1;
  ELASTIC_HOST_DEVICE elastic::span_array<1> spans(elastic::where const& w, int q_tile,
                                                   elastic::tile_shape shape) const {
    elastic::tile_rows const rows(w, q_tile, shape);
    int const begin = elastic::maximum(w.position(rows.first) - keys * step + 1, 0) / shape.columns;
    int const end = elastic::maximum(w.position(rows.last), -1) / shape.columns + 1;
    return {{{begin, elastic::minimum(end, elastic::ceil_div(w.k_len, shape.columns)), elastic::coverage::partial}}};
  }
};

static_assert(elastic::span_mode<dilated_window>);

int main() {
  using namespace elastic;
  for (tile_shape const shape : testing::law_shapes)
    for (int const length : {1, 200, 513})
      if (std::string const broken = testing::broken_law(dilated_window{}, testing::place(length, 513), shape);
          !broken.empty()) {
        fmt::print("a law is broken: {}\n", broken);
        return 1;
      }
  fmt::print("the laws hold\n");

  std::array<std::int64_t, 4> const extents = {1, 2000, 4, 64};  // (batch, seq, heads, head_dim)
  std::mt19937 random(7);
  std::vector<float> values(2000 * 4 * 64), fast(values.size()), exact(values.size());
  for (float& x : values) x = std::normal_distribution<float>{}(random);
  heads_view<float const> const x(values.data(), extents);
  heads_view<float> const out(fast.data(), extents), expected(exact.data(), extents);

  hybrid const mode{full{}, dilated_window{}};  // composes like any other
  attention{mode, ratio_router{0.5}, cpu{}}(x, x, x, out);
  attention{mode, ratio_router{0.5}, reference{}}(x, x, x, expected);
  double const worst = output_error(out, expected).relative_maximum;
  fmt::print("cpu and reference differ by {:.1e} of the largest output\n", worst);
  return worst < 1e-4 ? 0 : 1;
}
