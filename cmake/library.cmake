# The library: elastic::elastic (Eigen), elastic::io (adds nlohmann-json), elastic::cuda (adds the toolkit).
file(GLOB_RECURSE ELASTIC_HEADERS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/elastic/*.hpp
     ${PROJECT_SOURCE_DIR}/include/elastic/*.cuh)

add_library(elastic INTERFACE)
add_library(elastic::elastic ALIAS elastic)
target_sources(elastic INTERFACE FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${ELASTIC_HEADERS})
target_compile_features(elastic INTERFACE cxx_std_20)
target_link_libraries(elastic INTERFACE Eigen3::Eigen Threads::Threads)

add_library(elastic_io INTERFACE)
add_library(elastic::io ALIAS elastic_io)
set_target_properties(elastic_io PROPERTIES EXPORT_NAME io)
target_link_libraries(elastic_io INTERFACE elastic nlohmann_json::nlohmann_json)

# With CMake 3.25 and nvcc 13 neither cuda_std_20 nor cxx_std_20 makes nvcc compile C++20; the flag does.
add_library(elastic_cuda INTERFACE)
add_library(elastic::cuda ALIAS elastic_cuda)
set_target_properties(elastic_cuda PROPERTIES EXPORT_NAME cuda)
target_compile_options(elastic_cuda INTERFACE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20>)
target_link_libraries(elastic_cuda INTERFACE elastic CUDA::cudart)
# Host code cannot tell 9.0 from 9.0a, nor ask what a target is compiled for: the target says it.
target_compile_definitions(elastic_cuda INTERFACE
  $<$<BOOL:$<FILTER:$<TARGET_PROPERTY:CUDA_ARCHITECTURES>,INCLUDE,^90a>>:ELASTIC_CUDA_SM90A>)
include(${CMAKE_CURRENT_LIST_DIR}/architectures.cmake)
elastic_check_architectures()
