// A folder for a test's files, and what stands in them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <system_error>

#include <doctest/doctest.h>

namespace elastic::testing {

/// A folder of its own, gone at the end.
class scratch_folder {
 public:
  scratch_folder() {
    static int made = 0;
    std::random_device random;
    path = std::filesystem::temp_directory_path() /
           ("elastic-test-" + std::to_string(random()) + "-" + std::to_string(made++));
    REQUIRE(std::filesystem::create_directory(path));
  }
  ~scratch_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  scratch_folder(scratch_folder const&) = delete;
  scratch_folder& operator=(scratch_folder const&) = delete;

  std::filesystem::path operator/(std::string const& name) const { return path / name; }
  std::size_t entries() const { return count<std::filesystem::directory_iterator>(); }
  /// Those of the folders inside too.
  std::size_t all_entries() const { return count<std::filesystem::recursive_directory_iterator>(); }

  std::filesystem::path path;

 private:
  template <class Iterator>
  std::size_t count() const {
    return static_cast<std::size_t>(std::distance(Iterator(path), Iterator()));
  }
};

inline std::string contents(std::filesystem::path const& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void put(std::filesystem::path const& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace elastic::testing
