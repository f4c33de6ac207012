// Files that the programs write: the place is checked before the work is done, and they appear complete or not at all.
#pragma once

#include <deque>
#include <filesystem>
#include <string>
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
  std::deque<output_file> written;
  for (text_file const& file : files) {
    written.emplace_back(argument, file.path).append(file.text);
    written.back().close();
  }
  for (output_file& file : written) file.rename();
}

}  // namespace examples
