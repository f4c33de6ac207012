// Files that the programs write: the place is checked before the work is done, and they appear complete or not at all.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <elastic/io/output_file.hpp>

namespace examples {

using namespace elastic;

/// Where a file of that name goes: through a link, to what it names. Refuses a place that takes no file.
inline std::filesystem::path output_path(std::string const& argument, std::filesystem::path const& name) {
  return output_file(argument, name).path();  // which leaves nothing there
}

struct text_file {
  std::filesystem::path path;
  std::string text;
};

/// All are written under other names before the first takes its own.
inline void write_files(std::string const& argument, std::vector<text_file> const& files) {
  auto const temporary = [](text_file const& file) { return file.path.string() + ".tmp"; };
  auto const refuse = [&](text_file const& failed) {
    std::error_code ignored;
    for (text_file const& file : files) std::filesystem::remove(temporary(file), ignored);
    throw error(argument, elastic::detail::in_quotes(failed.path.string()), "a file that can be written");
  };
  for (text_file const& file : files) {
    std::ofstream stream(temporary(file), std::ios::binary);
    stream << file.text;
    stream.close();
    if (!stream) refuse(file);
  }
  std::error_code failure;
  for (text_file const& file : files) {
    std::filesystem::rename(temporary(file), file.path, failure);
    if (failure) refuse(file);
  }
}

}  // namespace examples
