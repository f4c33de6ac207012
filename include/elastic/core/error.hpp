// The one exception of the library: bad input, told by the argument's name, what came and what was
// expected. It is thrown before any output is written. Nothing exits, aborts or prints.
#pragma once

#include <concepts>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace elastic {

class error : public std::invalid_argument {
 public:
  error(std::string argument, std::string given, std::string expected)
      : std::invalid_argument("elastic: " + argument + ": got " + given + ", expected " + expected),
        argument_(std::move(argument)),
        given_(std::move(given)),
        expected_(std::move(expected)) {}

  std::string const& argument() const noexcept { return argument_; }
  std::string const& given() const noexcept { return given_; }
  std::string const& expected() const noexcept { return expected_; }

 private:
  std::string argument_, given_, expected_;
};

namespace detail {

inline std::string show(std::string text) { return text; }
inline std::string show(char const* text) { return text; }
inline std::string show(bool value) { return value ? "true" : "false"; }
template <class T>
  requires std::integral<T> || std::floating_point<T>
std::string show(T value) {
  std::ostringstream out;
  out << +value;
  return out.str();
}

}  // namespace detail

/// Throws elastic::error unless `holds`. The strings are built only on failure.
template <class Given, class Expected>
void require(bool holds, char const* argument, Given const& given, Expected const& expected) {
  if (!holds) [[unlikely]]
    throw error(argument, detail::show(given), detail::show(expected));
}

/// Throws elastic::error where an enum that counts from 0 holds a number past its `last` name.
template <class Enum>
void require_enumerator(char const* argument, Enum value, Enum last) {
  auto const number = static_cast<std::int64_t>(value), most = static_cast<std::int64_t>(last);
  require(number >= 0 && number <= most, argument, number, "an enumerator: 0 to " + detail::show(most));
}

}  // namespace elastic
