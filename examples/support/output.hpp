// Files that the programs write: the place is checked before the work is done, and they appear complete or not at all.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include <elastic/core/error.hpp>
#include <elastic/io/safetensors_header.hpp>

namespace examples {

using namespace elastic;

/// Where a file of that name goes: through a link, to what it names. Refuses what is there and is no regular file
/// (a folder, a device, a pipe, a link to nowhere), and a folder that takes no files.
inline std::filesystem::path output_path(std::string const& argument, std::filesystem::path const& name) {
  namespace fs = std::filesystem;
  std::error_code failure;
  bool const is_new = fs::symlink_status(name, failure).type() == fs::file_type::not_found;
  if (!is_new && !fs::is_regular_file(name, failure))
    throw error(argument, elastic::detail::in_quotes(name.string()), "a new file, or a regular one to replace");
  fs::path const path = is_new ? name : fs::canonical(name);
  std::string probe = (path.parent_path() / ".elastic-XXXXXX").string();
  int const made = mkstemp(probe.data());
  if (made < 0)
    throw error(argument,
                elastic::detail::in_quotes(name.string()) + " (" + std::generic_category().message(errno) + ")",
                "a place where a file can be written");
  close(made);
  unlink(probe.c_str());
  return path;
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
