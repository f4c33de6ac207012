// cuda_call(cudaSomething(…), "cudaSomething"): throws cuda_error where the call failed.
#pragma once

#include <source_location>

#include <cuda_runtime_api.h>

#include <elastic/cuda/error.hpp>

namespace elastic::detail {

inline void cuda_call(cudaError_t status, char const* name,
                      std::source_location const& at = std::source_location::current()) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a refused launch must not be reported again by the next one
  throw cuda_error(name, at.file_name(), static_cast<int>(at.line()), static_cast<int>(status),
                   cudaGetErrorString(status));
}

}  // namespace elastic::detail
