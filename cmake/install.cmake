# Installs the headers and the package `elastic`, with the components io and cuda.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(package ${CMAKE_INSTALL_DATADIR}/cmake/elastic)

install(TARGETS elastic EXPORT elastic-targets FILE_SET HEADERS)
install(TARGETS elastic_io EXPORT elastic-io)
install(TARGETS elastic_cuda EXPORT elastic-cuda)
install(EXPORT elastic-targets NAMESPACE elastic:: DESTINATION ${package})
install(EXPORT elastic-io NAMESPACE elastic:: DESTINATION ${package})
install(EXPORT elastic-cuda NAMESPACE elastic:: DESTINATION ${package})

write_basic_package_version_file(elastic-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/elastic-config.cmake ${CMAKE_CURRENT_LIST_DIR}/architectures.cmake
        ${PROJECT_BINARY_DIR}/elastic-config-version.cmake
        DESTINATION ${package})
