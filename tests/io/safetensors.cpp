#include <elastic/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <support/scratch_folder.hpp>

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif

using elastic::bfloat16;
using elastic::half;
using elastic::safetensors_dtype;
using elastic::safetensors_file;
using elastic::safetensors_writer;
using elastic::testing::contents;
using elastic::testing::put;
using elastic::testing::scratch_folder;

namespace {

using bytes = std::vector<std::byte>;

/// A file from its JSON and so many bytes of data.
bytes file_of(std::string_view json, std::size_t data_bytes = 0) {
  std::uint64_t const length = json.size();
  bytes all(sizeof length + json.size() + data_bytes);
  std::memcpy(all.data(), &length, sizeof length);
  std::memcpy(all.data() + sizeof length, json.data(), json.size());
  return all;
}

std::string message_of(auto&& action) {
  try {
    action();
  } catch (elastic::error const& error) {
    return error.what();
  }
  return "nothing thrown";
}

std::string refusal(std::string_view json, std::size_t data_bytes = 0) {
  return message_of([&] { static_cast<void>(safetensors_file::from_bytes(file_of(json, data_bytes), "f")); });
}

void check_contains(std::string const& message, std::initializer_list<std::string_view> parts) {
  for (auto const part : parts) {
    INFO(message);
    INFO(std::string(part));
    CHECK(message.find(part) != std::string::npos);
  }
}

template <class T>
std::vector<T> samples() {
  std::vector<T> values;
  if constexpr (std::integral<T>) {
    values = {T{0}, T{1}, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), T{77}, T{5}};
  } else {
    for (float const value : {0.0f, -0.0f, 1.5f, -3.25f, std::numeric_limits<float>::infinity(), 0x1p-24f}) {
      values.push_back(static_cast<T>(value));
    }
  }
  return values;
}

template <class T>
bool same_bytes(std::vector<T> const& a, std::vector<T> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------------
// Round trips
// ---------------------------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("every dtype survives a round trip through a file", T, float, double, half, bfloat16, std::int8_t,
                   std::uint8_t, std::int16_t, std::uint16_t, std::int32_t, std::uint32_t, std::int64_t,
                   std::uint64_t) {
  scratch_folder const folder;
  auto const values = samples<T>();
  safetensors_writer{}
      .add("odd", {1}, std::array<std::uint8_t, 1>{9})  // an odd size in front must not misalign the rest
      .add("x", {2, 3}, values)
      .add("scalar", {}, std::vector<T>{values[2]})
      .add("empty", {4, 0}, std::vector<T>{})
      .metadata("key", "väl\"ue")
      .write(folder / "x.safetensors");

  auto const file = safetensors_file::open(folder / "x.safetensors");
  CHECK(file.entries().size() == 4);
  CHECK(file.contains("x"));
  CHECK(!file.contains("y"));
  CHECK(file.metadata("key") == "väl\"ue");
  CHECK(file.metadata().size() == 1);
  CHECK(file.shape("x") == std::vector<std::int64_t>{2, 3});
  CHECK(file.shape("scalar").empty());
  CHECK(file.dtype("x") == elastic::detail::dtype_of<T>());
  CHECK(file.bytes("x").size() == 6 * sizeof(T));
  CHECK(same_bytes(file.load<T>("x"), values));
  CHECK(same_bytes(file.load<T>("scalar"), {values[2]}));
  CHECK(file.load<T>("empty").empty());

  auto const view = file.view<T, 2>("x");
  CHECK(static_cast<void const*>(view.data) == static_cast<void const*>(file.bytes("x").data()));
  CHECK(view.extents[0] == 2);
  CHECK(view.strides[0] == 3);
  CHECK(std::memcmp(&view(1, 2), &values[5], sizeof(T)) == 0);
  CHECK(file.view<T, 2>("empty").size() == 0);
}

TEST_CASE("BOOL is written from bool and read as uint8_t") {
  std::array<bool, 3> const values{true, false, true};
  auto const file = safetensors_file::from_bytes(safetensors_writer{}.add("b", {3}, values).to_bytes());
  CHECK(file.dtype("b") == safetensors_dtype::boolean);
  CHECK(file.load<std::uint8_t>("b") == std::vector<std::uint8_t>{1, 0, 1});
  CHECK(file.load<std::int64_t>("b") == std::vector<std::int64_t>{1, 0, 1});
  CHECK(file.view<std::uint8_t, 1>("b")(2) == 1);

  auto const odd = safetensors_file::from_bytes(
      safetensors_writer{}
          .add_bytes("b", safetensors_dtype::boolean, {2}, bytes{std::byte{0}, std::byte{2}})
          .to_bytes());
  check_contains(message_of([&] { odd.load<std::uint8_t>("b"); }), {"tensor \"b\"", "BOOL byte 2", "0 or 1"});
}

