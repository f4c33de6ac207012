// FlashAttention-3 from its source, without PyTorch: dense, causal and not, and a window of 2048 tokens.
//
//   git clone https://github.com/Dao-AILab/flash-attention && cd flash-attention && git checkout 0251105a
//   git submodule update --init csrc/cutlass
//   nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a --expt-relaxed-constexpr --expt-extended-lambda \
//        --use_fast_math -DNDEBUG -Ihopper -Icsrc/cutlass/include -o fa3 …/bench/peers/fa3.cu -lcuda
//
// Its authors build with ptxas 12.8 and say that versions differ. To have nvcc 13 use that one, put in the place of its
// ptxas a script that lowers the .version of the PTX to 8.7 and calls the other.
#include <cstring>

#include "flash_fwd_launch_template.h"
#include "timing.cuh"

void prepare_varlen_num_blocks(Flash_fwd_params&, cudaStream_t, bool, int, int, bool) {}

namespace {

enum class kind { causal, full, window };

template <int HeadDim, kind Kind>
void launch(Flash_fwd_params& p) {
  peers::check(cudaMemsetAsync(p.tile_count_semaphore, 0, sizeof(int)));
  constexpr int cluster = Kind == kind::full && HeadDim >= 128 ? 2 : 1;  // as flash_api.cpp chooses
  run_flash_fwd<90, HeadDim, HeadDim, cluster, cutlass::bfloat16_t, cutlass::bfloat16_t, Kind == kind::causal,
                Kind == kind::window, false, false, false, false, false, false, false, false>(p, nullptr);
}

template <int HeadDim, kind Kind>
void time_one(char const* name, int s, int query_heads = 32, int kv_heads = 8) {
  constexpr int window = 2048;
  peers::tensors const on(s, query_heads, kv_heads, HeadDim);
  Flash_fwd_params p{};
  p.q_ptr = on.q, p.k_ptr = on.k, p.v_ptr = on.v, p.o_ptr = on.out;
  p.softmax_lse_ptr = on.lse;
  p.tile_count_semaphore = peers::allocate<int>(16);
  p.q_row_stride = p.o_row_stride = query_heads * HeadDim;
  p.k_row_stride = p.v_row_stride = kv_heads * HeadDim;
  p.q_head_stride = p.k_head_stride = p.v_head_stride = p.o_head_stride = HeadDim;
  p.v_dim_stride = 1;
  p.q_batch_stride = p.o_batch_stride = std::int64_t{s} * query_heads * HeadDim;
  p.k_batch_stride = p.v_batch_stride = std::int64_t{s} * kv_heads * HeadDim;
  p.b = p.b_k = 1, p.h = query_heads, p.h_k = kv_heads;
  p.seqlen_q = p.seqlen_k = p.seqlen_q_rounded = p.seqlen_k_rounded = p.total_q = p.total_k = s;
  p.d = p.dv = p.d_rounded = p.dv_rounded = HeadDim;
  p.scale_softmax = 1 / std::sqrt(static_cast<float>(HeadDim));
  p.is_bf16 = true;
  p.is_causal = Kind == kind::causal, p.is_local = Kind == kind::window;
  p.window_size_left = Kind == kind::window ? window - 1 : -1;
  p.window_size_right = Kind == kind::full ? -1 : 0;
  p.num_splits = 1, p.arch = 90, p.skip_scheduler_metadata_computation = true;
  peers::check(cudaDeviceGetAttribute(&p.num_sm, cudaDevAttrMultiProcessorCount, 0));
  double const n = s, w = window;
  double const pairs = Kind == kind::causal ? n * (n + 1) / 2 : Kind == kind::full ? n * n : w * n - w * (w - 1) / 2;
  peers::report(name, on, pairs * query_heads, [&] { launch<HeadDim, Kind>(p); });
  cudaFree(p.tile_count_semaphore);
}

}  // namespace

int main() {
  for (int const s : {8192, 16384, 32768, 131072}) time_one<128, kind::causal>("causal", s);
  time_one<128, kind::full>("full", 16384);
  for (int const s : {8192, 32768, 131072}) time_one<128, kind::window>("window 2048", s);
  time_one<64, kind::causal>("causal", 16384);
  time_one<96, kind::causal>("causal", 16384);
  time_one<192, kind::causal>("causal", 16384);
  time_one<256, kind::causal>("causal", 16384, 16, 4);
}
