// The ablation on the beginning of its default input: what it writes is complete and consistent.
#include "program.hpp"

#include <sys/stat.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include <nlohmann/json.hpp>

#include <elastic/io/safetensors.hpp>
#include <elastic/routers/mlp_weights.hpp>

using namespace elastic;
using namespace elastic::testing;
using nlohmann::json;

namespace {

constexpr int seq = 384, heads = 9, kv_heads = 3, group = 3;
std::string const data = ELASTIC_EXAMPLES_DATA "/smollm2-layer15-needle-code-2048.safetensors";

/// The first rows of every tensor, once for each prefix.
safetensors_writer cut(std::vector<std::string> const& prefixes) {
  safetensors_file const file = safetensors_file::open(data);
  safetensors_writer writer;
  for (std::string const& prefix : prefixes)
    for (char const* name : {"q", "k", "v", "k_pre_rope"}) {
      auto const all = file.view<half, 4>(std::string("layers.15.") + name);
      std::vector<half> rows;
      for (int b = 0; b < all.extents[0]; ++b)
        for (int i = 0; i < seq; ++i)
          for (int h = 0; h < all.extents[2]; ++h)
            for (int d = 0; d < all.extents[3]; ++d) rows.push_back(all(b, i, h, d));
      writer.add(prefix + name, {all.extents[0], seq, all.extents[2], all.extents[3]}, rows);
    }
  for (char const* key : {"softmax_scale", "tasks", "model", "causal"}) writer.metadata(key, file.metadata(key));
  return writer;
}

/// Rows by the names in the first line.
std::vector<std::map<std::string, std::string>> read_csv(std::string const& text) {
  std::vector<std::vector<std::string>> lines(1, std::vector<std::string>(1));
  bool quoted = false;
  for (char const c : text) {
    if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      lines.back().emplace_back();
    else if (c == '\n' && !quoted)
      lines.emplace_back(1);
    else
      lines.back().back() += c;
  }
  lines.pop_back();
  std::vector<std::map<std::string, std::string>> rows;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    REQUIRE(lines[i].size() == lines[0].size());
    auto& row = rows.emplace_back();
    for (std::size_t j = 0; j < lines[0].size(); ++j) row[lines[0][j]] = lines[i][j];
  }
  return rows;
}

json const& row_of(json const& all, std::string const& variant, std::string const& router = "") {
  for (json const& row : all["rows"])
    if (row["variant"] == variant && row["router"] == router) return row;
  FAIL("no row " << variant << " " << router);
  return all;
}

std::string title(json const& row) {
  std::string const router = row["router"];
  return row["variant"].get<std::string>() + (router.empty() ? "" : " ") + router;
}

}  // namespace

