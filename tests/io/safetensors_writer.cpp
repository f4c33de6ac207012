#include <elastic/io/safetensors_writer.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <support/safetensors.hpp>
#include <support/scratch_folder.hpp>

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif

using namespace elastic;
using namespace elastic::testing;

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

TEST_CASE("a dtype without a name is refused") {
  safetensors_writer writer;
  CHECK_THROWS_WITH_AS(writer.add_bytes("a", static_cast<safetensors_dtype>(77), {1}, {}),
                       doctest::Contains("tensor \"a\" dtype: got 77"), elastic::error);
}
