// A file that appears under its name complete or not at all: it is written under another name in the same folder, and
// then renamed. A link is followed to the file that it names, there or to come; what is there and is no regular file
// (a folder, a device, a pipe, a socket) is refused. Nothing is synchronised to the disk.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <elastic/core/error.hpp>
#include <elastic/io/in_quotes.hpp>

namespace elastic {

class output_file {
 public:
  /// Opens the temporary file.
  /// @param argument what errors name
  /// @throws error, and leaves nothing behind, where `name` is no place for a file; so do all below
  output_file(std::string argument, std::filesystem::path const& name)
      : argument_(std::move(argument)), name_(name.string()), path_(resolve(name)) {
    // Exclusive creation follows no link, and keeps concurrent writers, and what a crash has left, apart.
    for (int attempt = 0; attempt < 10000 && !stream_; ++attempt) {
      temporary_ = path_.parent_path() / (".elastic-" + std::to_string(attempt) + ".tmp");
      stream_.reset(std::fopen(temporary_.string().c_str(), "wbx"));
      if (!stream_ && errno != EEXIST) break;
    }
    if (!stream_) fail(errno);
    created_ = true;
  }
  ~output_file() {
    if (!created_) return;
    stream_.reset();
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }
  output_file(output_file const&) = delete;
  output_file& operator=(output_file const&) = delete;

  /// Where the file will be: its name, or what a link of that name leads to.
  std::filesystem::path const& path() const { return path_; }

  void append(void const* data, std::size_t count) {
    if (count != 0 && std::fwrite(data, 1, count, stream_.get()) != count) fail(errno);
  }
  void append(std::string_view text) { append(text.data(), text.size()); }

  /// Ends the writing: what the system has put off fails here.
  void close() {
    if (stream_ && std::fclose(stream_.release()) != 0) fail(errno);
  }

  /// Takes the name, in place of the file that has it.
  void rename() {
    close();
    std::error_code failure;
    std::filesystem::rename(temporary_, path_, failure);
    if (failure) fail(failure.value());
    created_ = false;
  }

 private:
  [[noreturn]] void refuse(std::string const& why, char const* expected) const {
    throw error(argument_, detail::in_quotes(name_) + " (" + why + ")", expected);
  }
  [[noreturn]] void fail(int code) const {
    refuse(std::generic_category().message(code), "a place where a file can be written");
  }

  std::filesystem::path resolve(std::filesystem::path path) const {
    using type = std::filesystem::file_type;
    if (name_.find('\0') != name_.npos) fail(EINVAL);  // the system would take it for the name's end
    std::error_code failure;
    type const there = std::filesystem::status(path, failure).type();
    if (failure && there != type::not_found) fail(failure.value());  // a loop of links, say
    if (there != type::regular && there != type::not_found)
      refuse(there == type::directory                           ? "a folder"
             : there == type::fifo                              ? "a pipe"
             : there == type::block || there == type::character ? "a device"
                                                                : "no regular file",
             "a new file, or a regular one to replace");
    // Link by link, because the last may lead to a file that is not there yet.
    for (int links = 0; std::filesystem::is_symlink(std::filesystem::symlink_status(path, failure)); ++links) {
      if (links == 40) fail(ELOOP);
      path = path.parent_path() / std::filesystem::read_symlink(path, failure);
      if (failure) fail(failure.value());
    }
    if (!path.has_filename()) fail(ENOENT);
    return path;
  }

  struct closer {
    void operator()(std::FILE* stream) const { std::fclose(stream); }
  };

  std::string argument_, name_;
  std::filesystem::path path_, temporary_;
  std::unique_ptr<std::FILE, closer> stream_;
  bool created_ = false;
};

}  // namespace elastic
