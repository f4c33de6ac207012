#include <elastic/core/error.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>
#include <string>

TEST_CASE("an error names the argument, what came and what was expected") {
  elastic::error const error("head_dim", "48", "one of 32, 64");
  CHECK(error.argument() == "head_dim");
  CHECK(error.given() == "48");
  CHECK(error.expected() == "one of 32, 64");
  CHECK(std::string(error.what()) == "elastic: head_dim: got 48, expected one of 32, 64");
  CHECK_THROWS_AS(throw error, std::invalid_argument);
}

TEST_CASE("require is silent where the condition holds and shows values of any type where not") {
  CHECK_NOTHROW(elastic::require(true, "stride", 3, 4));

  auto const message = [](auto const& given, auto const& expected) -> std::string {
    try {
      elastic::require(false, "argument", given, expected);
    } catch (elastic::error const& error) {
      CHECK(error.argument() == "argument");
      return error.given() + " | " + error.expected();
    }
    return "nothing thrown";
  };
  CHECK(message(7, "a multiple of 8") == "7 | a multiple of 8");
  CHECK(message(std::int64_t{-1} << 62, std::uint64_t{1} << 63) == "-4611686018427387904 | 9223372036854775808");
  CHECK(message(false, true) == "false | true");
  CHECK(message(0.5, 1.5f) == "0.5 | 1.5");
  CHECK(message(std::int8_t{65}, std::string("text")) == "65 | text");
}

TEST_CASE("an enum's value without a name is refused") {
  enum class colour { red, green };
  CHECK_NOTHROW(elastic::require_enumerator("colour", colour::green, colour::green));
  for (int const number : {2, -1, 99})
    CHECK_THROWS_WITH_AS(
        elastic::require_enumerator("colour", static_cast<colour>(number), colour::green),
        ("elastic: colour: got " + std::to_string(number) + ", expected an enumerator: 0 to 1").c_str(),
        elastic::error);
}
