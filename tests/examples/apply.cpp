// `apply` as a user of another language meets it: files in, files out.
#include "program.hpp"

#include <sys/stat.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <elastic/io/safetensors.hpp>
#include <elastic/routers/mlp_weights.hpp>
#include <support/dice.hpp>

using namespace elastic;
using namespace elastic::testing;

namespace {

constexpr int batch = 2, seq = 300, heads = 4, kv_heads = 2, head_dim = 32, group = heads / kv_heads;

struct inputs {
  std::vector<float> q, k, v, k_pre_rope;
  std::vector<std::uint8_t> block_mask;  // (batch, heads, 3, 3)

  inputs() {
    dice r(5);
    auto const fill = [&](int n) {
      std::vector<float> values(static_cast<std::size_t>(batch * seq * n * head_dim));
      for (float& x : values) x = static_cast<float>(half(r.normal()));  // exact in F16 too
      return values;
    };
    q = fill(heads), k = fill(kv_heads), v = fill(kv_heads), k_pre_rope = fill(kv_heads);
    for (int i = 0; i < batch * heads * 9; ++i) block_mask.push_back(r.one_in(2) ? 1 : 0);
  }

  template <class T = float>
  safetensors_writer writer(std::string const& prefix = "") const {
    auto const as = [](std::vector<float> const& values) { return std::vector<T>(values.begin(), values.end()); };
    safetensors_writer file;
    file.add(prefix + "q", {batch, seq, heads, head_dim}, as(q))
        .add(prefix + "k", {batch, seq, kv_heads, head_dim}, as(k));
    file.add(prefix + "v", {batch, seq, kv_heads, head_dim}, as(v));
    file.add(prefix + "k_pre_rope", {batch, seq, kv_heads, head_dim}, as(k_pre_rope));
    file.add(prefix + "block_mask", {batch, heads, 3, 3}, block_mask);
    return file;
  }
};

inputs const& given() {
  static inputs const all;
  return all;
}

struct result {
  safetensors_file file;
  std::vector<float> o, lse;
  explicit result(std::filesystem::path const& path)
      : file(safetensors_file::open(path)), o(file.load<float>("o")), lse(file.load<float>("lse")) {
    CHECK(file.dtype("o") == safetensors_dtype::f32);
    CHECK(file.shape("o") == std::vector<std::int64_t>{batch, seq, heads, head_dim});
    CHECK(file.shape("lse") == std::vector<std::int64_t>{batch, heads, seq});
  }
};

double difference(std::vector<float> const& a, std::vector<float> const& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i]) worst = std::max(worst, std::abs(double(a[i]) - double(b[i])));
  return worst;
}

/// Softmax over the pairs that `keeps(batch, head, query, key)` says, by the textbook.
double error_against(result const& got, float scale, std::function<bool(int, int, int, int)> const& keeps) {
  double worst = 0;
  auto const at = [](std::vector<float> const& x, int b, int i, int h, int n) {
    return x.data() + ((b * seq + i) * n + h) * head_dim;
  };
  for (int b = 0; b < batch; ++b)
    for (int h = 0; h < heads; ++h)
      for (int i = 0; i < seq; i += 7) {
        std::vector<double> o(head_dim);
        double sum = 0;
        for (int j = 0; j < seq; ++j) {
          if (!keeps(b, h, i, j)) continue;
          double s = 0;
          for (int d = 0; d < head_dim; ++d)
            s += double(at(given().q, b, i, h, heads)[d]) * double(at(given().k, b, j, h / group, kv_heads)[d]);
          double const p = std::exp(s * double(scale));
          sum += p;
          for (int d = 0; d < head_dim; ++d)
            o[std::size_t(d)] += p * double(at(given().v, b, j, h / group, kv_heads)[d]);
        }
        float const lse = got.lse[std::size_t((b * heads + h) * seq + i)];
        if (sum == 0) {
          CHECK(lse == -std::numeric_limits<float>::infinity());
          sum = 1;
        } else {
          worst = std::max(worst, std::abs(double(lse) - std::log(sum)));
        }
        for (int d = 0; d < head_dim; ++d)
          worst = std::max(worst, std::abs(o[std::size_t(d)] / sum - double(at(got.o, b, i, h, heads)[d])));
      }
  return worst;
}

