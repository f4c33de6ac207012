// Device memory for tests: a memory resource that host and device can read, and whether there is a device at all.
#pragma once

#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <string>

#include "support/device_buffer.hpp"

namespace elastic::testing {

/// Is there a device? Tests that find none skip, and the number of them is printed at the end.
inline bool device_missing(char const* test) {
  static int skipped = 0;
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return false;
  cudaGetLastError();
  if (skipped++ == 0) std::atexit([] { std::printf("%d GPU tests skipped: no device\n", skipped); });
  MESSAGE("skipped, no device: " << std::string(test));
  return true;
}

/// Page-locked memory that the device reads by the host's address.
class pinned_resource final : public std::pmr::memory_resource {
  void* do_allocate(std::size_t bytes, std::size_t) override {
    void* memory = nullptr;
    if (cudaMallocHost(&memory, bytes) != cudaSuccess) throw std::bad_alloc();
    return memory;
  }
  void do_deallocate(void* memory, std::size_t, std::size_t) override { cudaFreeHost(memory); }
  bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override { return this == &other; }
};

}  // namespace elastic::testing
