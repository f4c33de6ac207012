#include <doctest/doctest.h>

#include <string>

#include <elastic/version.hpp>

TEST_CASE("the package's version is the header's") {
  auto const [major, minor, patch] = elastic::version;
  CHECK(std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch) == PACKAGE_VERSION);
}