float const usual_scale = 1 / std::sqrt(float(head_dim));
constexpr double tolerance = 2e-5;

std::string const modes[] = {"full",
                             "sliding_window --set window=70",
                             "streaming --set sink=1 local=1",
                             "streaming --set sink=5 local=64 granularity=token",
                             "streaming --set local=2 alignment=query_block",
                             "triangle --set sink=3 local=40 last=20 layer_threshold=0",
                             "block_sparse",
                             "antidiagonal --set threshold=0.5",
                             "antidiagonal --set threshold=0.5 rule=first_chunk stride=8",
                             "pooled_top_k --set k=2",
                             "moba --set block=32 k=3",
                             "vertical_slash --set columns=35 offsets=60 forced_columns=10 forced_offsets=20",
                             "top_k --set k=9"};

}  // namespace

TEST_CASE("every mode: cpu and reference agree, and write what was chosen") {
  scratch_folder const here;
  given().writer().write(here / "in.safetensors");
  for (std::string const& mode : modes) {
    CAPTURE(mode);
    for (char const* backend : {"cpu", "reference"}) {
      outcome const ran = run(here, "in.safetensors --mode " + mode + " --backend " + backend + " --out " + backend);
      CHECK_MESSAGE(ran.status == 0, ran.complained);
      CHECK(ran.complained.empty());
    }
    result const fast(here / "cpu"), exact(here / "reference");
    CHECK(difference(fast.o, exact.o) < tolerance);
    CHECK(difference(fast.lse, exact.lse) < tolerance);
    CHECK(fast.file.names().size() == exact.file.names().size());
    for (std::string const& name : fast.file.names())
      if (fast.file.dtype(name) == safetensors_dtype::u8)
        CHECK(fast.file.load<std::uint8_t>(name) == exact.file.load<std::uint8_t>(name));
  }
}

TEST_CASE("outputs are the softmax over what the files say was kept") {
  scratch_folder const here;
  given().writer().write(here / "in.safetensors");
  auto const apply = [&](std::string const& arguments) {
    outcome const ran = run(here, "in.safetensors --out out " + arguments);
    REQUIRE_MESSAGE(ran.status == 0, ran.complained);
    return result(here / "out");
  };
  for (char const* causal : {"", " --causal", " --causal=true", " --no-causal=false"})
    CHECK(error_against(apply(std::string("--mode full") + causal), usual_scale,
                        [](int, int, int i, int j) { return j <= i; }) < tolerance);
  for (char const* every_key : {" --no-causal", " --no-causal=true", " --causal=false"})
    CHECK(error_against(apply(std::string("--mode full") + every_key), usual_scale,
                        [](int, int, int, int) { return true; }) < tolerance);
  CHECK(error_against(apply("--mode sliding_window --set window=9"), usual_scale,
                      [](int, int, int i, int j) { return j <= i && i - j < 9; }) < tolerance);
  CHECK(error_against(apply("--mode block_sparse"), usual_scale, [&](int b, int h, int i, int j) {
          return j <= i && given().block_mask[std::size_t(((b * heads + h) * 3 + i / 128) * 3 + j / 128)] != 0;
        }) < tolerance);
  for (char const* mode :
       {"antidiagonal --set threshold=0.4", "pooled_top_k --set k=2 block_rows=128 block_columns=128"}) {
    result const got = apply(std::string("--mode ") + mode);
    REQUIRE(got.file.shape("block_mask") == std::vector<std::int64_t>{batch, heads, 3, 3});
    auto const mask = got.file.load<std::uint8_t>("block_mask");
    CHECK(error_against(got, usual_scale, [&](int b, int h, int i, int j) {
            return j <= i && mask[std::size_t(((b * heads + h) * 3 + i / 128) * 3 + j / 128)] != 0;
          }) < tolerance);
  }
  {
    result const got = apply("--mode moba --set block=32 k=3");
    REQUIRE(got.file.shape("select") == std::vector<std::int64_t>{batch, heads, seq, 10});
    auto const select = got.file.load<std::uint8_t>("select");
    CHECK(error_against(got, usual_scale, [&](int b, int h, int i, int j) {
            return j <= i && select[std::size_t(((b * heads + h) * seq + i) * 10 + j / 32)] != 0;
          }) < tolerance);
  }
  {
    result const got = apply("--mode vertical_slash --set columns=35 offsets=60 forced_columns=10 forced_offsets=20");
    REQUIRE(got.file.shape("columns") == std::vector<std::int64_t>{batch, heads, seq});
    REQUIRE(got.file.shape("offsets") == std::vector<std::int64_t>{batch, heads, seq});
    auto const columns = got.file.load<std::uint8_t>("columns"), offsets = got.file.load<std::uint8_t>("offsets");
    CHECK(error_against(got, usual_scale, [&](int b, int h, int i, int j) {
            std::size_t const head = std::size_t((b * heads + h) * seq);
            bool kept = columns[head + std::size_t(j)] != 0;
            int const blocks = i / 64 - j / 64;  // a slash is widened to blocks of 64
            for (int o = std::max(0, 64 * (blocks - 1) + 1); o < std::min(seq, 64 * (blocks + 1)); ++o)
              kept = kept || (offsets[head + std::size_t(o)] != 0);
            return j <= i && kept;
          }) < tolerance);
  }
}

