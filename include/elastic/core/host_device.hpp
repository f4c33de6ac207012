// ELASTIC_HOST_DEVICE marks pure arithmetic that runs on the host and in CUDA kernels alike.
// A host compiler sees nothing; nvcc sees __host__ __device__ and inlines.
#pragma once

#include <cstdint>
#include <limits>

#ifdef __CUDACC__
#define ELASTIC_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define ELASTIC_HOST_DEVICE inline
#endif

namespace elastic {

template <class T>
ELASTIC_HOST_DEVICE constexpr T minimum(T a, T b) {
  return b < a ? b : a;
}

template <class T>
ELASTIC_HOST_DEVICE constexpr T maximum(T a, T b) {
  return a < b ? b : a;
}

/// ⌈a / b⌉ for a ≥ 0, b > 0.
template <class T>
ELASTIC_HOST_DEVICE constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

/// a · b, or the largest number where that leaves 64 bits. Device code, whose views were checked, multiplies.
ELASTIC_HOST_DEVICE constexpr std::int64_t saturating_product(std::int64_t a, std::int64_t b) {
#ifdef __CUDA_ARCH__
  return a * b;
#else
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<std::int64_t>::max() : product;
#endif
}

/// ⌊a / b⌋ for any sign of a, b > 0.
template <class T>
ELASTIC_HOST_DEVICE constexpr T floor_div(T a, T b) {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}

ELASTIC_HOST_DEVICE constexpr int gcd(int a, int b) {
  while (b != 0) {
    int const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

}  // namespace elastic
