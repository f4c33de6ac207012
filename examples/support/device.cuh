// Host vectors on a CUDA device, and back: what a program that keeps its tensors on the device already has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <elastic/cuda/cuda.cuh>

namespace examples {

using namespace elastic;

template <class T>
class device_vector {
 public:
  device_vector() = default;
  explicit device_vector(std::size_t size) : size_(size) {
    void* memory = nullptr;
    elastic::detail::cuda_call(cudaMalloc(&memory, size * sizeof(T) + 1), "cudaMalloc");
    data_ = {static_cast<T*>(memory), [](T* data) { cudaFree(data); }};
  }
  explicit device_vector(std::vector<T> const& values) : device_vector(values.size()) { assign(values); }

  T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

  void assign(std::vector<T> const& values) const {
    elastic::detail::cuda_call(cudaMemcpy(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
                               "cudaMemcpy");
  }
  std::vector<T> to_host() const {
    std::vector<T> values(size_);
    copy_to(values.data());
    return values;
  }
  void copy_to(void* to) const {
    elastic::detail::cuda_call(cudaMemcpy(to, data(), size_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
  }

 private:
  std::shared_ptr<T> data_;
  std::size_t size_ = 0;
};

/// Floats rounded to T on the way.
template <element T>
device_vector<T> to_device(std::vector<float> const& values) {
  std::vector<T> rounded;
  rounded.reserve(values.size());
  for (float const x : values) rounded.push_back(T(x));
  return device_vector<T>(rounded);
}

template <element T>
std::vector<float> to_floats(device_vector<T> const& device) {
  std::vector<float> values;
  values.reserve(device.size());
  for (T const x : device.to_host()) values.push_back(static_cast<float>(x));
  return values;
}

inline void wait_for_device() { elastic::detail::cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

}  // namespace examples
