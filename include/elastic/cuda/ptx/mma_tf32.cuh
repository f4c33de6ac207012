// mma.sync.m16n8k8 on tf32, floats of which the upper 19 bits are read: c (16×8, float) += a (16×8, row) · b (8×8,
// column). PTX ISA, "Matrix Fragments for mma.m16n8k8 with .tf32 floating point type".
#pragma once

#include <cstdint>

namespace elastic::ptx {

__device__ __forceinline__ void mma_tf32(float (&c)[4], std::uint32_t const (&a)[4], std::uint32_t b0,
                                         std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace elastic::ptx
