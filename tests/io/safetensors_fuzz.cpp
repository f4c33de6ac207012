// Whatever the bytes, reading ends in a file or in an error.
#include <elastic/io/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <support/safetensors.hpp>

using namespace elastic;
using namespace elastic::testing;

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
