// Runs the program under test in a folder of its own, and keeps what it said.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include <support/scratch_folder.hpp>

namespace elastic::testing {

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
inline outcome run(scratch_folder const& where, std::string const& arguments) {
  scratch_folder const words;
  std::string const command = "cd '" + where.path.string() + "' && '" ELASTIC_TEST_PROGRAM "' " + arguments + " >'" +
                              (words / "out").string() + "' 2>'" + (words / "err").string() + "' </dev/null";
  int const ended = std::system(command.c_str());
  return {WIFEXITED(ended) ? WEXITSTATUS(ended) : -1, contents(words / "out"), contents(words / "err")};
}

}  // namespace elastic::testing