TEST_CASE("dtypes, prefixes, scales and causality") {
  scratch_folder const here;
  given().writer().write(here / "f32");
  given().writer<half>("layers.3.").metadata("softmax_scale", "0.25").write(here / "f16");
  given().writer<bfloat16>().write(here / "bf16");
  safetensors_writer mixed;
  mixed.add("q", {batch, seq, heads, head_dim}, given().q);
  mixed.add("k", {batch, seq, kv_heads, head_dim}, std::vector<half>(given().k.begin(), given().k.end()));
  mixed.add("v", {batch, seq, kv_heads, head_dim}, std::vector<bfloat16>(given().v.begin(), given().v.end()));
  mixed.write(here / "mixed");
  given().writer().metadata("causal", "false").write(here / "bidirectional");
  auto const causal = [](int, int, int i, int j) { return j <= i; };
  auto const every_key = [](int, int, int, int) { return true; };
  auto const apply = [&](std::string const& arguments, char const* says) {
    outcome const ran = run(here, arguments + " --mode full --out out --threads 1");
    REQUIRE_MESSAGE(ran.status == 0, ran.complained);
    CHECK(ran.said.find(says) != std::string::npos);
    return result(here / "out");
  };
  CHECK(error_against(apply("f32 --scale 0.5", "0.5 from --scale"), 0.5f, causal) < tolerance);
  CHECK(error_against(apply("f16 --prefix layers.3.", "0.25 from the file's metadata"), 0.25f, causal) < tolerance);
  CHECK(error_against(apply("f16 --prefix layers.3. --scale 0.125", "0.125 from --scale"), 0.125f, causal) < tolerance);
  CHECK(error_against(apply("bf16", "1/sqrt(head_dim)"), usual_scale, causal) < 0.05);  // q, k and v were rounded
  CHECK(error_against(apply("mixed", "1/sqrt(head_dim)"), usual_scale, causal) < 0.05);
  CHECK(error_against(apply("bidirectional", ", not causal"), usual_scale, every_key) < tolerance);
  CHECK(error_against(apply("bidirectional --causal", ", causal"), usual_scale, causal) < tolerance);
}