TEST_CASE("table, CSV and JSON") {
  scratch_folder const here;
  cut({"layers.15."}).write(here / "in");
  outcome const ran = run(here, "--input in --out results --repetitions 1 --threads 2");
  REQUIRE_MESSAGE(ran.status == 0, ran.complained);
  CHECK(ran.complained.find("[22/22] XA-SSA MLP") != std::string::npos);  // progress, in plain lines
  CHECK(ran.complained.find('\r') == std::string::npos);
  for (char const* word : {"sink=16 local=64 granularity=token", "threshold=0.9", "untrained, seed 6",
                           "results/ablation.csv", "results/ablation.json", "needle", "code"})
    CHECK_MESSAGE(ran.said.find(word) != std::string::npos, word);

  json const all = json::parse(contents(here / "results/ablation.json"));
  CHECK(all["input"]["inputs"] == json({"needle", "code"}));
  CHECK(all["input"]["layers"] == json({15}));
  CHECK(all["input"]["softmax_scale"] == 0.125);
  std::set<std::string> variants, routers;
  for (json const& row : all["rows"]) {
    std::string const name = row["variant"].get<std::string>() + " " + row["router"].get<std::string>();
    CAPTURE(name);
    variants.insert(row["variant"]);
    routers.insert(row["router"]);
    double const density = row["density"], area = row["esr_area"], msr = row["msr"], error = row["error"];
    CHECK(density > 0);
    CHECK(density <= 1);
    CHECK(density + area == doctest::Approx(1));  // all heads see equally many pairs
    CHECK(row["full"] == (density == 1));
    CHECK((row["kept_mass"] > 0 && row["kept_mass"] < 1 + 1e-5));
    CHECK((density == 1) == (error < 1e-5));
    CHECK(row["speedup"] > 0);
    CHECK(row["speedup_range"][0] <= row["speedup"]);
    CHECK(row["speedup_range"][1] >= row["speedup"]);
    CHECK(row["untrained"] == (row["router"] == "MLP"));
    if (std::string const note = row["note"]; note.find("the same as ") != std::string::npos) {
      std::string const name = note.substr(note.find("the same as ") + 12);
      auto const other = std::ranges::find_if(all["rows"], [&](json const& r) { return title(r) == name; });
      REQUIRE(other != all["rows"].end());
      for (char const* what : {"density", "error", "kept_mass", "input_errors"}) CHECK(row[what] == (*other)[what]);
    }
    double const total =
        row["route_ms"].get<double>() + row["select_ms"].get<double>() + row["attend_ms"].get<double>();
    CHECK(row["total_ms"] == doctest::Approx(total));

    json const& detail = row["heads"];
    int sparse = 0;
    double sum = 0, kept = 0;
    for (int b = 0; b < 2; ++b) {
      double input = 0;
      REQUIRE(detail["routes"][0][b].size() == heads);
      for (int h = 0; h < heads; ++h) {
        int const route = detail["routes"][0][b][h];
        CHECK(route == detail["routes"][0][b][h / group * group]);
        CHECK(route < static_cast<int>(row["parts"].size()));
        sparse += route;
        input += detail["errors"][0][b][h].get<double>() / heads;
        kept += detail["density"][0][b][h].get<double>() / (2 * heads);
      }
      CHECK(input == doctest::Approx(row["input_errors"][b].get<double>()));
      sum += input / 2;
    }
    CHECK(sum == doctest::Approx(error));
    CHECK(kept == doctest::Approx(density));
    if (row["parts"].size() > 1) CHECK(msr == doctest::Approx(sparse / (2. * heads)));
  }
  CHECK(variants == std::set<std::string>{"FA", "SSA token", "SSA block", "XA", "MoBA", "vertical-slash", "TriangleMix",
                                          "FA-SSA", "FA-XA", "XA-SSA"});
  CHECK(routers == std::set<std::string>{"", "ratio 1/3", "ratio 2/3", "oracle 0.1", "oracle 0.25", "MLP"});
  CHECK(row_of(all, "FA")["density"] == 1);
  CHECK(row_of(all, "FA")["msr"] == 0);
  CHECK(row_of(all, "FA")["note"] == "its speedup is over itself: the noise");
  CHECK(row_of(all, "SSA block")["msr"] == 1);
  CHECK(row_of(all, "FA-SSA", "MLP")["note"] == "untrained, seed 6");
  for (json const& row : all["rows"])  // an oracle that sends every head one way is found out
    if (row["parts"].size() > 1 && (row["msr"] == 0 || row["msr"] == 1))
      CHECK(row["note"].get<std::string>().find("the same as ") != std::string::npos);
  // Heads that go one way in a pair come out as in the mode alone.
  json const &ssa = row_of(all, "SSA block"), &pair = row_of(all, "FA-SSA", "ratio 1/3");
  for (int h = 0; h < heads; ++h) {
    bool const sparse = pair["heads"]["routes"][0][0][h] == 1;
    double const alone = ssa["heads"]["errors"][0][0][h];
    CHECK(pair["heads"]["errors"][0][0][h].get<double>() == doctest::Approx(sparse ? alone : 0));
  }
  // The oracle lets no head through that errs by more than its tolerance.
  for (json const& input : row_of(all, "FA-SSA", "oracle 0.25")["heads"]["errors"][0])
    for (double const error : input) CHECK(error <= 0.25);

  auto const csv = read_csv(contents(here / "results/ablation.csv"));
  REQUIRE(csv.size() == all["rows"].size());
  for (std::size_t i = 0; i < csv.size(); ++i) {
    json const& row = all["rows"][i];
    CHECK(csv[i].at("variant") == row["variant"]);
    CHECK(csv[i].at("router") == row["router"]);
    CHECK(csv[i].at("note") == row["note"]);
    CHECK(csv[i].at("parameters") == row["parameters"]);
    CHECK(std::stod(csv[i].at("error")) == doctest::Approx(row["error"].get<double>()));
    CHECK(std::stod(csv[i].at("error_code")) == doctest::Approx(row["input_errors"][1].get<double>()));
    CHECK(std::stod(csv[i].at("density")) == doctest::Approx(row["density"].get<double>()));
    CHECK(std::stod(csv[i].at("speedup")) == doctest::Approx(row["speedup"].get<double>()));
    CHECK(std::stod(csv[i].at("speedup_min")) == doctest::Approx(row["speedup_range"][0].get<double>()));
    CHECK(std::stod(csv[i].at("speedup_max")) == doctest::Approx(row["speedup_range"][1].get<double>()));
  }
}

