// One attention mode over the tensors of a safetensors file, for use from any language:
//
//   apply IN.safetensors --mode streaming --set sink=64 local=256 granularity=token --out OUT.safetensors
//
// reads q, k and v (batch, seq, heads, head_dim), F16, BF16 or F32, as floats (on CUDA in q's type); writes o as well,
// lse (batch, heads, seq), and what a selector chose (apply/chosen.hpp). apply --list names modes and keys.
#include <algorithm>

#include "apply/run.hpp"
#include "support/backends.hpp"
#include "support/output.hpp"
#include "support/program.hpp"

namespace examples {

void print_modes() {
  for_each_mode([](char const* name, auto const& mode, char const* what) {
    fmt::print("{:<15} {}\n", name, what);
    std::string const keys = describe(mode);
    if (!keys.empty()) fmt::print("{:15} {}\n", "", keys);
    if (routes < std::remove_cvref_t < decltype(mode) >>> 1)
      fmt::print("{:15} {} (with --router)\n", "", describe(mlp_router{}));
  });
}

void print_applied(arguments const& given, std::string const& keys, problem const& p, char const* scale_origin,
                   applied const& result) {
  fmt::print(
      "{}{}{}: {} × {} queries, {} keys, {} query heads on {} KV heads of {}, {}causal, softmax scale {} from {}\n",
      given.mode, keys.empty() ? "" : " ", keys, p.batch, p.q_len, p.k_len, p.query_heads, p.kv_heads, p.head_dim,
      p.causal ? "" : "not ", p.softmax_scale, scale_origin);
  if (!given.router.empty()) {
    std::size_t const middle = given.mode.find_first_of("-_");  // of FA-SSA
    auto const second = std::ranges::count_if(result.routes, [](std::int32_t route) { return route != 0; });
    fmt::print("routed {} heads to {}, {} to {}\n", std::ssize(result.routes) - second, given.mode.substr(0, middle),
               second, given.mode.substr(middle + 1));
  }
  bool const sparse = result.pairs.kept < result.pairs.visible;
  fmt::print("keeps {:.1f}% of the (query, key) pairs{}\n", 100 * result.density(),
             sparse ? "" : ", all of them: the same as full attention");
  fmt::print("wrote {}\n", given.output);
}

/// Refuses an output that would replace what it is made of.
std::string checked_output(arguments const& given) {
  std::string const path = output_path("--out", given.output).string();
  std::error_code ignored;  // names without a file are refused later
  for (std::string const& input : {given.input, given.router})
    if (std::filesystem::equivalent(path, input, ignored))
      throw error("--out", elastic::detail::in_quotes(given.output), "another file than the input " + input);
  return path;
}

}  // namespace examples

int main(int argc, char** argv) {
  using namespace examples;
  arguments given;
  CLI::App app("One attention mode over the tensors of a safetensors file", "apply");
  app.add_option("IN", given.input, "safetensors file with q, k, v (batch, seq, heads, head_dim)");
  app.add_option("--mode", given.mode, "which; see --list");
  app.add_option("--set", given.set, "its parameters, key=value …; see --list");
  bool causal = true, bidirectional = false;  // one at most is given
  auto* const causal_flag =
      app.add_flag("--causal", causal, "no key after the query (default, unless the file's metadata causal is false)");
  auto* const no_causal_flag = app.add_flag("--no-causal", bidirectional, "all keys for every query");
  no_causal_flag->excludes(causal_flag);
  app.add_option("--scale", given.scale,
                 "softmax scale; else the file's metadata softmax_scale, else 1/sqrt(head_dim)");
  app.add_option("--prefix", given.prefix, "what the tensors' names begin with, such as layers.15.");
  app.add_option("--backend", given.backend, "cpu, reference (double precision, slow) or cuda");
  add_number(app, "--threads", given.threads, "of the CPU backend; 0 takes every core (default)");
  app.add_option("--router", given.router, "MLP router's weights, which route fa_ssa, fa_xa or xa_ssa from k_pre_rope");
  app.add_option("--out", given.output, "safetensors file to write");
  auto* const list = app.add_flag("--list", given.list, "print all modes and their keys with the defaults");
  return run_program(app, argc, argv, [&] {
    if (given.list) {
      for (CLI::Option const* const other : app.get_options())
        if (other != list && other->count() > 0)
          throw error("--list", other->get_name() + " beside it", "nothing else");
      return print_modes();
    }
    require(!given.input.empty(), "IN", "nothing", "a safetensors file");
    require(!given.mode.empty(), "--mode", "nothing", "one of those that --list prints");
    require(!given.output.empty(), "--out", "nothing", "a file to write");
    check_backend(given.backend);
    if (causal_flag->count() + no_causal_flag->count() > 0) given.causal = causal && !bidirectional;
    given.output = checked_output(given);
    if constexpr (has_cuda)
      if (given.backend == "cuda") return apply_on_cuda(given);
    given.backend == "cpu" ? apply_on_cpu(given) : apply_on_reference(given);
  });
}
