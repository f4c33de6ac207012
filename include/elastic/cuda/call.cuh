// cuda_call(cudaSomething(…), "cudaSomething"): throws cuda_error where the call failed. device_attribute,
// ctas_at_once: what a device has room for. attributes_of: what is known of the code of a kernel that would run.
// launch_dependent: a kernel that may start before the one before it has ended.
#pragma once

#include <cstddef>
#include <source_location>
#include <type_traits>

#include <cuda_runtime.h>

#include <elastic/cuda/error.hpp>

namespace elastic::detail {

inline void cuda_call(cudaError_t status, char const* name,
                      std::source_location const& at = std::source_location::current()) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a refused launch must not be reported again by the next one
  throw cuda_error(name, at.file_name(), static_cast<int>(at.line()), static_cast<int>(status),
                   cudaGetErrorString(status));
}

inline int device_attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  cuda_call(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

template <class Entry>
cudaFuncAttributes attributes_of(Entry const& entry) {
  cudaFuncAttributes attributes;
  cuda_call(cudaFuncGetAttributes(&attributes, entry), "cudaFuncGetAttributes");
  return attributes;
}

/// CTAs of a kernel that the device runs at once.
template <class Entry>
int ctas_at_once(Entry const& entry, int threads, int bytes, int device) {
  int residents = 0;
  cuda_call(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&residents, entry, threads, static_cast<std::size_t>(bytes)),
            "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return device_attribute(cudaDevAttrMultiProcessorCount, device) * (residents > 0 ? residents : 1);
}

/// Launches a kernel that waits for its prerequisites (ptx/dependent_launch.cuh), and so may start before the one
/// before it has ended. Compiled for less than 9.0 it does not wait, and starts when that one has ended.
template <class... Parameters>
void launch_dependent(void (*kernel)(Parameters...), dim3 grid, int threads, int bytes, cudaStream_t stream,
                      char const* name, std::type_identity_t<Parameters> const&... given) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = attributes_of(kernel).ptxVersion >= 90 ? 1 : 0;
  cuda_call(cudaLaunchKernelEx(&config, kernel, given...), name);
}

}  // namespace elastic::detail