TEST_CASE("layers, the papers' parameters, a router from a file, the reference backend") {
  scratch_folder const here;
  cut({"layers.3.", "layers.20."}).write(here / "in");
  auto const results = [&](std::string const& arguments) {
    outcome const ran = run(here, "--input in --out out --repetitions 1 " + arguments);
    REQUIRE_MESSAGE(ran.status == 0, ran.complained);
    return json::parse(contents(here / "out/ablation.json"));
  };
  json const both = results("--paper-defaults");
  CHECK(both["input"]["layers"] == json({3, 20}));
  CHECK(row_of(both, "SSA block")["density"] == 1);
  CHECK(row_of(both, "SSA block")["note"] == "density 1: the same as FA");
  CHECK(row_of(both, "SSA block")["heads"]["routes"].size() == 2);
  CHECK(row_of(both, "TriangleMix")["heads"]["errors"].size() == 2);

  auto const weights = mlp_weights::untrained(64, 6, 21);
  safetensors_writer file;
  for (std::size_t i = 0; i < mlp_layer::names.size(); ++i) {
    linear_layer const& linear = weights.layer(20).linear[i];
    file.add(std::string("layers.20.") + mlp_layer::names[i] + ".weight", {linear.outputs, linear.inputs},
             linear.weight);
    file.add(std::string("layers.20.") + mlp_layer::names[i] + ".bias", {linear.outputs}, linear.bias);
  }
  file.write(here / "router");
  json const loaded = results("--layers 20 --router router"),
             drawn = results("--prefix layers.20. --backend reference");
  CHECK(loaded["input"]["layers"] == json({20}));
  CHECK(row_of(loaded, "FA-XA", "MLP")["note"].get<std::string>().find("untrained") == std::string::npos);
  CHECK(row_of(loaded, "FA-XA", "MLP")["heads"]["routes"] == row_of(drawn, "FA-XA", "MLP")["heads"]["routes"]);
  for (std::size_t i = 0; i < loaded["rows"].size(); ++i) {
    CHECK(loaded["rows"][i]["density"].get<double>() == doctest::Approx(drawn["rows"][i]["density"].get<double>()));
    CHECK(std::abs(loaded["rows"][i]["error"].get<double>() - drawn["rows"][i]["error"].get<double>()) < 1e-4);
  }
}

