// The backends that a program offers: cuda where it was compiled in (ELASTIC_CUDA).
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <elastic/core/error.hpp>

namespace examples {

#ifdef ELASTIC_EXAMPLES_CUDA
inline constexpr bool has_cuda = true;
#else
inline constexpr bool has_cuda = false;
#endif

/// Refuses a backend that this program does not have; `offered` are those of the host that it has.
inline void check_backend(std::string const& name, std::vector<std::string> offered = {"cpu", "reference"}) {
  if (has_cuda) offered.emplace_back("cuda");
  if (std::ranges::find(offered, name) != offered.end()) return;
  std::string expected;
  for (std::size_t i = 0; i < offered.size(); ++i)
    expected += (i == 0 ? "" : i + 1 == offered.size() ? " or " : ", ") + offered[i];
  if (name == "cuda") expected += ": this build has no CUDA (ELASTIC_CUDA)";
  throw elastic::error("--backend", name, expected);
}

}  // namespace examples
