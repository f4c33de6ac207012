// The ablation: variants of elastic attention × routers on the queries, keys and values of a real model. Prints a table
// and writes it, with the detail of every head, as CSV and JSON; plot.py draws it.
//
//   ablation [--input CAPTURE.safetensors] [--out FOLDER]
#include <algorithm>
#include <filesystem>
#include <optional>
#include <sstream>

#include "ablation/grid.hpp"
#include "ablation/report.hpp"
#include "support/backends.hpp"
#include "support/output.hpp"
#include "support/program.hpp"

namespace examples {

struct arguments {
  std::string input, prefix, out = "ablation", backend = "cpu", router;
  std::vector<std::string> layers;
  int threads = 0;
  std::optional<int> repetitions;
  std::uint64_t seed = 6;  // whose decisions differ between the two inputs of the default capture
  bool paper_defaults = false;

  int timed() const { return repetitions.value_or(backend == "reference" ? 1 : 5); }
};

std::vector<std::string> split(std::string const& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// The prefixes asked for, or all that the file has.
std::vector<std::string> chosen_prefixes(safetensors_file const& file, arguments const& given) {
  if (!given.prefix.empty()) return {given.prefix};
  std::vector<std::string> chosen;
  for (std::string const& text : given.layers) {
    int const layer = parse_number<int>("--layers", text);
    std::string const prefix = fmt::format("layers.{}.", layer);
    if (std::ranges::find(chosen, prefix) != chosen.end())
      throw error("--layers", fmt::format("{} twice", layer), "every layer once");
    chosen.push_back(prefix);
  }
  if (chosen.empty()) chosen = layer_prefixes(file);
  require(!chosen.empty(), given.input.c_str(), "no tensor layers.N.q", "the queries of at least one layer");
  return chosen;
}

std::vector<layer_run> load_layers(safetensors_file const& file, arguments const& given) {
  require(causal_in(file).value_or(true), "metadata causal", "false", "causal attention");
  std::vector<layer_run> layers;
  for (std::string const& prefix : chosen_prefixes(file, given)) {
    layer_run& layer = layers.emplace_back();
    layer.in = layer_inputs::load(file, prefix);
    if (layer.in.k_pre_rope.values.empty()) file.entry(prefix + "k_pre_rope");  // throws
    layer.in.require_finite();
    layer.o = {.softmax_scale = scale_in(file), .layer = layer.in.layer, .threads = given.threads};
    require(layer.in.q.shape == layers.front().in.q.shape && layer.in.k.shape == layers.front().in.k.shape,
            prefix.c_str(), "other shapes", "the same in all layers");
    make_problem<float>(layer.q(), layer.k(), layer.o);  // the shapes fit each other
    auto const [batch, seq, heads, head_dim] = layer.in.k.shape;
    elastic::detail::check_shape("v", layer.v(), batch, seq, heads, head_dim);
    elastic::detail::check_shape("k_pre_rope", layer.in.k_pre_rope.view(), batch, seq, heads, head_dim);
    layer.out.resize(layer.in.q.values.size());
    layer.lse.resize(layer.out.size() / static_cast<std::size_t>(layer.in.q.shape[3]));
    layer.routes.resize(static_cast<std::size_t>(layer.batch() * layer.heads()));
  }
  problem const p = make_problem<float>(layers.front().q(), layers.front().k());
  require(p.batch > 0 && p.q_len > 0 && p.k_len > 0, "q, k", "no rows", "at least one query and one key");
  return layers;
}

setting describe_setting(safetensors_file const& file, std::vector<layer_run> const& layers, arguments const& given) {
  problem const p = make_problem<float>(layers.front().q(), layers.front().k(), layers.front().o);
  auto const metadata = [&](char const* key) {
    auto const found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : printable(found->second);
  };
  setting s;
  s.input = printable(std::filesystem::path(given.input).filename().string());
  s.model = metadata("model");
  s.backend = given.backend;
  s.router_file = given.router;
  s.tasks = split(metadata("tasks"), ',');
  if (s.tasks.size() != static_cast<std::size_t>(p.batch)) {
    s.tasks.clear();
    for (int b = 0; b < p.batch; ++b) s.tasks.push_back(fmt::format("input {}", b));
  }
  for (layer_run const& layer : layers) s.layers.push_back(layer.in.layer);
  s.batch = p.batch;
  s.q_len = p.q_len;
  s.k_len = p.k_len;
  s.query_heads = p.query_heads;
  s.kv_heads = p.kv_heads;
  s.head_dim = p.head_dim;
  s.softmax_scale = p.softmax_scale;
  s.threads = p.threads;
  s.repetitions = given.timed();
  s.seed = given.seed;
  s.paper_defaults = given.paper_defaults;
  return s;
}

/// For the numbers that no input has: the narrowest layer that fits beside `other`.
mlp_layer narrow_layer(mlp_layer const& other) {
  int const widths[] = {other.linear.front().inputs, 1, 1, 1, 1, other.linear.back().outputs};
  mlp_layer layer;
  for (std::size_t i = 0; i < layer.linear.size(); ++i) layer.linear[i] = linear_layer::zeros(widths[i], widths[i + 1]);
  return layer;
}

/// One set of weights for all layers of the file, in the places of their numbers.
mlp_router make_router(arguments const& given, std::vector<layer_run> const& layers) {
  int last = 0;
  for (layer_run const& layer : layers) last = maximum(last, layer.in.layer);
  require(last < 4096, "layer", last, "below 4096");
  if (given.router.empty())
    return {.weights = mlp_weights::untrained(static_cast<int>(layers.front().in.k.shape[3]), given.seed, last + 1)};
  safetensors_file const file = safetensors_file::open(given.router);
  std::vector<mlp_layer> all(static_cast<std::size_t>(last) + 1);
  for (layer_run const& layer : layers)
    all[static_cast<std::size_t>(layer.in.layer)] = load_router(file, layer.in.prefix).layer(0);
  mlp_layer const narrow = narrow_layer(all[static_cast<std::size_t>(layers.front().in.layer)]);
  for (mlp_layer& layer : all)
    if (layer.linear.front().inputs == 0) layer = narrow;
  return {.weights = mlp_weights(std::move(all))};
}

std::vector<variant> make_grid(std::string const& backend, parameters const& p, mlp_router const& router,
                               int kv_heads) {
  if constexpr (has_cuda)
    if (backend == "cuda") return make_cuda_grid(p, router, kv_heads);
  return backend == "cpu" ? make_cpu_grid(p, router, kv_heads) : make_reference_grid(p, router, kv_heads);
}

void print_setting(setting const& s, std::vector<variant> const& grid) {
  fmt::print("{}{}: {} input{} ({}), {} queries, {} keys, {} query heads on {} KV heads of {}, layer{} {}\n", s.input,
             s.model.empty() ? "" : " of " + s.model, s.batch, s.batch == 1 ? "" : "s", fmt::join(s.tasks, ", "),
             s.q_len, s.k_len, s.query_heads, s.kv_heads, s.head_dim, s.layers.size() == 1 ? "" : "s",
             fmt::join(s.layers, ", "));
  fmt::print("backend {}, {} thread{}, {} repetition{}, softmax scale {}; {}:\n", s.backend, s.threads,
             s.threads == 1 ? "" : "s", s.repetitions, s.repetitions == 1 ? "" : "s", s.softmax_scale,
             s.paper_defaults ? "the papers' parameters" : "parameters scaled to the input's length");
  for (variant const& v : grid)
    if (v.router.empty() && !v.parameters.empty()) fmt::print("  {:<15} {}\n", v.name, v.parameters);
  fmt::print("SSA in a pair is by block. An MLP router decides from the keys before RoPE: {}.\n\n",
             s.router_file.empty() ? fmt::format("untrained weights, seed {}", s.seed) : s.router_file);
}

void print_legend(setting const& s) {
  fmt::print(R"(
density: kept pairs over causal pairs. MSR: share of heads on the second mode of a pair; 1 for a sparse mode alone. ESR:
pruned share of keys, by the last query and by all. Times: medians of {} repetition{}; total is route + select + attend,
without the oracle's routing, which runs both modes. speedup: FA's time over the row's total within a repetition, in
which they run in turn: the median, and the smallest and the largest, within which nothing is told apart. error: relative
L2 against FA, mean over heads, of all inputs and of each; an oracle's tolerance is against the first mode of the pair.
mass: full attention's weight on what is kept.
)",
             s.repetitions, s.repetitions == 1 ? "" : "s");
}

void run(arguments const& given) {
  safetensors_file const file = safetensors_file::open(given.input);
  std::vector<layer_run> layers = load_layers(file, given);
  setting const s = describe_setting(file, layers, given);
  parameters const chosen = given.paper_defaults ? parameters::of_papers() : parameters::scaled_to(s.k_len);
  mlp_router const router = make_router(given, layers);
  std::vector<variant> const grid = make_grid(given.backend, chosen, router, s.kv_heads);
  for (variant const& v : grid)
    for (layer_run& layer : layers) v.prepare(layer);
  attend_fully(grid.front(), layers);  // nothing below refuses the input
  std::filesystem::path const folder = given.out;
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  require(std::filesystem::is_directory(folder, failure), "--out", given.out, "a folder, or a place for one");
  std::filesystem::path const csv = output_path("--out", folder / "ablation.csv"),
                              json = output_path("--out", folder / "ablation.json");

  print_setting(s, grid);
  table const out(s);
  out.print_head();
  progress running(grid.size());
  std::vector<row_result> rows;
  for (variant const& v : grid) {
    running.begin(v);
    row_result row = measure(grid.front(), v, layers, s.repetitions);
    auto const same = std::ranges::find(rows, row.modes(), &row_result::modes);
    if (same != rows.end()) row.same_as = same->title();
    rows.push_back(std::move(row));
    running.clear();
    out.print(rows.back());
  }
  print_legend(s);
  write_files("--out", {{csv, to_csv(s, rows)}, {json, to_json(s, rows)}});
  fmt::print("\nWrote {} and {}.\n", csv.string(), json.string());
}

/// The capture that comes with the examples, from any working directory.
std::string default_input() { return ELASTIC_EXAMPLES_DATA "/smollm2-layer15-needle-code-2048.safetensors"; }

}  // namespace examples

