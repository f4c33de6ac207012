# How the project compiles its own executables; nothing here reaches a user of elastic::elastic.
if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  find_program(CCACHE ccache)
  if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
endif()

add_library(elastic_build INTERFACE)
target_link_libraries(elastic_build INTERFACE elastic elastic_io)
target_compile_options(elastic_build INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion
    $<$<BOOL:${ELASTIC_WERROR}>:-Werror>
    $<$<BOOL:${ELASTIC_NATIVE}>:-march=native>>)

set(ELASTIC_SOURCES *.cpp)
if(ELASTIC_CUDA)
  enable_language(CUDA)
  target_link_libraries(elastic_build INTERFACE elastic_cuda)
  target_compile_definitions(elastic_build INTERFACE $<$<BOOL:${ELASTIC_CUDA_MATRIX}>:ELASTIC_CUDA_MATRIX>)
  list(APPEND ELASTIC_SOURCES *.cu)
  if(ELASTIC_CUDA_ONLY)
    set(ELASTIC_SOURCES cuda/*.cu cuda/*.cpp)
  endif()
  if(PROJECT_IS_TOP_LEVEL)
    target_compile_options(elastic_build INTERFACE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Xptxas=-v>)
    set(ELASTIC_PTXAS_GATE ${CMAKE_CURRENT_LIST_DIR}/ptxas_gate.sh)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${ELASTIC_PTXAS_GATE} ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()
endif()
