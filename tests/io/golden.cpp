// The fixtures can be read, and the helper that the other tests read them with does what it says.
#include <support/golden.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <elastic/core/dtype.hpp>

using elastic::testing::golden_file;

TEST_CASE("every fixture opens and has its cases") {
  std::vector<std::pair<char const*, std::size_t>> const fixtures{{"attention.safetensors", 11},
                                                                  {"streaming_masks.safetensors", 14},
                                                                  {"xattn.safetensors", 10},
                                                                  {"router.safetensors", 16},
                                                                  {"moba_vertical_slash.safetensors", 4}};
  for (auto const& [file_name, cases] : fixtures) {
    std::string const name = file_name;
    CAPTURE(name);
    golden_file const fixture(name);
    CHECK(fixture.cases().size() == cases);
  }
  CHECK_THROWS_AS(golden_file("absent.safetensors"), elastic::error);
}

TEST_CASE("a case has parameters and tensors") {
  golden_file const fixture("streaming_masks.safetensors");
  for (auto const& golden : fixture.cases()) {
    CAPTURE(golden.name);
    auto const kept = golden.load<std::uint8_t>("kept");
    CHECK(kept.shape == std::vector<std::int64_t>{golden.parameters.at("Sq"), golden.parameters.at("Sk")});
    CHECK(std::accumulate(kept.values.begin(), kept.values.end(), 0) == golden.parameters.at("kept"));
    CHECK(golden.has("block_mask") == (golden.parameters.at("granularity") == "block"));
  }
  CHECK(fixture.at("case02").parameters.at("Sk") == 333);
  CHECK_THROWS_AS(fixture.at("case99"), elastic::error);
  CHECK_THROWS_AS(fixture.at("case02").load<float>("kept"), elastic::error);
}

TEST_CASE("heads come second in PyTorch's order and third in ours") {
  golden_file const fixture("attention.safetensors");
  auto const q = fixture.at("case03").load<float>("q");
  auto const view = q.as_heads();
  CHECK(view.extents[0] == 1);
  CHECK(view.extents[1] == 12);
  CHECK(view.extents[2] == 8);
  CHECK(view.extents[3] == 32);
  CHECK(&view(0, 5, 7, 3) == &q.values[(7 * 12 + 5) * 32 + 3]);
  CHECK_THROWS_AS(q.as_packed(), elastic::error);

  golden_file const moba("moba_vertical_slash.safetensors");
  auto const packed = moba.at("moba00").load<float>("k");
  CHECK(&packed.as_packed()(0, 95, 1, 31) == &packed.values.back());
}

TEST_CASE("a slice is the part of a tensor that the metadata name") {
  golden_file const fixture("xattn.safetensors");
  auto const all = fixture.load<elastic::half>("a.q");
  auto const part = fixture.at("case09").input<elastic::half>("q");  // a.q[:, :, 1024:1500]
  CHECK(part.shape == std::vector<std::int64_t>{1, 2, 476, 64});
  auto const whole_view = all.view<4>();
  auto const part_view = part.view<4>();
  int differing = 0;
  for (int h = 0; h < 2; ++h)
    for (int s = 0; s < 476; ++s)
      for (int d = 0; d < 64; ++d) differing += part_view(0, h, s, d).bits != whole_view(0, h, 1024 + s, d).bits;
  CHECK(differing == 0);

  golden_file const router("router.safetensors");
  CHECK(router.at("d64.x1.S100").input<float>("x").shape == std::vector<std::int64_t>{2, 100, 3, 64});
  CHECK_THROWS_AS(fixture.load<float>("a.q[:, :, 0:4000]"), elastic::error);
  CHECK_THROWS_AS(fixture.load<float>("a.q[:, :, :, :, :]"), elastic::error);
}
