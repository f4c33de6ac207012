// Eigen, without the false warnings of GCC before 13, which takes the undefined lanes of its own AVX-512 intrinsics for
// a mistake of whoever calls them. Where the intrinsics were included before this header, those of Eigen's own
// products stay.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <Eigen/Core>
#pragma GCC diagnostic pop
#else
#include <Eigen/Core>
#endif
