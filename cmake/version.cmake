# ELASTIC_VERSION, from include/elastic/version.hpp.
file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/../include/elastic/version.hpp lines REGEX "#define ELASTIC_VERSION_")
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3" ELASTIC_VERSION "${lines}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../include/elastic/version.hpp)
