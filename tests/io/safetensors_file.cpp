#include <elastic/io/safetensors_file.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <support/safetensors.hpp>
#include <support/scratch_folder.hpp>

using namespace elastic;
using namespace elastic::testing;

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
