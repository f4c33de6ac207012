// A mode of one's own (custom_mode/dilated_window.hpp) on every backend: the library cuts causality and lengths, and
// the laws check its tiles against its keeps, pair by pair.
#include <array>
#include <random>
#include <string>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/metrics/output_error.hpp>
#include <elastic/testing/laws.hpp>

#include "custom_mode/on_cuda.hpp"
#include "support/backends.hpp"
#include "support/program.hpp"

void check_laws() {
  using namespace elastic;
  for (tile_shape const shape : testing::law_shapes)
    for (int const length : {1, 200, 513})
      if (std::string const broken = testing::broken_law(dilated_window{}, testing::place(length, 513), shape);
          !broken.empty())
        throw std::runtime_error("a law is broken: " + broken);
  fmt::print("the laws hold\n");
}

void run(std::string const& backend) {
  using namespace elastic;
  std::array<std::int64_t, 4> const extents = {1, 2000, 4, 64};  // (batch, seq, heads, head_dim)
  std::mt19937 random(7);
  std::vector<float> values(2000 * 4 * 64), fast(values.size()), exact(values.size());
  for (float& x : values) x = std::normal_distribution<float>{}(random);
  heads_view<float const> const x(values.data(), extents);
  heads_view<float> const out(fast.data(), extents), expected(exact.data(), extents);

  hybrid const mode{full{}, dilated_window{}};  // composes like any other
  ratio_router const router{0.5};
  if (backend == "cpu") attention{mode, router, cpu{}}(x, x, x, out);
  if constexpr (examples::has_cuda)
    if (backend == "cuda") attend_on_cuda(mode, router, x, out);
  attention{mode, router, reference{}}(x, x, x, expected);
  double const worst = output_error(out, expected).relative_maximum;
  fmt::print("{} and reference differ by {:.1e} of the largest output\n", backend, worst);
  if (!(worst < 1e-4)) throw std::runtime_error("the backends disagree");
}

int main(int argc, char** argv) {
  std::string backend = "cpu";
  CLI::App app("A mode of one's own", "custom_mode");
  app.add_option("--backend", backend, "cpu, or cuda where the build has it")->capture_default_str();
  return examples::run_program(app, argc, argv, [&] {
    examples::check_backend(backend, {"cpu"});
    check_laws();
    run(backend);
  });
}
