#include <elastic/io/safetensors_convert.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <support/safetensors.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("floating-point types convert among each other and round once") {
  auto const file = safetensors_file::from_bytes(
      safetensors_writer{}
          .add("half", {2}, std::vector<half>{half(1.5f), half(0x1p-24f)})
          .add("bfloat16", {1}, std::vector<bfloat16>{bfloat16(3.0e38f)})
          .add("float", {2}, std::vector<float>{1.0f + 0x1p-11f, -0.0f})
          // float would round the first up to a tie, and that to even.
          .add("double", {4}, std::vector<double>{1.0 + 0x1p-11 + 0x1p-40, 1e300, -1e-300, std::nan("")})
          .to_bytes());
  CHECK(file.load<float>("half") == std::vector<float>{1.5f, 0x1p-24f});
  CHECK(file.load<double>("half") == std::vector<double>{1.5, 0x1p-24});
  CHECK(file.load<bfloat16>("half")[0].bits == 0x3fc0);
  CHECK(file.load<half>("bfloat16")[0].bits == 0x7c00);
  CHECK(file.load<half>("float")[0].bits == 0x3c00);
  CHECK(file.load<half>("float")[1].bits == 0x8000);
  auto const halves = file.load<half>("double");
  CHECK(halves[0].bits == 0x3c01);
  CHECK(halves[1].bits == 0x7c00);
  CHECK(halves[2].bits == 0x8000);
  CHECK(std::isnan(static_cast<float>(halves[3])));
  CHECK(file.load<float>("double")[1] == std::numeric_limits<float>::infinity());
}

TEST_CASE("double to 16 bits rounds to nearest even at every tie and beside it") {
  auto const check = [](auto type, std::uint16_t infinity) {
    using T = decltype(type);
    int wrong = 0;
    for (std::uint16_t bits = 0; bits + 1 < infinity; ++bits) {
      double const here = static_cast<float>(T::from_bits(bits));
      double const next = static_cast<float>(T::from_bits(static_cast<std::uint16_t>(bits + 1)));
      double const tie = (here + next) / 2;
      std::uint16_t const above = static_cast<std::uint16_t>(bits + 1), even = (bits & 1) ? above : bits;
      wrong += elastic::detail::convert<T>(tie).bits != even;
      wrong += elastic::detail::convert<T>(std::nextafter(tie, 0.0)).bits != bits;
      wrong += elastic::detail::convert<T>(std::nextafter(tie, 1e300)).bits != above;
      wrong += elastic::detail::convert<T>(-std::nextafter(tie, 1e300)).bits != (above | 0x8000);
      wrong += elastic::detail::convert<T>(here).bits != bits;
    }
    CHECK(wrong == 0);
  };
  check(half{}, 0x7c00);
  check(bfloat16{}, 0x7f80);
}

TEST_CASE("integers convert where every value fits, and not otherwise") {
  auto const file = safetensors_file::from_bytes(safetensors_writer{}
                                                     .add("i8", {2}, std::vector<std::int8_t>{-128, 127})
                                                     .add("u8", {1}, std::vector<std::uint8_t>{255})
                                                     .add("u32", {1}, std::vector<std::uint32_t>{4294967295u})
                                                     .add("i64", {1}, std::vector<std::int64_t>{-5})
                                                     .add("f32", {1}, std::vector<float>{2})
                                                     .to_bytes());
  CHECK(file.load<std::int64_t>("i8") == std::vector<std::int64_t>{-128, 127});
  CHECK(file.load<std::int32_t>("u8") == std::vector<std::int32_t>{255});
  CHECK(file.load<std::int64_t>("u32") == std::vector<std::int64_t>{4294967295});

  check_contains(message_of([&] { file.load<std::int32_t>("u32"); }),
                 {"tensor \"u32\"", "got dtype U32", "expected one of BOOL, U8, I8, U16, I16, I32"});
  check_contains(message_of([&] { file.load<std::uint64_t>("i8"); }), {"tensor \"i8\"", "got dtype I8"});
  check_contains(message_of([&] { file.load<std::int32_t>("i64"); }), {"got dtype I64"});
  check_contains(message_of([&] { file.load<float>("i8"); }), {"got dtype I8", "expected one of F16, BF16, F32, F64"});
  check_contains(message_of([&] { file.load<std::int32_t>("f32"); }), {"got dtype F32"});
}
