#include <doctest/doctest.h>

#include <elastic/version.hpp>

TEST_CASE("the version is the one that CMake read from the header") {
  CHECK(elastic::version.major_version == ELASTIC_VERSION_MAJOR);
}