TEST_CASE("an MLP router routes a pair") {
  scratch_folder const here;
  given().writer("layers.7.").write(here / "in");
  auto const weights = mlp_weights::untrained(head_dim, 3);
  auto const write_router = [&](std::string const& prefix, std::string const& name) {
    safetensors_writer file;
    for (std::size_t i = 0; i < mlp_layer::names.size(); ++i) {
      linear_layer const& linear = weights.layer(0).linear[i];
      file.add(prefix + mlp_layer::names[i] + ".weight", {linear.outputs, linear.inputs}, linear.weight);
      file.add(prefix + mlp_layer::names[i] + ".bias", {linear.outputs}, linear.bias);
    }
    file.write(here / name);
  };
  write_router("", "router");
  write_router("layers.7.", "numbered");
  auto const apply = [&](std::string const& arguments) {
    outcome const ran = run(here, "in --prefix layers.7. --out out " + arguments);
    REQUIRE_MESSAGE(ran.status == 0, ran.complained);
    return result(here / "out");
  };
  std::string const sparse = " --set sink=0 local=1";
  result const full = apply("--mode full"), streaming = apply("--mode streaming" + sparse);
  bool both[2] = {};
  for (char const* extra : {"--router router", "--router numbered", "--router router --backend reference",
                            "--router router class_index=paper"}) {
    std::string options = extra;
    std::string set = sparse;
    if (std::size_t const at = options.find(" class_index"); at != options.npos) {
      set += options.substr(at);
      options.resize(at);
    }
    CAPTURE(extra);
    result const got = apply("--mode FA-SSA" + set + " " + options);
    REQUIRE(got.file.shape("assignment") == std::vector<std::int64_t>{batch, heads});
    auto const assignment = got.file.load<std::int32_t>("assignment");
    for (int b = 0; b < batch; ++b)
      for (int h = 0; h < heads; ++h) {
        std::int32_t const route = assignment[std::size_t(b * heads + h)];
        REQUIRE((route == 0 || route == 1));
        CHECK(route == assignment[std::size_t(b * heads + h / group * group)]);
        both[route] = true;
        auto const& expected = route == 0 ? full : streaming;
        double worst = 0;
        for (int i = 0; i < seq; ++i)
          for (int d = 0; d < head_dim; ++d) {
            std::size_t const at = std::size_t(((b * seq + i) * heads + h) * head_dim + d);
            worst = std::max(worst, std::abs(double(got.o[at]) - double(expected.o[at])));
          }
        CHECK(worst < tolerance);
      }
  }
  CHECK(both[0]);  // the two class indices send every head to either side
  CHECK(both[1]);
  for (char const* pair : {"fa_xa", "xa-ssa"})
    CHECK(apply(std::string("--mode ") + pair + " --router router").file.contains("block_mask"));
}

TEST_CASE("the list names every mode and key") {
  scratch_folder const here;
  outcome const ran = run(here, "--list");
  CHECK(ran.status == 0);
  for (char const* word : {"full",          "sliding_window",    "streaming",          "block_sparse", "antidiagonal",
                           "moba",          "vertical_slash",    "triangle",           "pooled_top_k", "sink=1",
                           "local=16",      "granularity=block", "alignment=position", "window=2048",  "stride=16",
                           "threshold=0.9", "rule=greedy",       "block=1024",         "k=8",          "columns=1000",
                           "offsets=6096",  "layer_threshold=16"})
    CHECK_MESSAGE(ran.said.find(word) != std::string::npos, word);
  CHECK(run(here, "--help").status == 0);
}

