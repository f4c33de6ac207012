// The library's version (SemVer). CMake and the installed package read it from here; before 1.0 a
// package serves requests for its own minor version alone.
#pragma once

#define ELASTIC_VERSION_MAJOR 0
#define ELASTIC_VERSION_MINOR 1
#define ELASTIC_VERSION_PATCH 0

namespace elastic {

struct version_number {
  int major, minor, patch;
};

inline constexpr version_number version{ELASTIC_VERSION_MAJOR, ELASTIC_VERSION_MINOR, ELASTIC_VERSION_PATCH};

}  // namespace elastic
