// Device memory for tests: buffers, a memory resource that host and device can read, and whether there is
// a device at all.
#pragma once

#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <span>
#include <string>
#include <vector>

#include <elastic/cuda/call.cuh>

namespace elastic::testing {

using elastic::detail::cuda_call;

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

template <class T>
class device_buffer {
 public:
  device_buffer() = default;
  explicit device_buffer(std::size_t size) : size_(size) {
    if (size > 0) cuda_call(cudaMalloc(&data_, size * sizeof(T)), "cudaMalloc");
  }
  explicit device_buffer(std::span<T const> values) : device_buffer(values.size()) { write(values); }
  device_buffer(device_buffer const&) = delete;
  ~device_buffer() { cudaFree(data_); }

  T* data() const { return static_cast<T*>(data_); }
  std::size_t size() const { return size_; }

  void write(std::span<T const> values) const {
    if (!values.empty())
      cuda_call(cudaMemcpy(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  std::vector<T> read() const {
    std::vector<T> values(size_);
    if (size_ > 0) cuda_call(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

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
