// setmaxnreg (sm_90a): a warpgroup hands registers back, or asks for more. All its warps must execute it. The
// pool is what the launch was given: registers of a thread at entry × threads.
#pragma once

namespace elastic::ptx {

template <int Registers>
__device__ __forceinline__ void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

template <int Registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace elastic::ptx