TEST_CASE("files keep what they hold, and nothing depends on where they are moved") {
  auto file = safetensors_file::from_bytes(
      safetensors_writer{}.add("a", {2}, std::vector<float>{1, 2}).metadata("m", "").to_bytes());
  auto const view = file.view<float, 1>("a");
  auto const moved = std::move(file);
  CHECK(moved.view<float, 1>("a").data == view.data);
  CHECK(view(1) == 2.0f);
  CHECK(moved.metadata("m").empty());

  auto const empty = safetensors_file::from_bytes(safetensors_writer{}.to_bytes());
  CHECK(empty.entries().empty());
  CHECK(empty.metadata().empty());
  auto const minimal = safetensors_file::from_bytes(file_of("{}"));
  CHECK(minimal.names().empty());
}

TEST_CASE("names and metadata may hold any text") {
  std::string const name = std::string("\0\n\"\\", 4) + "ключ🔑";
  auto const file = safetensors_file::from_bytes(
      safetensors_writer{}.add(name, {1}, std::vector<float>{1}).metadata(name, name).to_bytes());
  CHECK(file.names() == std::vector<std::string>{name});
  CHECK(file.metadata(name) == name);
}

TEST_CASE("the writer lays tensors out aligned and pads the header to 64 bytes") {
  auto const all = safetensors_writer{}
                       .add("one", {3}, std::vector<std::uint8_t>(3))
                       .add("two", {3}, std::vector<half>(3))
                       .add("eight", {3}, std::vector<double>(3))
                       .to_bytes();
  std::uint64_t length = 0;
  std::memcpy(&length, all.data(), sizeof length);
  CHECK((length + 8) % 64 == 0);
  auto const file = safetensors_file::from_bytes(all);
  CHECK(file.names() == std::vector<std::string>{"eight", "two", "one"});
}

TEST_CASE("headers of other writers: any order, spaces around, escapes") {
  std::string_view const json =
      R"({"b" :{"data_offsets":[4,6],"shape":[1,1,1],"dtype":"F16"},)"
      R"( "\u0061":{"dtype":"F32","shape":[],"data_offsets":[0,4]}, "z":{"dtype":"U8","shape":[0],"data_offsets":[4,4]},)"
      R"("__metadata__":{}}    )";
  auto const file = safetensors_file::from_bytes(file_of(json, 6));
  CHECK(file.names() == std::vector<std::string>{"a", "z", "b"});
  CHECK(file.shape("b").size() == 3);
}

// ---------------------------------------------------------------------------------------------------------------------
// Conversions
// ---------------------------------------------------------------------------------------------------------------------

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

TEST_CASE("a view wants the exact dtype, rank and alignment") {
  auto const file = safetensors_file::from_bytes(file_of(
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
      9));
  check_contains(message_of([&] { file.view<half, 1>("b"); }), {"tensor \"b\"", "got dtype F32", "expected dtype F16"});
  check_contains(message_of([&] { file.view<std::int8_t, 1>("a"); }), {"got dtype U8", "expected dtype I8"});
  check_contains(message_of([&] { file.view<float, 2>("b"); }), {"tensor \"b\"", "shape [2]", "2 dimensions"});
  check_contains(message_of([&] { file.view<float, 1>("b"); }),
                 {"tensor \"b\"", "offset 1", "multiple of 4", "load()"});
  CHECK(file.load<float>("b") == std::vector<float>{0, 0});
  check_contains(message_of([&] { file.load<float>("c"); }), {"tensor name \"c\"", "\"a\", \"b\""});
  check_contains(message_of([&] { file.metadata("c"); }), {"metadata key \"c\""});
}

// ---------------------------------------------------------------------------------------------------------------------
// Malformed files
// ---------------------------------------------------------------------------------------------------------------------

TEST_CASE("what cannot be opened is told by its path") {
  scratch_folder const folder;
  check_contains(message_of([&] { safetensors_file::open(folder / "absent"); }),
                 {"path: got", "absent", "can be read"});
  check_contains(message_of([&] { safetensors_file::open(folder.path); }), {"path: got"});
  put(folder / "bad", "short");
  check_contains(message_of([&] { safetensors_file::open(folder / "bad"); }), {"bad", "got 5 bytes", "8 bytes"});
}

