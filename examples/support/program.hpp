// What the command-line programs share: bad input, and output that cannot be written, end in one line on stderr and
// status 2, whoever found it. Where stderr cannot be written either, the status alone says it.
#pragma once

#include <fcntl.h>

#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <elastic/core/printable.hpp>

#include "parameters.hpp"

namespace examples {

using detail::printable;

template <class T>
struct number_in {
  using type = T;
};
template <class T>
struct number_in<std::optional<T>> {
  using type = T;
};

/// An option that the whole text of a number sets; to CLI11 "" is 0 as well, and -1 is 2^64 - 1.
template <class T>
CLI::Option* add_number(CLI::App& app, std::string const& name, T& value, std::string const& what) {
  auto const set = [name, &value](std::string const& text) {
    value = parse_number<typename number_in<T>::type>(name, text);
  };
  return app.add_option_function<std::string>(name, set, what)->type_name("NUMBER");
}

/// Refuses "--out=": CLI11 would take the next argument for the value.
inline void require_values(int argc, char const* const* argv) {
  for (int i = 1; i < argc; ++i) {
    std::string const argument = argv[i];
    if (argument == "--") return;
    if (argument.starts_with("--") && argument.find('=') == argument.size() - 1)
      throw error(argument.substr(0, argument.size() - 1), "nothing", "a value after =");
  }
}

template <class Body>
int run_program(CLI::App& app, int argc, char** argv, Body&& body) {
  for (int standard : {0, 1, 2})  // a closed one would be the next file that opens
    if (fcntl(standard, F_GETFD) < 0) static_cast<void>(open("/dev/null", O_RDONLY));
  try {
    try {
      require_values(argc, argv);
      app.parse(argc, argv);
      body();
    } catch (CLI::Success const& asked) {  // --help
      app.exit(asked);
    }
    bool const told = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    require(told, "stdout", "a failed write", "a place that can be written");
    return 0;
  } catch (std::exception const& wrong) {  // elastic::error above all, and CLI::ParseError
    std::fputs((app.get_name() + ": " + printable(wrong.what()) + "\n").c_str(), stderr);
    return 2;
  }
}

}  // namespace examples
