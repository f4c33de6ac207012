// stmatrix: four 8×8 matrices of 16-bit elements from mma fragments into shared memory; lane l names row
// l mod 8 of matrix l / 8. The counterpart of ldmatrix.
#pragma once

#include <cstdint>

namespace elastic::ptx {

__device__ __forceinline__ void store_matrices(std::uint32_t address, std::uint32_t r0, std::uint32_t r1,
                                               std::uint32_t r2, std::uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(r0), "r"(r1),
               "r"(r2), "r"(r3)
               : "memory");
}

}  // namespace elastic::ptx