TEST_CASE("truncated files, at every length") {
  bytes const whole = safetensors_writer{}.add("a", {2}, std::vector<float>{1, 2}).to_bytes();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    auto const message = message_of([&] { safetensors_file::from_bytes(std::span(whole).first(length), "f"); });
    CHECK(message.starts_with("elastic: f"));
  }
  CHECK(message_of([&] { safetensors_file::from_bytes(whole); }) == "nothing thrown");
}

TEST_CASE("absurd header lengths") {
  for (std::uint64_t const length :
       {std::uint64_t{3}, std::uint64_t{1} << 32, std::uint64_t{1} << 63, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    bytes file = file_of("{}");
    std::memcpy(file.data(), &length, sizeof length);
    check_contains(message_of([&] { safetensors_file::from_bytes(file); }),
                   {"header: got length " + std::to_string(length), "expected at most 2 bytes"});
  }
}

TEST_CASE("a header over 100 MB is refused before it is read, even where the file is as long") {
  scratch_folder const folder;
  std::uint64_t const length = 100'000'001;
  put(folder / "long", {reinterpret_cast<char const*>(&length), sizeof length});
  std::filesystem::resize_file(folder / "long", length + 8);  // sparse
  check_contains(message_of([&] { safetensors_file::open(folder / "long"); }),
                 {"got length 100000001", "expected at most 100000000 bytes"});
}

TEST_CASE("headers that are no JSON, or no object") {
  check_contains(refusal(""), {"f: header", "a JSON object"});
  check_contains(refusal("[]"), {"\"[]\"", "a JSON object"});
  check_contains(refusal("null"), {"a JSON object"});
  check_contains(refusal(" {}"), {"a JSON object"});
  check_contains(refusal("\xEF\xBB\xBF{}"), {"a JSON object"});
  check_contains(refusal("{"), {"no JSON at byte", "JSON in UTF-8"});
  check_contains(refusal("{} {}"), {"no JSON at byte"});
  check_contains(refusal("{\"a\":}"), {"no JSON at byte 6"});
  check_contains(refusal("{,}"), {"no JSON at byte"});
  check_contains(refusal("{/**/}"), {"no JSON at byte"});
  check_contains(refusal(std::string_view("{}\0\0", 4)), {"a NUL at byte 2"});  // padding is spaces
  check_contains(refusal(R"({"a":1e999})"), {"no JSON at byte"});
}

TEST_CASE("invalid UTF-8, and lone surrogates") {
  for (std::string_view const bad :
       {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\\ud800", "\\udc00x"}) {
    check_contains(refusal("{\"" + std::string(bad) + "\":{}}"), {"no JSON at byte", "JSON in UTF-8"});
    check_contains(refusal("{\"__metadata__\":{\"k\":\"" + std::string(bad) + "\"}}"), {"no JSON at byte"});
  }
}

TEST_CASE("duplicate keys, also where they are spelled differently") {
  std::string const a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  check_contains(refusal("{" + a + "," + a + "}"), {"f: header", "\"a\" twice", "unique keys"});
  check_contains(refusal("{" + a + R"(,"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"), {"\"a\" twice"});
  check_contains(refusal(R"({"__metadata__":{},"__metadata__":{}})"), {"\"__metadata__\" twice"});
  check_contains(refusal(R"({"__metadata__":{"k":"1","k":"1"}})"), {"__metadata__", "\"k\" twice"});
  check_contains(refusal(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
                 {"tensor \"a\"", "\"dtype\" twice", "once each"});
}

TEST_CASE("tensor entries of a wrong form") {
  check_contains(refusal(R"({"a":[]})"), {"tensor \"a\": got an array, expected an object"});
  check_contains(refusal(R"({"a":null})"), {"tensor \"a\": got null"});
  check_contains(refusal(R"({"a":"x"})"), {"tensor \"a\": got string \"x\""});
  check_contains(refusal(R"({"a":{}})"), {"tensor \"a\"", "without all three"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":[0]}})"), {"without all three"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}})"), {"key \"more\""});
  check_contains(refusal(R"({"a":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]}})"),
                 {"tensor \"a\", dtype: got dtype \"F8_E4M3\", expected one of BOOL, U8, I8"});
  check_contains(refusal(R"({"a":{"dtype":"f32","shape":[0],"data_offsets":[0,0]}})"), {"dtype \"f32\""});
  check_contains(refusal(R"({"a":{"dtype":7,"shape":[0],"data_offsets":[0,0]}})"), {"dtype: got 7"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":3,"data_offsets":[0,0]}})"), {"shape: got 3", "an array"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":{},"data_offsets":[0,0]}})"), {"shape: got an object"});
}