TEST_CASE("bad input is refused in one line, and nothing is written") {
  scratch_folder const here;
  given().writer().write(here / "in");
  std::string const bytes = contents(here / "in");
  auto const write = [&](char const* name, std::string const& text) { put(here / name, text); };
  write("truncated", bytes.substr(0, bytes.size() / 2));
  write("header", bytes.substr(0, 100));
  write("empty", "");
  write("text", "this is no safetensors file, however long it may be");
  auto const variant = [&](char const* name, std::vector<std::int64_t> q, std::vector<std::int64_t> k) {
    auto const values = [](std::vector<std::int64_t> const& shape) {
      std::int64_t n = 1;
      for (auto const extent : shape) n *= extent;
      return std::vector<float>(std::size_t(n));
    };
    safetensors_writer().add("q", q, values(q)).add("k", k, values(k)).add("v", k, values(k)).write(here / name);
  };
  variant("rank", {16, 4, 32}, {1, 16, 4, 32});
  variant("head_dim", {1, 16, 4, 31}, {1, 16, 4, 31});
  variant("heads", {1, 16, 4, 32}, {1, 16, 3, 32});
  variant("batch", {2, 16, 4, 32}, {1, 16, 4, 32});
  variant("widths", {1, 16, 4, 64}, {1, 16, 4, 32});
  safetensors_writer()
      .add("q", {1, 16, 4, 32}, std::vector<std::int32_t>(16 * 4 * 32))
      .add("k", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32))
      .add("v", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32))
      .write(here / "integers");
  safetensors_writer()
      .add("q", {1, 16, 4, 32}, std::vector<double>(16 * 4 * 32))
      .add("k", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32))
      .add("v", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32))
      .write(here / "doubles");
  safetensors_writer()
      .add("q", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32, std::numeric_limits<float>::infinity()))
      .add("k", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32))
      .add("v", {1, 16, 4, 32}, std::vector<float>(16 * 4 * 32))
      .write(here / "infinite");
  given().writer().metadata("softmax_scale", "one eighth").write(here / "scale");
  given().writer().metadata("causal", "maybe").write(here / "maybe");
  safetensors_writer().add("task.0.weight", {128, 32}, std::vector<float>(128 * 32)).write(here / "router");
  std::filesystem::create_symlink("in", here / "link");
  REQUIRE(mkfifo((here / "pipe").c_str(), 0600) == 0);
  std::size_t const files = here.all_entries();

  struct {
    char const *arguments, *says;
  } const bad[] = {
      {"in --mode full", "--out"},
      {"--mode full --out out", "IN"},
      {"in --out out", "--mode"},
      {"in --mode everything --out out", "everything"},
      {"in --mode full --out out --colour red", "--colour"},
      {"in more --mode full --out out", "more"},
      {"in --mode full --out out --backend abacus", "abacus"},
      {"in --mode full --out= --threads 2", "--out: got nothing"},
      {"in --mode full --out out --prefix= --threads 2", "--prefix: got nothing"},
      {"in --mode full --out out --causal=", "--causal: got nothing"},
      {"in --mode full --out out --threads many", "many"},
      {"in --mode full --out out --threads -1", "threads"},
      {"in --mode full --out out --scale nan", "nan"},
      {"in --mode full --out out --scale inf", "inf"},
      {"in --mode full --out out --scale 0.1x", "0.1x"},
      {"in --mode full --out out --set window=3", "window"},
      {"in --mode sliding_window --out out --set window", "key=value"},
      {"in --mode sliding_window --out out --set breadth=3", "breadth"},
      {"in --mode sliding_window --out out --set window=", "integer"},
      {"in --mode sliding_window --out out --set window=3.5", "3.5"},
      {"in --mode sliding_window --out out --set window=99999999999", "99999999999"},
      {"in --mode sliding_window --out out --set window=0", "window"},
      {"in --mode sliding_window --out out --set window=3 window=4", "twice"},
      {"in --mode streaming --out out --set granularity=word", "granularity"},
      {"in --mode streaming --out out --set sink=-1", "sink"},
      {"in --mode streaming --out out --set alignment=query_block --no-causal", "alignment"},
      {"in --mode antidiagonal --out out --set threshold=nan", "threshold"},
      {"in --mode antidiagonal --out out --set threshold=1.5", "threshold"},
      {"in --mode antidiagonal --out out --set stride=0", "stride"},
      {"in --mode antidiagonal --out out --set block=100", "block"},
      {"in --mode moba --out out --set k=0", "moba.k"},
      {"in --mode moba --out out --set block=0", "moba.block"},
      {"in --mode vertical_slash --out out --set slash_block=0", "slash_block"},
      {"in --mode moba --out out --no-causal", "causal"},
      {"in --mode block_sparse --out out --set block_rows=64", "block_mask"},
      {"in --mode fa_ssa --out out", "--router"},
      {"in --mode full --router router --out out", "--router"},
      {"in --mode fa_ssa --router router --out out", "task.0.bias"},
      {"in --mode fa_ssa --router nowhere --out out", "nowhere"},
      {"rank --mode fa_ssa --router router --out out", "q"},
      {"nowhere --mode full --out out", "nowhere"},
      {". --mode full --out out", "path"},
      {"in --mode full --prefix layers.1. --out out", "layers.1.q"},
      {"head_dim --mode block_sparse --out out", "block_mask"},
      {"truncated --mode full --out out", "truncated"},
      {"header --mode full --out out", "header"},
      {"empty --mode full --out out", "empty"},
      {"text --mode full --out out", "text"},
      {"rank --mode full --out out", "(batch, seq, heads, head_dim)"},
      {"head_dim --mode full --out out", "head_dim"},
      {"heads --mode full --out out", "heads"},
      {"batch --mode full --out out", "batch"},
      {"widths --mode full --out out", "head_dim"},
      {"integers --mode full --out out", "I32"},
      {"doubles --mode full --out out", "F64"},
      {"infinite --mode full --out out", "finite numbers"},
      {"scale --mode full --out out", "softmax_scale"},
      {"maybe --mode full --out out", "metadata causal: got \"maybe\", expected true or false"},
      {"maybe --mode full --causal --out out", "metadata causal: got \"maybe\", expected true or false"},
      {"in --mode full --out nowhere/out", "nowhere/out"},
      {"in --mode full --out .", "regular"},
      {"in --mode full --out pipe", "a pipe), expected a new file, or a regular one"},
      {"in --mode full --out in", "another file than the input in"},
      {"in --mode full --out ./link", "another file than the input in"},
      {"in --mode fa_ssa --router router --out router", "another file than the input router"},
      {"--list in", "--list: got IN beside it, expected nothing else"},
      {"--list --mode full", "--list: got --mode beside it"},
      {"in --mode full --causal --no-causal --out out", "excludes"},
      {"in --mode full --causal=false --no-causal=false --out out", "excludes"},
      {"in --mode full --causal=maybe --out out", "--causal = maybe"},
      {"in --mode full --no-causal=maybe --out out", "--no-causal = maybe"},
  };
  for (auto const& [arguments, says] : bad) {
    std::string const line = arguments;
    CAPTURE(line);
    CHECK(run(here, line).refused(says));
    CHECK(here.all_entries() == files);
  }
  CHECK(contents(here / "in") == bytes);
}

TEST_CASE("outputs go through links, and say what was kept") {
  scratch_folder const here;
  given().writer().write(here / "in");
  std::filesystem::create_symlink("target", here / "link");
  REQUIRE(run(here, "in --mode sliding_window --out link").status == 0);  // to a file that is not there yet
  CHECK(std::filesystem::is_regular_file(here / "target"));
  outcome const all = run(here, "in --mode full --out link");
  outcome const some = run(here, "in --mode sliding_window --set window=1 --out some");
  CHECK(all.status == 0);
  CHECK(all.said.find("keeps 100.0% of the (query, key) pairs, all of them") != std::string::npos);
  CHECK(std::filesystem::is_symlink(here / "link"));
  auto const whole = safetensors_file::open(here / "target"), part = safetensors_file::open(here / "some");
  CHECK(whole.metadata("density") == "1");
  CHECK(std::stod(part.metadata("density")) == doctest::Approx(2. / (seq + 1)));  // one key of (seq + 1) / 2
  CHECK(some.said.find("all of them") == std::string::npos);
}
