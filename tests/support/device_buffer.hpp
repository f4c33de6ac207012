// Memory on a CUDA device, owned: written and read whole.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>
#include <vector>

#include <elastic/cuda/call.cuh>

namespace elastic::testing {

using elastic::detail::cuda_call;

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
    if (values.empty()) return;
    cuda_call(cudaMemcpy(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice), "cudaMemcpy");
    cuda_call(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");  // the copy may still be on its way
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

}  // namespace elastic::testing
