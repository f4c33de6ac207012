# Each dependency is found on the system or, failing that, fetched: the release that Debian 12 ships, pinned
# by commit. Header-only ones become an imported target without running their build. The library itself
# needs Eigen alone; elastic::io and elastic::cuda need theirs only where they are linked.
include(FetchContent)

function(elastic_find package target)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "VERSION;GIT;COMMIT;HEADERS" "")
  if(TARGET ${target})
    return()
  endif()
  find_package(${package} ${arg_VERSION} QUIET GLOBAL)
  if(${package}_FOUND)
    return()
  endif()
  message(STATUS "${package} was not found: fetching ${arg_GIT}")
  if(NOT arg_HEADERS)
    FetchContent_Declare(${package} GIT_REPOSITORY ${arg_GIT} GIT_TAG ${arg_COMMIT} SYSTEM)
    FetchContent_MakeAvailable(${package})
    return()
  endif()
  FetchContent_Declare(${package} GIT_REPOSITORY ${arg_GIT} GIT_TAG ${arg_COMMIT} SOURCE_SUBDIR headers-only)
  FetchContent_MakeAvailable(${package})
  FetchContent_GetProperties(${package} SOURCE_DIR source)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${source}/${arg_HEADERS})
endfunction()

find_package(Threads REQUIRED)
find_package(CUDAToolkit QUIET)
find_package(nlohmann_json QUIET GLOBAL)  # of elastic::io; fetched below for this project's own programs alone
elastic_find(Eigen3 Eigen3::Eigen VERSION 3.4 HEADERS .
  GIT https://gitlab.com/libeigen/eigen.git COMMIT 3147391d946bb4b6c68edd901f2add6ac1f31f8c)  # 3.4.0

if(ELASTIC_BUILD_TESTS OR ELASTIC_BUILD_EXAMPLES OR ELASTIC_BUILD_BENCHMARKS)
  elastic_find(nlohmann_json nlohmann_json::nlohmann_json HEADERS include
    GIT https://github.com/nlohmann/json.git COMMIT bc889afb4c5bf1c0d8ee29ef35eaaf4c8bef8a5d)  # 3.11.2
endif()
if(ELASTIC_BUILD_TESTS)
  elastic_find(doctest doctest::doctest HEADERS .
    GIT https://github.com/doctest/doctest.git COMMIT b7c21ec5ceeadb4951b00396fc1e4642dd347e5f)  # 2.4.9
endif()
if(ELASTIC_BUILD_EXAMPLES)
  elastic_find(CLI11 CLI11::CLI11 HEADERS include
    GIT https://github.com/CLIUtils/CLI11.git COMMIT 70f8072f9dd2292fd0b9f9e5f58e279f60483ed3)  # 2.1.2
  elastic_find(fmt fmt::fmt
    GIT https://github.com/fmtlib/fmt.git COMMIT a33701196adfad74917046096bf5a2aa0ab0bb50)  # 9.1.0
endif()
if(ELASTIC_BUILD_BENCHMARKS)
  set(BENCHMARK_ENABLE_TESTING OFF CACHE INTERNAL "")
  set(BENCHMARK_ENABLE_INSTALL OFF CACHE INTERNAL "")
  elastic_find(benchmark benchmark::benchmark_main
    GIT https://github.com/google/benchmark.git COMMIT d572f4777349d43653b21d6c2fc63020ab326db2)  # 1.7.1
endif()
