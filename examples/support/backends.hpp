// The backends that a program offers: cuda where it was compiled in (ELASTIC_CUDA).
#pragma once

#include <string>

#include <elastic/core/error.hpp>

namespace examples {

#ifdef ELASTIC_EXAMPLES_CUDA
inline constexpr bool has_cuda = true;
#else
inline constexpr bool has_cuda = false;
#endif

/// Refuses a backend that this program does not have.
inline void check_backend(std::string const& name) {
  elastic::require(name != "cuda" || has_cuda, "--backend", "cuda",
                   "cpu or reference: this build has no CUDA (ELASTIC_CUDA)");
  elastic::require(name == "cpu" || name == "reference" || name == "cuda", "--backend", name,
                   has_cuda ? "cpu, reference or cuda" : "cpu or reference");
}

}  // namespace examples
