// What the command-line programs share: bad input ends in one line on stderr and status 2, whoever found it.
#pragma once

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace examples {

template <class Body>
int run_program(CLI::App& app, int argc, char** argv, Body&& body) {
  auto const complain = [&](std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    fmt::print(stderr, "{}: {}\n", app.get_name(), text);
    return 2;
  };
  try {
    app.parse(argc, argv);
    body();
    return 0;
  } catch (CLI::Success const& asked) {  // --help
    return app.exit(asked);
  } catch (std::exception const& wrong) {  // elastic::error above all, and CLI::ParseError
    return complain(wrong.what());
  }
}

}  // namespace examples
