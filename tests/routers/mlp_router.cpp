#include <elastic/routers/mlp_router.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/io/mlp_weights.hpp>
#include <support/golden.hpp>

using namespace elastic;
using elastic::testing::golden_file;

namespace {

golden_file const& fixture() {
  static golden_file const file("router.safetensors");
  return file;
}

mlp_weights const& weights_of(std::string const& set) {
  static mlp_weights const d128 = load_mlp_weights(fixture().file(), {.prefix = "d128."});
  static mlp_weights const d64 = load_mlp_weights(fixture().file(), {.prefix = "d64."});
  return set == "d128" ? d128 : d64;
}

mlp_weights sigmoid_weights() {
  mlp_layer layer = weights_of("d64").layer(0);
  layer.linear[4] = {64, 1, fixture().file().load<float>("d64.sigmoid.router.4.weight"),
                     fixture().file().load<float>("d64.sigmoid.router.4.bias")};
  return mlp_weights({layer});
}

/// An input "d64.x0[:, :1000]": the first rows of a tensor, seen through its own strides.
struct golden_input {
  testing::golden_tensor<half> tensor;
  heads_view<half const> view;

  explicit golden_input(std::string const& expression)
      : tensor(fixture().load<half>(expression.substr(0, expression.find('[')))), view(tensor.view<4>()) {
    view.extents[1] = std::stoi(expression.substr(expression.find(':', expression.find(',')) + 1));
  }
};

/// Largest difference over the largest magnitude.
template <class A, class B>
double difference(std::vector<A> const& got, std::vector<B> const& expected) {
  REQUIRE(got.size() == expected.size());
  double most = 0, magnitude = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    most = detail::largest(most, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
    magnitude = std::max(magnitude, std::abs(static_cast<double>(expected[i])));
  }
  return most / magnitude;
}

using mode_type = hybrid<full, streaming>;

template <class Backend, class T>
std::vector<std::int32_t> route(mlp_router const& router, heads_view<T> const& keys, int group, options const& o = {}) {
  int const sequences =
      o.cu_seqlens_k.empty() ? static_cast<int>(keys.extents[0]) : static_cast<int>(o.cu_seqlens_k.size()) - 1;
  std::int64_t const heads = keys.extents[2] * group;
  std::vector<std::int32_t> routes(static_cast<std::size_t>(sequences * heads), -7);
  attention<mode_type, mlp_router, Backend>({}, router)
      .route(keys, assignment_view(routes.data(), {sequences, heads}), {}, o);
  return routes;
}

std::string message(auto&& call) {
  try {
    call();
  } catch (error const& e) {
    return e.what();
  }
  return "nothing thrown";
}

bool names(std::string const& text, std::string const& part) {
  if (text.find(part) == std::string::npos) MESSAGE(text << " does not name " << part);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_TEMPLATE("the MLP router reproduces every case of the authors' code", Backend, cpu, reference) {
  double const tolerance = std::is_same_v<Backend, cpu> ? 1e-4 : 1e-12;
  int cases = 0;
  for (auto const& golden : fixture().cases()) {
    if (!golden.parameters.contains("S")) continue;
    ++cases;
    CAPTURE(golden.name);
    golden_input const input(golden.parameters.at("x").get<std::string>());
    std::string const set = golden.parameters.at("weights");
    for (pooling const how : {pooling::boundary, pooling::mean}) {
      std::string const suffix = how == pooling::boundary ? "_boundary" : "_mean";
      CAPTURE(suffix);
      mlp_router router{weights_of(set), how};
      auto const computed = activations_on(Backend{}, router, input.view, make_keys_problem(input.view));
      CHECK(difference(computed.pooled, golden.load<double>("pooled" + suffix).values) < tolerance);
      if (golden.has("hidden" + suffix))
        CHECK(difference(computed.features, golden.load<double>("hidden" + suffix).values) < tolerance);
      CHECK(difference(computed.logits, golden.load<double>("logits" + suffix).values) < tolerance);

      // z = 1 and class 0 of the paper's count stand for full attention, route 0; one entry per query head.
      constexpr int group = 4;
      auto const z = golden.load<std::int32_t>("z" + suffix).values;
      auto const routes = route<Backend>(router, input.view, group);
      REQUIRE(routes.size() == z.size() * group);
      for (std::size_t i = 0; i < routes.size(); ++i) CHECK(routes[i] == 1 - z[i / group]);

      router.class_index = class_index::paper;
      auto const paper = route<Backend>(router, input.view, group);
      for (std::size_t i = 0; i < paper.size(); ++i) CHECK(paper[i] == z[i / group]);
    }
  }
  CHECK(cases == 13);
}

TEST_CASE_TEMPLATE("the paper's class order is the same weights with the logits swapped", Backend, cpu, reference) {
  for (auto const& golden : fixture().cases()) {
    if (!golden.parameters.contains("S")) continue;
    golden_input const input(golden.parameters.at("x").get<std::string>());
    mlp_layer layer = weights_of(golden.parameters.at("weights")).layer(0);
    linear_layer& last = layer.linear[4];
    std::swap_ranges(last.weight.begin(), last.weight.begin() + last.inputs, last.weight.begin() + last.inputs);
    std::swap(last.bias[0], last.bias[1]);
    auto const routes = route<Backend>({mlp_weights({layer}), pooling::boundary, class_index::paper}, input.view, 1);
    auto const paper = golden.load<std::int32_t>("cls_paper_boundary").values;
    CHECK(routes == paper);
  }
}

TEST_CASE_TEMPLATE("the sigmoid variant", Backend, cpu, reference) {
  golden_input const input("d64.x0[:, :1000]");
  mlp_router const router{sigmoid_weights()};
  CHECK(router.weights.logits() == 1);
  auto const computed = activations_on(Backend{}, router, input.view, make_keys_problem(input.view));
  double const tolerance = std::is_same_v<Backend, cpu> ? 1e-4 : 1e-12;
  CHECK(difference(computed.logits, fixture().load<double>("d64.sigmoid.S1000.logits").values) < tolerance);
  auto const z = fixture().load<std::int32_t>("d64.sigmoid.S1000.z").values;
  auto const routes = route<Backend>(router, input.view, 1);
  for (std::size_t i = 0; i < z.size(); ++i) CHECK(routes[i] == 1 - z[i]);
}

TEST_CASE("parameter counts are the paper's") {
  CHECK(weights_of("d128").parameters() == 263682);
  CHECK(weights_of("d64").parameters() == 66306);
  CHECK(mlp_weights::untrained(128, 1).parameters() == 263682);
  CHECK(sigmoid_weights().parameters() == 66306 - 65);
}

TEST_CASE("which rows are pooled") {
  for (auto const& [length, head, tail] : {std::array{0, 0, 0},
                                           {1, 1, 0},
                                           {50, 50, 0},
                                           {99, 99, 0},
                                           {100, 100, 100},
                                           {150, 100, 100},
                                           {200, 100, 100},
                                           {1000, 100, 100}}) {
    detail::pooled_rows const rows(pooling::boundary, length);
    CHECK(rows.head == head);
    CHECK(rows.tail == tail);
    CHECK(detail::pooled_rows(pooling::mean, length).head == length);
    CHECK(detail::pooled_rows(pooling::mean, length).tail == 0);
  }
}

TEST_CASE_TEMPLATE("strides, packing and samples of a batch change nothing", Backend, cpu, reference) {
  golden_input const pair("d64.x1[:, :120]");
  mlp_router const router{weights_of("d64")};
  auto const expected = activations_on(Backend{}, router, pair.view, make_keys_problem(pair.view));
  auto const same = [&](auto const& keys, options const& o, auto const& wanted) {
    auto const got = activations_on(Backend{}, router, keys, make_keys_problem(keys, o));
    CHECK(got.pooled == wanted.pooled);
    CHECK(difference(got.logits, wanted.logits) < 1e-6);
  };

  SUBCASE("(batch, heads, seq, head_dim) in memory, NaN between the rows") {
    std::vector<float> memory(2 * 3 * 130 * 70, std::numeric_limits<float>::quiet_NaN());
    heads_view<float> const keys(memory.data() + 2 * 3 * 130 * 70 - 70 * 130, {2, 120, 3, 64},
                                 {-3 * 130 * 70, 70, -130 * 70, 1});
    for (int b = 0; b < 2; ++b)
      for (int s = 0; s < 120; ++s)
        for (int h = 0; h < 3; ++h)
          for (int d = 0; d < 64; ++d) keys(b, s, h, d) = static_cast<float>(pair.view(b, s, h, d));
    same(keys, {}, expected);
  }
  SUBCASE("packed behind one another, with an empty sequence") {
    std::vector<half> memory;
    for (int b = 0; b < 2; ++b)
      for (int s = 0; s < 120; ++s)
        for (int h = 0; h < 3; ++h)
          for (int d = 0; d < 64; ++d) memory.push_back(pair.view(b, s, h, d));
    std::vector<std::int32_t> const starts{0, 120, 120, 240};
    heads_view<half const> const keys(memory.data(), {1, 240, 3, 64});
    auto const got =
        activations_on(Backend{}, router, keys, make_keys_problem(keys, {.cu_seqlens_q = {}, .cu_seqlens_k = starts}));
    REQUIRE(got.pooled.size() == 3 * 3 * 64);
    for (std::size_t i = 0; i < 3 * 64; ++i) {
      CHECK(got.pooled[i] == expected.pooled[i]);
      CHECK(got.pooled[3 * 64 + i] == 0);
      CHECK(got.pooled[2 * 3 * 64 + i] == expected.pooled[3 * 64 + i]);
    }
    auto const routes = route<Backend>(router, keys, 2, {.cu_seqlens_q = {}, .cu_seqlens_k = starts});
    auto const alone = route<Backend>(router, pair.view, 2);
    CHECK(std::equal(alone.begin(), alone.begin() + 6, routes.begin()));
    CHECK(std::equal(alone.begin() + 6, alone.end(), routes.begin() + 12));
  }
  SUBCASE("a sample alone") {
    heads_view<half const> second = pair.view;
    second.data += second.strides[0];
    second.extents[0] = 1;
    auto wanted = expected;
    wanted.pooled.erase(wanted.pooled.begin(), wanted.pooled.begin() + 3 * 64);
    wanted.logits.erase(wanted.logits.begin(), wanted.logits.begin() + 3 * 2);
    same(second, {}, wanted);
  }
  SUBCASE("bfloat16 holds the inputs exactly") {
    std::vector<bfloat16> memory;
    for (half const x : pair.tensor.values) memory.push_back(bfloat16(static_cast<float>(x)));
    same(heads_view<bfloat16 const>(memory.data(), {2, 120, 3, 64}), {}, expected);
  }
}

TEST_CASE("means of many tokens stay exact in float, on any number of threads") {
  int const length = 1 << 17;
  std::vector<float> memory(static_cast<std::size_t>(length) * 32);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = 1.f + static_cast<float>(i % 7919) * 1e-4f;
  heads_view<float const> const keys(memory.data(), {1, length, 2, 16});
  mlp_router const router{mlp_weights::untrained(16, 3), pooling::mean};
  auto const exact = activations_on(reference{}, router, keys, make_keys_problem(keys));
  for (int const threads : {1, 3}) {
    auto const fast = activations_on(cpu{}, router, keys, make_keys_problem(keys, {.threads = threads}));
    CHECK(difference(fast.pooled, exact.pooled) < 2e-7);
  }
}

TEST_CASE("a tie takes class 0") {
  mlp_router router{mlp_weights::untrained(64, 1)};
  float const tied[] = {0.25f, 0.25f}, second[] = {0.25f, 0.26f}, first[] = {0.26f, 0.25f};
  CHECK(!router.retrieves(tied));
  CHECK(router.retrieves(second));
  CHECK(!router.retrieves(first));
  router.class_index = class_index::paper;
  CHECK(router.retrieves(tied));
  CHECK(!router.retrieves(second));
  CHECK(router.retrieves(first));
  router.weights = mlp_weights::untrained(64, 1, 1, 1);
  float const zero[] = {0, 0}, positive[] = {1e-9f, 0};
  CHECK(!router.retrieves(zero));
  CHECK(router.retrieves(positive));
}

TEST_CASE("untrained weights have the initialisation's statistics and are repeatable") {
  mlp_weights const weights = mlp_weights::untrained(128, 5, 2);
  CHECK(weights.layers() == 2);
  CHECK(weights.layer(0).linear[0].weight != weights.layer(1).linear[0].weight);
  CHECK(weights.layer(1).linear[2].weight == mlp_weights::untrained(128, 5, 2).layer(1).linear[2].weight);
  double sum = 0, squares = 0;
  auto const& values = weights.layer(0).linear[0].weight;
  for (float const w : values) {
    sum += static_cast<double>(w);
    squares += static_cast<double>(w) * static_cast<double>(w);
  }
  double const n = static_cast<double>(values.size());
  CHECK(std::abs(sum / n) < 4 * 0.02 / std::sqrt(n));
  CHECK(std::sqrt(squares / n) == doctest::Approx(0.02).epsilon(0.01));
  for (float const b : weights.layer(0).linear[0].bias) CHECK(b == 0);
}

TEST_CASE("layers have their own weights, read by number") {
  safetensors_writer writer;
  mlp_weights const made = mlp_weights::untrained(32, 9, 3);
  for (int i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 5; ++j) {
      linear_layer const& linear = made.layer(i).linear[j];
      std::string const name = std::string(j < 2 ? "cls_feat_extractor" : "cls_router_head_agnostic") +
                               std::string(mlp_layer::names[j]).substr(j < 2 ? 4 : 6);
      writer.add("model.layers." + std::to_string(i) + ".self_attn." + name + ".weight",
                 {linear.outputs, linear.inputs}, linear.weight);
      writer.add("model.layers." + std::to_string(i) + ".self_attn." + name + ".bias", {linear.outputs}, linear.bias);
    }
  auto const bytes = writer.to_bytes();
  auto const file = safetensors_file::from_bytes(bytes);
  mlp_tensor_names const names{"model.layers.{}.self_attn.", "cls_feat_extractor.", "cls_router_head_agnostic."};
  mlp_weights const read = load_mlp_weights(file, names);
  REQUIRE(read.layers() == 3);
  for (int i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 5; ++j) CHECK(read.layer(i).linear[j].weight == made.layer(i).linear[j].weight);
  mlp_weights const one = load_mlp_weights(file, {"model.layers.2.self_attn.", names.task, names.router});
  CHECK(one.layers() == 1);
  CHECK(one.layer(0).linear[3].weight == made.layer(2).linear[3].weight);

  // The layer of the options decides whose weights count.
  std::vector<float> memory(40 * 2 * 32);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50);
  heads_view<float const> const keys(memory.data(), {1, 40, 2, 32});
  auto const second = activations_on(cpu{}, mlp_router{read}, keys, make_keys_problem(keys, {.layer = 2}));
  CHECK(second.logits == activations_on(cpu{}, mlp_router{one}, keys, make_keys_problem(keys)).logits);
}

TEST_CASE_TEMPLATE("bad input is refused by name, and the assignment stays", Backend, cpu, reference) {
  std::vector<float> memory(2 * 20 * 4 * 64, 0.5f);
  heads_view<float const> const keys(memory.data(), {2, 20, 4, 64});
  std::vector<std::int32_t> routes(2 * 8, 42);
  assignment_view const assignment(routes.data(), {2, 8});
  attention<mode_type, mlp_router, Backend> const attend({}, mlp_router{mlp_weights::untrained(64, 1)});
  auto const fails = [&](auto const& a, route_inputs<float> const& in, options const& o = {}) {
    return message([&] { a.route(in, assignment, {}, o); });
  };
  CHECK(names(fails(attend, {}), "k_pre_rope: got no tensor"));
  CHECK(names(fails(attend, {.q = heads_view<float const>(memory.data(), {2, 20, 8, 32}),
                             .k = heads_view<float const>(memory.data(), {2, 20, 4, 32})}),
              "head_dim: got 32, expected 64"));
  std::vector<float> longer(2 * 20 * 8 * 64, 0.5f);
  CHECK(names(fails(attend, {.q = heads_view<float const>(longer.data(), {2, 20, 8, 64}), .k = keys}),
              "k_pre_rope: got no tensor"));
  CHECK(names(fails(attend, {.k_pre_rope = keys}, {.layer = 1}), "options.layer: got 1"));
  CHECK(names(fails(attend, {.k_pre_rope = heads_view<float const>(memory.data(), {2, 20, 2, 128})}),
              "head_dim: got 128"));
  CHECK(names(fails(attend, {.k_pre_rope = heads_view<float const>(memory.data(), {2, 20, 3, 64})}), "k heads"));
  CHECK(names(fails(attend, {.k_pre_rope = heads_view<float const>(memory.data(), {1, 20, 4, 64})}), "assignment"));
  CHECK(
      names(fails(attention<mode_type, mlp_router, Backend>{}, {.k_pre_rope = keys}), "mlp_router.weights: got none"));
  CHECK(std::ranges::all_of(routes, [](int r) { return r == 42; }));
}

TEST_CASE("weights that do not fit are refused, naming the tensor") {
  auto const write = [](int skip, int wrong, std::vector<std::int64_t> const& shape) {
    safetensors_writer writer;
    mlp_weights const made = mlp_weights::untrained(32, 9);
    for (std::size_t j = 0; j < 5; ++j) {
      linear_layer const& linear = made.layer(0).linear[j];
      for (int part = 0; part < 2; ++part) {
        int const number = static_cast<int>(j) * 2 + part;
        if (number == skip) continue;
        std::vector<std::int64_t> extents = part == 0 ? std::vector<std::int64_t>{linear.outputs, linear.inputs}
                                                      : std::vector<std::int64_t>{linear.outputs};
        std::vector<float> values = part == 0 ? linear.weight : linear.bias;
        if (number == wrong) {
          extents = shape;
          std::int64_t size = 1;
          for (std::int64_t const n : shape) size *= n;
          values.assign(static_cast<std::size_t>(size), 0.f);
        }
        writer.add("r." + std::string(mlp_layer::names[j]) + (part == 0 ? ".weight" : ".bias"), extents, values);
      }
    }
    return message([&] { load_mlp_weights(safetensors_file::from_bytes(writer.to_bytes()), {.prefix = "r."}); });
  };
  CHECK(write(-1, -1, {}) == "nothing thrown");
  CHECK(names(write(4, -1, {}), "r.router.0.weight"));
  CHECK(names(write(3, -1, {}), "r.task.2.bias"));
  CHECK(names(write(-1, 4, {128, 33}), "r.router.0.weight"));
  CHECK(names(write(-1, 4, {128, 33}), "(outputs, 32)"));
  CHECK(names(write(-1, 4, {128}), "r.router.0.weight"));
  CHECK(names(write(-1, 5, {127}), "r.router.0.bias"));
  CHECK(names(write(-1, 8, {3, 32}), "r.router.4"));
  CHECK(names(message([] {
                load_mlp_weights(safetensors_file::from_bytes(safetensors_writer{}.to_bytes()),
                                 {.prefix = "layers.{}."});
              }),
              "layers.{}.task.0.weight"));
  mlp_layer layer = mlp_weights::untrained(32, 1).layer(0);
  layer.linear[3].bias.pop_back();
  CHECK(names(message([&] { mlp_weights({layer}); }), "layers[0].router.2.bias"));
  CHECK(names(message([] { mlp_weights::untrained(0, 1); }), "head_dim"));
}

TEST_CASE("weights of no size or of an endless one, layers that there are not, enums without a name") {
  constexpr int most = std::numeric_limits<int>::max();
  for (int const bad : {0, -1, 4097, 1 << 30, most}) {
    CHECK_THROWS_AS(mlp_weights::untrained(bad, 1), error);
    CHECK_THROWS_AS(mlp_weights::untrained(32, 1, bad), error);
  }
  CHECK_THROWS_WITH_AS(mlp_weights::untrained(256, 1, 4096), doctest::Contains("4294967296 weights"), error);
  mlp_weights const one = mlp_weights::untrained(32, 1), none;
  for (int const bad : {-1, 1, 9})
    CHECK_THROWS_WITH_AS(one.layer(bad), doctest::Contains("one of the 1 layers"), error);
  CHECK_THROWS_AS(none.layer(0), error);
  CHECK_THROWS_AS(none.parameters(), error);
  problem p;
  p.head_dim = 32;
  CHECK_NOTHROW(mlp_router{one}.check(p, 2));
  CHECK_THROWS_WITH_AS((mlp_router{one, static_cast<pooling>(2)}.check(p, 2)), doctest::Contains("mlp_router.pooling"),
                       error);
  CHECK_THROWS_WITH_AS((mlp_router{one, pooling::mean, static_cast<class_index>(2)}.check(p, 2)),
                       doctest::Contains("mlp_router.class_index"), error);
}
