// Runs the program under test in a folder of its own, and keeps what it said.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace elastic::testing {

inline std::string text_of_file(std::filesystem::path const& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

class folder {
 public:
  folder() {
    std::string name = (std::filesystem::temp_directory_path() / "elastic-examples-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  folder(folder const&) = delete;

  std::filesystem::path operator/(std::string const& name) const { return path_ / name; }
  std::filesystem::path const& path() const { return path_; }

  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::recursive_directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

struct outcome {
  int status = -1;
  std::string said, complained;

  /// Bad input: status 2, one line on stderr that has this in it, nothing on stdout.
  bool refused(std::string const& with) const {
    bool const one_line = std::ranges::count(complained, '\n') == 1 && complained.ends_with('\n');
    bool const fits = status == 2 && one_line && complained.find(with) != std::string::npos && said.empty();
    if (!fits) MESSAGE("status " << status << ", stdout '" << said << "', stderr '" << complained << "'");
    return fits;
  }
};

/// `arguments` as in a shell, with `where` as the working directory; the program's words are kept elsewhere.
inline outcome run(folder const& where, std::string const& arguments) {
  folder const words;
  std::string const command = "cd '" + where.path().string() + "' && '" ELASTIC_TEST_PROGRAM "' " + arguments + " >'" +
                              (words / "out").string() + "' 2>'" + (words / "err").string() + "' </dev/null";
  int const ended = std::system(command.c_str());
  return {WIFEXITED(ended) ? WEXITSTATUS(ended) : -1, text_of_file(words / "out"), text_of_file(words / "err")};
}

}  // namespace elastic::testing