TEST_CASE("shapes that are negative, fractional or overflow") {
  auto const with = [](std::string const& shape, std::string const& offsets = "[0,0]") {
    return refusal(R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}");
  };
  check_contains(with("[-1]"), {"tensor \"a\", shape: got -1", "extents from 0 to 2^63 - 1"});
  check_contains(with("[1.0]"), {"shape: got \"1.0\""});
  check_contains(with("[1e3]"), {"shape: got \"1e3\""});
  check_contains(with("[\"1\"]"), {"shape: got string \"1\""});
  check_contains(with("[true]"), {"shape: got true"});
  check_contains(with("[null]"), {"shape: got null"});
  check_contains(with("[[1]]"), {"shape: got an array"});
  check_contains(with("[9223372036854775808]"), {"shape: got 9223372036854775808"});
  check_contains(with("[18446744073709551616]"), {"shape: got"});
  check_contains(with("[9223372036854775807]"), {"shape: got [9223372036854775807]", "below 2^63"});
  check_contains(with("[4294967296, 4294967296]"), {"below 2^63"});
  check_contains(with("[2305843009213693952]"), {"below 2^63"});     // 2^61 elements of 4 bytes
  check_contains(with("[4611686018427387904, 4]"), {"below 2^63"});  // 2^66 bytes: zero in 64 bits
  check_contains(with("[9223372036854775807, 9223372036854775807, 0]"), {"below 2^63"});
}

TEST_CASE("data_offsets that are reversed, out of range, of the wrong size, overlapping or with holes") {
  auto const with = [](std::string const& offsets, std::size_t data_bytes = 4) {
    return refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + offsets + "}}", data_bytes);
  };
  CHECK(with("[0,4]") == "nothing thrown");
  check_contains(with("[4,0]"), {"tensor \"a\", data_offsets: got 4 to 0", "0 <= begin <= end <= 4"});
  check_contains(with("[1,5]"), {"got 1 to 5", "end <= 4"});
  check_contains(with("[18446744073709551612,18446744073709551615]"), {"end <= 4"});
  check_contains(with("[0,3]"), {"got 0 to 3", "4 bytes for U8 [4]"});
  check_contains(with("[0]"), {"data_offsets: got fewer than two"});
  check_contains(with("[0,4,4]"), {"data_offsets: got 4", "two offsets"});
  check_contains(with("[0,-4]"), {"data_offsets: got -4"});
  check_contains(with("[0,4.0]"), {"data_offsets: got \"4.0\""});
  check_contains(with("4"), {"tensor \"a\""});
  check_contains(with("[1,5]", 5), {"begin 1", "expected 0: tensors follow one another"});
  check_contains(with("[0,4]", 5), {"f: data: got 5 bytes, expected 4"});

  auto const two = [](std::string const& first, std::string const& second) {
    return refusal(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
                       R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}",
                   4);
  };
  CHECK(two("[0,2]", "[2,4]") == "nothing thrown");
  CHECK(two("[2,4]", "[0,2]") == "nothing thrown");
  check_contains(two("[0,2]", "[1,3]"), {"tensor \"b\"", "begin 1", "expected 2"});
  check_contains(two("[0,2]", "[0,2]"), {"tensor \"b\"", "begin 0", "expected 2"});
  check_contains(two("[1,3]", "[2,4]"), {"tensor \"a\"", "begin 1", "expected 0"});
}

TEST_CASE("metadata other than strings") {
  check_contains(refusal(R"({"__metadata__":[]})"), {"__metadata__: got an array", "an object of strings"});
  check_contains(refusal(R"({"__metadata__":null})"), {"__metadata__: got null"});
  check_contains(refusal(R"({"__metadata__":{"k":1}})"), {"__metadata__, key \"k\": got 1", "a string"});
  check_contains(refusal(R"({"__metadata__":{"k":-1}})"), {"got -1"});
  check_contains(refusal(R"({"__metadata__":{"k":null}})"), {"got null"});
  check_contains(refusal(R"({"__metadata__":{"k":{}}})"), {"got an object"});
  check_contains(refusal(R"({"__metadata__":{"k":["x"]}})"), {"got an array"});
}

