// What is written is read again.
#include <elastic/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <support/safetensors.hpp>
#include <support/scratch_folder.hpp>

using namespace elastic;
using namespace elastic::testing;

namespace {

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
