// The front door: four full heads and four streaming heads in one call. quickstart --backend cuda does the same on a
// device, where the build has CUDA (quickstart/on_cuda.cu).
#include <random>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/metrics/output_error.hpp>
#include <elastic/metrics/sparsity.hpp>

#include "quickstart/on_cuda.hpp"
#include "support/backends.hpp"
#include "support/program.hpp"

void run(std::string const& backend) {
  using namespace elastic;
  constexpr int batch = 1, seq = 1024, heads = 8, kv_heads = 2, head_dim = 64;
  std::mt19937 random(7);
  auto const tensor = [&](int n) {
    std::vector<float> values(static_cast<std::size_t>(batch * seq * n * head_dim));
    for (float& x : values) x = std::normal_distribution<float>{}(random);
    return values;
  };
  std::vector<float> q_values = tensor(heads), k_values = tensor(kv_heads), v_values = tensor(kv_heads);
  std::vector<float> out_values(q_values.size()), full_values(q_values.size());
  heads_view<float const> const q(q_values.data(), {batch, seq, heads, head_dim});  // any strides will do
  heads_view<float const> const k(k_values.data(), {batch, seq, kv_heads, head_dim});
  heads_view<float const> const v(v_values.data(), {batch, seq, kv_heads, head_dim});
  heads_view<float> const out(out_values.data(), {batch, seq, heads, head_dim});
  heads_view<float> const full_out(full_values.data(), {batch, seq, heads, head_dim});

  attention attend{hybrid{full{}, streaming{.sink = 1, .local = 2}}, ratio_router{0.5}, cpu{}};
  std::vector<std::int32_t> route;  // who went where
  if (backend == "cpu") route = attend(q, k, v, out);
  if constexpr (examples::has_cuda)
    if (backend == "cuda") route = attend_on_cuda(attend.mode(), attend.router(), q, k, v, out);

  attention{full{}}(q, k, v, full_out);
  std::vector<head_error> const error = output_errors(out, full_out);
  effective_sparsity const sparsity = count_sparsity(attend, q, k, const_assignment_view(route.data(), {batch, heads}));
  for (int h = 0; h < heads; ++h)
    fmt::print("head {}: {:9}  keeps {:5.1f}% of the pairs, error {:.3f}\n", h,
               route[std::size_t(h)] == 0 ? "full" : "streaming", 100 * (1 - sparsity(0, h).area()),
               error[std::size_t(h)].relative_l2);
}

int main(int argc, char** argv) {
  std::string backend = "cpu";
  CLI::App app("The front door in one call", "quickstart");
  app.add_option("--backend", backend, "cpu, or cuda where the build has it")->capture_default_str();
  return examples::run_program(app, argc, argv, [&] {
    examples::check_backend(backend, {"cpu"});
    run(backend);
  });
}
