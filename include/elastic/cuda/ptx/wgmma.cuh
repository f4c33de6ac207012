// wgmma (sm_90a): a warpgroup's d (64 × N, float) += a (64 × 16) · b (16 × N), of half or bfloat16. A thread holds
// row (warp·16 + lane/4 [+ 8]), columns 8j + 2·(lane mod 4) + {0, 1} of d as d[4j + {0, 1}] [d[4j + {2, 3}]].
// Operands in shared memory are named by the low word of a descriptor (sm90/descriptor.hpp); an operand in
// registers is packed as d is. PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate".
#pragma once

#include <cstdint>
#include <type_traits>

#include <elastic/core/dtype.hpp>
#include <elastic/cuda/sm90/descriptor.hpp>

namespace elastic::ptx {

/// Registers and shared memory that were written before may be read by wgmma.
__device__ __forceinline__ void fence_wgmma() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void end_wgmma_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits until at most `Pending` of the newest groups are under way.
template <int Pending>
__device__ __forceinline__ void wait_wgmma() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

/// The compiler may not move uses of an accumulator across this.
template <int N>
__device__ __forceinline__ void pin(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define ELASTIC_ACCUMULATORS_8(d) \
  "+f"((d)[0]), "+f"((d)[1]), "+f"((d)[2]), "+f"((d)[3]), "+f"((d)[4]), "+f"((d)[5]), "+f"((d)[6]), "+f"((d)[7])
#define ELASTIC_ACCUMULATORS_32(d)                                                              \
  ELASTIC_ACCUMULATORS_8(d), ELASTIC_ACCUMULATORS_8((d) + 8), ELASTIC_ACCUMULATORS_8((d) + 16), \
      ELASTIC_ACCUMULATORS_8((d) + 24)
#define ELASTIC_ACCUMULATORS_48(d) \
  ELASTIC_ACCUMULATORS_32(d), ELASTIC_ACCUMULATORS_8((d) + 32), ELASTIC_ACCUMULATORS_8((d) + 40)
#define ELASTIC_ACCUMULATORS_64(d) ELASTIC_ACCUMULATORS_32(d), ELASTIC_ACCUMULATORS_32((d) + 32)
#define ELASTIC_ACCUMULATORS_96(d) ELASTIC_ACCUMULATORS_64(d), ELASTIC_ACCUMULATORS_32((d) + 64)
#define ELASTIC_REGISTERS_32                                               \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ELASTIC_REGISTERS_48 \
  ELASTIC_REGISTERS_32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define ELASTIC_REGISTERS_64 \
  ELASTIC_REGISTERS_48       \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ELASTIC_REGISTERS_96                                                         \
  ELASTIC_REGISTERS_64                                                               \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"

// Both operands in shared memory, both with their 16 products of a step side by side ("K-major"). The operands'
// numbers follow those of the accumulators.
#define ELASTIC_SHARED_OPERANDS_32 "mov.b64 da, {%32, %34};\nmov.b64 db, {%33, %34};\nsetp.ne.b32 p, %35, 0;\n"
#define ELASTIC_SHARED_OPERANDS_64 "mov.b64 da, {%64, %66};\nmov.b64 db, {%65, %66};\nsetp.ne.b32 p, %67, 0;\n"
#define ELASTIC_SHARED_OPERANDS_96 "mov.b64 da, {%96, %98};\nmov.b64 db, {%97, %98};\nsetp.ne.b32 p, %99, 0;\n"
#define ELASTIC_WGMMA_SHARED(shape, type, count)                                                          \
  asm volatile("{\n.reg .pred p;\n.reg .b64 da, db;\n" ELASTIC_SHARED_OPERANDS_##count                    \
               "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" ELASTIC_REGISTERS_##count \
               "}, da, db, p, 1, 1, 0, 0;\n}"                                                             \
               : ELASTIC_ACCUMULATORS_##count(d)                                                          \
               : "r"(from_a), "r"(from_b), "n"(descriptor_high), "r"(static_cast<int>(add)))

// a in registers; b in shared memory, N elements of a row side by side ("MN-major").
#define ELASTIC_SHARED_OPERAND_32 "mov.b64 db, {%36, %37};\n"
#define ELASTIC_SHARED_OPERAND_48 "mov.b64 db, {%52, %53};\n"
#define ELASTIC_SHARED_OPERAND_64 "mov.b64 db, {%68, %69};\n"
#define ELASTIC_REGISTER_OPERAND_32 "%32, %33, %34, %35"
#define ELASTIC_REGISTER_OPERAND_48 "%48, %49, %50, %51"
#define ELASTIC_REGISTER_OPERAND_64 "%64, %65, %66, %67"
#define ELASTIC_WGMMA_REGISTERS(shape, type, count)                                                                   \
  asm volatile("{\n.reg .b64 db;\n" ELASTIC_SHARED_OPERAND_##count "wgmma.mma_async.sync.aligned." shape ".f32." type \
                                                                   "." type " {" ELASTIC_REGISTERS_##count            \
               "}, {" ELASTIC_REGISTER_OPERAND_##count "}, db, 1, 1, 1, 1;\n}"                                        \
               : ELASTIC_ACCUMULATORS_##count(d)                                                                      \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(from_b), "n"(descriptor_high))

/// d = a·b, or d += a·b where `add`: a is 64 × 16, b is Columns × 16.
template <class T, int Columns>
__device__ __forceinline__ void wgmma_shared(float* d, std::uint32_t from_a, std::uint32_t from_b, bool add) {
  static_assert(Columns == 64 || Columns == 128 || Columns == 192);
  constexpr bool is_half = std::is_same_v<T, half>;
  if constexpr (Columns == 192 && is_half)
    ELASTIC_WGMMA_SHARED("m64n192k16", "f16", 96);
  else if constexpr (Columns == 192)
    ELASTIC_WGMMA_SHARED("m64n192k16", "bf16", 96);
  else if constexpr (Columns == 128 && is_half)
    ELASTIC_WGMMA_SHARED("m64n128k16", "f16", 64);
  else if constexpr (Columns == 128)
    ELASTIC_WGMMA_SHARED("m64n128k16", "bf16", 64);
  else if constexpr (is_half)
    ELASTIC_WGMMA_SHARED("m64n64k16", "f16", 32);
  else
    ELASTIC_WGMMA_SHARED("m64n64k16", "bf16", 32);
}

/// d += a·b: a is 64 × 16 in registers, b is 16 × Columns.
template <class T, int Columns>
__device__ __forceinline__ void wgmma_registers(float* d, std::uint32_t const* a, std::uint32_t from_b) {
  static_assert(Columns == 64 || Columns == 96 || Columns == 128);
  constexpr bool is_half = std::is_same_v<T, half>;
  if constexpr (Columns == 128 && is_half)
    ELASTIC_WGMMA_REGISTERS("m64n128k16", "f16", 64);
  else if constexpr (Columns == 128)
    ELASTIC_WGMMA_REGISTERS("m64n128k16", "bf16", 64);
  else if constexpr (Columns == 96 && is_half)
    ELASTIC_WGMMA_REGISTERS("m64n96k16", "f16", 48);
  else if constexpr (Columns == 96)
    ELASTIC_WGMMA_REGISTERS("m64n96k16", "bf16", 48);
  else if constexpr (is_half)
    ELASTIC_WGMMA_REGISTERS("m64n64k16", "f16", 32);
  else
    ELASTIC_WGMMA_REGISTERS("m64n64k16", "bf16", 32);
}

#undef ELASTIC_ACCUMULATORS_8
#undef ELASTIC_ACCUMULATORS_32
#undef ELASTIC_ACCUMULATORS_48
#undef ELASTIC_ACCUMULATORS_64
#undef ELASTIC_ACCUMULATORS_96
#undef ELASTIC_REGISTERS_32
#undef ELASTIC_REGISTERS_48
#undef ELASTIC_REGISTERS_64
#undef ELASTIC_REGISTERS_96
#undef ELASTIC_SHARED_OPERANDS_32
#undef ELASTIC_SHARED_OPERANDS_64
#undef ELASTIC_SHARED_OPERANDS_96
#undef ELASTIC_SHARED_OPERAND_32
#undef ELASTIC_SHARED_OPERAND_48
#undef ELASTIC_SHARED_OPERAND_64
#undef ELASTIC_REGISTER_OPERAND_32
#undef ELASTIC_REGISTER_OPERAND_48
#undef ELASTIC_REGISTER_OPERAND_64
#undef ELASTIC_WGMMA_SHARED
#undef ELASTIC_WGMMA_REGISTERS

}  // namespace elastic::ptx
