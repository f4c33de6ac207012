// A selector and a router of one's own (custom_selector/heavy_blocks.hpp): which keys count depends on the keys, and so
// does who goes where. One pair of functions serves both of the host's backends, which agree.
#include <random>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/metrics/output_error.hpp>
#include <elastic/metrics/sparsity.hpp>

#include "custom_selector/heavy_blocks.hpp"
#include "support/program.hpp"

void run() {
  using namespace elastic;
  constexpr int seq = 1000, heads = 4, kv_heads = 2, head_dim = 64;
  std::mt19937 random(7);
  auto const tensor = [&](int n) {
    std::vector<float> values(static_cast<std::size_t>(seq * n * head_dim));
    for (float& x : values) x = std::normal_distribution<float>{}(random);
    return values;
  };
  std::vector<float> q_values = tensor(heads), k_values = tensor(kv_heads), v_values = tensor(kv_heads);
  std::vector<float> fast(q_values.size()), exact(fast), dense(fast);
  heads_view<float> const q(q_values.data(), {1, seq, heads, head_dim}),
      k(k_values.data(), {1, seq, kv_heads, head_dim}), v(v_values.data(), {1, seq, kv_heads, head_dim}),
      out(fast.data(), {1, seq, heads, head_dim}), expected(exact.data(), {1, seq, heads, head_dim}),
      full_out(dense.data(), {1, seq, heads, head_dim});
  for (int j = 320; j < 384; ++j)  // the second KV head has a block of heavy keys
    for (int d = 0; d < head_dim; ++d) k(0, j, 1, d) *= 4;

  attention const attend{hybrid{full{}, heavy_blocks{}}, heavy_router{}};
  std::vector<std::int32_t> const route = attend(q, k, v, out);
  attention{attend.mode(), attend.router(), reference{}}(q, k, v, expected);
  attention{full{}}(q, k, v, full_out);
  effective_sparsity const sparsity = count_sparsity(attend, q, k, const_assignment_view(route.data(), {1, heads}));
  std::vector<head_error> const error = output_errors(out, full_out);
  for (int h = 0; h < heads; ++h)
    fmt::print("head {}: {:12}  keeps {:5.1f}% of the pairs, error {:.3f}\n", h,
               route[std::size_t(h)] == 0 ? "full" : "heavy blocks", 100 * (1 - sparsity(0, h).area()),
               error[std::size_t(h)].relative_l2);
  double const worst = output_error(out, expected).relative_maximum;
  fmt::print("cpu and reference differ by {:.1e} of the largest output\n", worst);
  if (!(worst < 1e-4)) throw std::runtime_error("the backends disagree");
  if (route != std::vector<std::int32_t>{0, 0, 1, 1}) throw std::runtime_error("the router is wrong");
}

int main(int argc, char** argv) {
  CLI::App app("A selector and a router of one's own", "custom_selector");
  return examples::run_program(app, argc, argv, run);
}