TEST_CASE("deep nesting neither overflows the stack nor takes memory") {
  std::size_t const depth = 10'000'000;
  check_contains(refusal(R"({"a":)" + std::string(depth, '[')), {"tensor \"a\": got an array"});
  check_contains(refusal(R"({"__metadata__":{"k":)" + std::string(depth, '[')), {"got an array"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":)" + std::string(depth, '[')), {"shape: got an array"});
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += R"({"a":)";
  check_contains(refusal(objects), {"tensor \"a\": got key \"a\""});
}

TEST_CASE("messages stay short and printable whatever the file says") {
  auto const message = refusal("{\"" + std::string(1'000'000, 'x') + "\":3}");
  CHECK(message.size() < 500);
  auto const control = refusal("{\"a\\u0000\\n\":3}");
  check_contains(control, {R"("a\u0000\n")", "an object"});
}

// ---------------------------------------------------------------------------------------------------------------------
// The writer
// ---------------------------------------------------------------------------------------------------------------------

TEST_CASE("the writer refuses what would make a malformed file, and adds nothing then") {
  safetensors_writer writer;
  std::vector<float> const values{1, 2};
  writer.add("a", {2}, values);
  bytes const before = writer.to_bytes();
  check_contains(message_of([&] { writer.add("a", {2}, values); }), {"tensor name", "\"a\" twice"});
  check_contains(message_of([&] { writer.add("__metadata__", {2}, values); }), {"tensor name", "__metadata__"});
  check_contains(message_of([&] { writer.add("b", {3}, values); }), {"tensor \"b\": got 2 elements, expected 3"});
  check_contains(message_of([&] { writer.add("b", {-2}, values); }), {"tensor \"b\"", "shape [-2]"});
  check_contains(message_of([&] { writer.add("b", {std::int64_t{1} << 62, 4}, values); }), {"below 2^63"});
  check_contains(message_of([&] { writer.add("\xff", {2}, values); }), {"tensor name", "valid UTF-8"});
  check_contains(message_of([&] { writer.metadata("k", "\xff"); }), {"metadata value", "valid UTF-8"});
  check_contains(message_of([&] { writer.metadata("\xff", "v"); }), {"metadata key", "valid UTF-8"});
  CHECK(writer.to_bytes() == before);
}

TEST_CASE("writing replaces a file as a whole") {
  scratch_folder const folder;
  safetensors_writer const writer = safetensors_writer{}.add("a", {1}, std::vector<float>{1});
  writer.write(folder / "f");
  safetensors_writer{}.add("b", {1}, std::vector<float>{2}).write(folder / "f");
  CHECK(safetensors_file::open(folder / "f").names() == std::vector<std::string>{"b"});
  CHECK(folder.entries() == 1);

  // What a crash has left is neither used nor removed.
  put(folder / ".elastic-0.tmp", "left");
  writer.write(folder / "f");
  CHECK(contents(folder / ".elastic-0.tmp") == "left");
  CHECK(folder.entries() == 2);
}

TEST_CASE("a write that fails leaves no file behind") {
  scratch_folder const folder;
  safetensors_writer const writer = safetensors_writer{}.add("a", {1}, std::vector<float>{1});
  check_contains(message_of([&] { writer.write(folder / "absent/f"); }), {"path: got", "absent/f", "can be written"});
  std::filesystem::create_directory(folder / "directory");
  check_contains(message_of([&] { writer.write(folder / "directory"); }), {"path: got", "directory"});
  CHECK(std::filesystem::is_directory(folder / "directory"));
  CHECK(folder.entries() == 1);
}

TEST_CASE("writing goes through links, and refuses what is no regular file") {
  scratch_folder const folder;
  safetensors_writer const writer = safetensors_writer{}.add("a", {1}, std::vector<float>{1});
  std::filesystem::create_symlink("f", folder / "link");
  std::filesystem::create_symlink("loop", folder / "loop");
  writer.write(folder / "link");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(safetensors_file::open(folder / "f").names() == std::vector<std::string>{"a"});
  check_contains(message_of([&] { writer.write(folder / "loop"); }), {"path: got", "loop", "can be written"});
  check_contains(message_of([&] { writer.write(folder / "."); }), {"path: got", "a folder", "a regular one"});
  CHECK(std::filesystem::is_symlink(folder / "loop"));
  CHECK(folder.entries() == 3);
}