TEST_CASE("bad input is refused in one line, and nothing is written") {
  scratch_folder const here;
  cut({"layers.15."}).write(here / "in");
  std::string const bytes = contents(here / "in");
  put(here / "truncated", bytes.substr(0, bytes.size() - 7));
  cut({"layers.15."}).metadata("causal", "false").write(here / "bidirectional");
  cut({"layers.15."}).metadata("causal", "maybe").write(here / "maybe");
  cut({"layers.15."}).metadata("softmax_scale", "nan").write(here / "scale");
  auto const write = [&](char const* name, int q_heads, bool before_rope, float value) {
    safetensors_writer file;
    file.add("layers.0.q", {1, 32, q_heads, 32}, std::vector<float>(std::size_t(32 * q_heads * 32), value));
    for (char const* tensor : {"layers.0.k", "layers.0.v"})
      file.add(tensor, {1, 32, 2, 32}, std::vector<float>(32 * 2 * 32));
    if (before_rope) file.add("layers.0.k_pre_rope", {1, 32, 2, 32}, std::vector<float>(32 * 2 * 32));
    file.write(here / name);
  };
  write("heads", 3, true, 0);
  write("no_k_pre_rope", 4, false, 0);
  write("nan", 4, true, std::numeric_limits<float>::quiet_NaN());
  safetensors_writer().add("x", {1}, std::vector<float>(1)).write(here / "others");
  std::size_t const files = here.all_entries();

  struct {
    char const *arguments, *says;
  } const bad[] = {
      {"--input nowhere", "nowhere"},
      {"--input truncated", "truncated"},
      {"--input others", "layers.N.q"},
      {"--input heads", "heads"},
      {"--input no_k_pre_rope", "layers.0.k_pre_rope"},
      {"--input nan", "nan"},
      {"--input bidirectional", "causal"},
      {"--input maybe", "metadata causal: got \"maybe\", expected true or false"},
      {"--input scale", "softmax_scale"},
      {"--input in --layers 3", "layers.3.q"},
      {"--input in --layers three", "three"},
      {"--input in --layers 15 015", "15 twice"},
      {"--input in --layers 15 --layers 15", "15 twice"},
      {"--layers 3", "layers.3.q"},  // the default input is found from here
      {"--input in --prefix layer.", "layer.q"},
      {"--input in --threads -2", "threads"},
      {"--input in --threads 1.5", "1.5"},
      {"--input in --repetitions -1", "repetitions"},
      {"--input in --repetitions 0", "--repetitions: got 0, expected 1 or more"},
      {"--input in --backend abacus", "abacus"},
      {"--input in --router nowhere", "nowhere"},
      {"--input in --router in", "task.0.weight"},
      {"--input in --seed x", "seed"},
      {"--input in --out in", "--out"},
      {"--input in --colour red", "--colour"},
      {"--out= --input in", "--out: got nothing"},
      {"--input in --repetitions= --out out", "--repetitions: got nothing"},
      {"more", "more"},
  };
  for (auto const& [arguments, says] : bad) {
    std::string const line = arguments;
    CAPTURE(line);
    CHECK(run(here, line).refused(says));
    CHECK(here.all_entries() == files);
  }
}

TEST_CASE("results take the names of no one else's files") {
  scratch_folder const here;
  cut({"layers.15."}).write(here / "in");
  std::filesystem::create_directories(here / "out/ablation.json.tmp");
  put(here / "other", "old");
  std::filesystem::create_symlink("../other", here / "out/ablation.csv.tmp");
  std::filesystem::create_symlink("../other", here / "out/.elastic-0.tmp");
  REQUIRE(mkfifo((here / "out/.elastic-1.tmp").c_str(), 0600) == 0);
  std::size_t const files = here.all_entries();
  outcome const ran = run(here, "--input in --out out --repetitions 1");
  REQUIRE_MESSAGE(ran.status == 0, ran.complained);
  CHECK(contents(here / "other") == "old");
  CHECK(std::filesystem::is_directory(here / "out/ablation.json.tmp"));
  CHECK(here.all_entries() == files + 2);
}