int main(int argc, char** argv) {
  using namespace examples;
  arguments given;
  given.input = default_input();
  CLI::App app("Variants of elastic attention on the activations of a real model", "ablation");
  app.add_option("--input", given.input, "safetensors capture with layers.N.q, k, v and k_pre_rope")
      ->capture_default_str();
  auto* const layers =
      app.add_option("--layers", given.layers, "numbers of the layers to take (default: all in the file)");
  app.add_option("--prefix", given.prefix, "what the tensors' names begin with, instead of layers.N.")
      ->excludes(layers);
  app.add_option("--out", given.out, "folder for ablation.csv and ablation.json")->capture_default_str();
  app.add_option("--backend", given.backend, "cpu, reference (double precision, minutes), or cuda (bfloat16)")
      ->capture_default_str();
  add_number(app, "--threads", given.threads, "of the CPU backend; 0 takes every core")->default_str("0");
  add_number(app, "--repetitions", given.repetitions, "of every timing (default: 5; 1 for reference)");
  app.add_flag("--paper-defaults", given.paper_defaults, "the papers' parameters, meant for 8K tokens and more");
  app.add_option("--router", given.router, "safetensors file with an MLP router's weights");
  add_number(app, "--seed", given.seed, "of the untrained MLP router")->default_str(number_text(given.seed));
  return run_program(app, argc, argv, [&] {
    check_backend(given.backend);
    require(given.timed() >= 1, "--repetitions", given.timed(), "1 or more");
    run(given);
  });
}
