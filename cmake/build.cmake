# What the project's own executables share: elastic_build carries their flags.
add_library(elastic_build INTERFACE)
target_link_libraries(elastic_build INTERFACE elastic)
target_compile_options(elastic_build INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion>
  $<$<AND:$<BOOL:${ELASTIC_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>
  $<$<AND:$<BOOL:${ELASTIC_NATIVE}>,$<COMPILE_LANGUAGE:CXX>>:-march=native>)

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  find_program(CCACHE ccache)
  if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
endif()