#if __has_include(<sys/resource.h>)
TEST_CASE("a write that fails midway leaves the old file as it was") {
  scratch_folder const folder;
  safetensors_writer{}.add("old", {1}, std::vector<float>{1}).write(folder / "f");
  std::string const before = contents(folder / "f");
  safetensors_writer const writer = safetensors_writer{}.add("new", {1 << 20}, std::vector<float>(1 << 20));

  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit const small{.rlim_cur = 65536, .rlim_max = limit.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string const message = message_of([&] { writer.write(folder / "f"); });
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);

  check_contains(message, {"path: got", "can be written"});
  CHECK(contents(folder / "f") == before);
  CHECK(folder.entries() == 1);
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Fuzzing
// ---------------------------------------------------------------------------------------------------------------------

namespace {

bytes fuzz_seed() {
  return safetensors_writer{}
      .add("weights", {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6})
      .add("keys", {1, 2, 2, 2}, std::vector<half>(8, half(0.5f)))
      .add("ids", {3}, std::vector<std::int32_t>{1, 2, 3})
      .add("mask", {5}, std::array<bool, 5>{true, false, true, true, false})
      .add("scalar", {}, std::vector<double>{0.125})
      .add("none", {0, 7}, std::vector<std::uint8_t>{})
      .metadata("layout", "batch, seq")
      .metadata("ключ", "значение")
      .to_bytes();
}

/// Reads all that a file gives; sums the bytes, so that a sanitizer sees every one.
std::size_t read_everything(safetensors_file const& file, std::size_t file_bytes) {
  std::size_t total = 0;
  unsigned sum = 0;
  for (auto const& entry : file.entries()) {
    auto const data = file.bytes(entry.name);
    for (std::byte const byte : data) sum += std::to_integer<unsigned>(byte);
    total += data.size();
    for (std::int64_t const extent : entry.shape) REQUIRE(extent >= 0);
    try {
      sum += static_cast<unsigned>(file.load<double>(entry.name).size());
    } catch (elastic::error const&) {
      try {
        sum += static_cast<unsigned>(file.load<std::int64_t>(entry.name).size());
      } catch (elastic::error const&) {  // U64, or a BOOL that is neither 0 nor 1
      }
    }
  }
  REQUIRE(total <= file_bytes);
  return sum;
}

/// True if it was accepted. Anything but elastic::error escapes and fails the test.
bool accepts(bytes const& file) {
  try {
    static_cast<void>(read_everything(safetensors_file::from_bytes(file), file.size()));
    return true;
  } catch (elastic::error const& error) {
    REQUIRE(std::strlen(error.what()) < 2000);
    return false;
  }
}

bytes with_header(std::string const& json, bytes const& seed) {
  std::uint64_t length = 0;
  std::memcpy(&length, seed.data(), sizeof length);
  bytes file = file_of(json);
  file.insert(file.end(), seed.begin() + static_cast<std::ptrdiff_t>(8 + length), seed.end());
  return file;
}

std::string header_of(bytes const& seed) {
  std::uint64_t length = 0;
  std::memcpy(&length, seed.data(), sizeof length);
  return {reinterpret_cast<char const*>(seed.data()) + 8, length};
}

}  // namespace

TEST_CASE("fuzz: bytes flipped, removed, inserted, cut off") {
  bytes const seed = fuzz_seed();
  REQUIRE(accepts(seed));
  std::mt19937 random(2024);
  auto const below = [&](std::size_t end) { return static_cast<std::size_t>(random()) % end; };
  int accepted = 0;
  int const rounds = 60000;
  for (int round = 0; round < rounds; ++round) {
    bytes file = seed;
    for (std::size_t change = 1 + below(3); change > 0 && !file.empty(); --change) {
      // Half of the changes go to the length and the start of the header.
      std::size_t const at = below(random() % 2 ? file.size() : std::min<std::size_t>(file.size(), 64));
      auto const where = file.begin() + static_cast<std::ptrdiff_t>(at);
      switch (below(6)) {
        case 0:
          *where ^= static_cast<std::byte>(1u << below(8));
          break;
        case 1:
          *where = static_cast<std::byte>(below(256));
          break;
        case 2:
          file.erase(where, where + static_cast<std::ptrdiff_t>(std::min(file.size() - at, 1 + below(9))));
          break;
        case 3:
          file.insert(where, 1 + below(9), static_cast<std::byte>(below(256)));
          break;
        case 4:
          file.resize(at);
          break;
        case 5:
          *where = static_cast<std::byte>("{}[],:\"0-9.eE\\u"[below(15)]);
          break;
      }
    }
    accepted += accepts(file);
  }
  // Changes to the data alone are harmless; a test in which all or none pass would test nothing.
  CHECK(accepted > rounds / 100);
  CHECK(accepted < rounds / 2);
}

TEST_CASE("fuzz: header text with the length kept right") {
  bytes const seed = fuzz_seed();
  std::string const header = header_of(seed);
  std::vector<std::string> const words{"0",
                                       "-1",
                                       "1e9",
                                       "18446744073709551615",
                                       "9223372036854775807",
                                       "{}",
                                       "[]",
                                       "null",
                                       "true",
                                       "\"F32\"",
                                       "\"U8\"",
                                       ",",
                                       "[0,0]",
                                       "{",
                                       "}",
                                       "\"shape\":[1]",
                                       "\\ud800",
                                       "\xc3\x28",
                                       "\"\"",
                                       ":",
                                       "[[[[",
                                       "__metadata__",
                                       "4294967296",
                                       " "};
  std::mt19937 random(7);
  auto const below = [&](std::size_t end) { return static_cast<std::size_t>(random()) % end; };
  int accepted = 0;
  for (int round = 0; round < 60000; ++round) {
    std::string text = header;
    for (std::size_t change = 1 + below(2); change > 0; --change) {
      std::size_t const at = below(text.size());
      switch (below(4)) {
        case 0:
          text.replace(at, below(4), words[below(words.size())]);
          break;
        case 1:
          text.erase(at, 1 + below(6));
          break;
        case 2: {  // another digit where a digit is
          std::size_t const digit = text.find_first_of("0123456789", at);
          if (digit != text.npos) text[digit] = static_cast<char>('0' + below(10));
          break;
        }
        case 3:
          text.insert(at, text.substr(below(text.size()), below(40)));
          break;
      }
    }
    accepted += accepts(with_header(text, seed));
  }
  CHECK(accepted > 0);
}

TEST_CASE("fuzz: header values of any JSON type, in any place") {
  bytes const seed = fuzz_seed();
  auto const tree = nlohmann::json::parse(header_of(seed));
  std::vector<nlohmann::json::json_pointer> places;
  auto const leaves = tree.flatten();
  for (auto const& [pointer, value] : leaves.items()) {
    places.emplace_back(pointer);
    places.push_back(places.back().parent_pointer());
  }
  std::vector<nlohmann::json> const values{nullptr,
                                           true,
                                           0,
                                           1,
                                           4,
                                           24,
                                           -1,
                                           1.5,
                                           std::numeric_limits<std::uint64_t>::max(),
                                           std::numeric_limits<std::int64_t>::max(),
                                           std::int64_t{1} << 32,
                                           "",
                                           "F64",
                                           "BOOL",
                                           nlohmann::json::array(),
                                           nlohmann::json::object(),
                                           {0, 0},
                                           {0, 24},
                                           {1, 1, 1},
                                           {{"dtype", "U8"}, {"shape", {0}}, {"data_offsets", {0, 0}}}};
  std::mt19937 random(11);
  auto const below = [&](std::size_t end) { return static_cast<std::size_t>(random()) % end; };
  int accepted = 0;
  for (int round = 0; round < 30000; ++round) {
    auto changed = tree;
    for (std::size_t change = 1 + below(3); change > 0; --change) {
      auto const& place = places[below(places.size())];
      try {
        if (below(4) == 0 && !place.empty() && changed.at(place.parent_pointer()).is_object()) {
          changed.at(place.parent_pointer()).erase(place.back());
        } else {
          changed[place] = values[below(values.size())];
        }
      } catch (nlohmann::json::exception const&) {  // an earlier change has removed this place
      }
    }
    accepted += accepts(with_header(changed.dump(), seed));
  }
  CHECK(accepted > 0);
}

TEST_CASE("a dtype without a name is refused") {
  safetensors_writer writer;
  CHECK_THROWS_WITH_AS(writer.add_bytes("a", static_cast<safetensors_dtype>(77), {1}, {}),
                       doctest::Contains("tensor \"a\" dtype: got 77"), elastic::error);
}
