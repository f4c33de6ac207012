// Block-Sparse-Attention's kernel (mma.sync) from its source: a hybrid of dense and streaming heads (1 sink block, 16
// local blocks of 128), every head streaming, and lists of blocks drawn as those of bench/cuda/forward.cu. Arguments:
// lengths.
//
//   git clone --recursive https://github.com/mit-han-lab/Block-Sparse-Attention && cd Block-Sparse-Attention
//   nvcc -O3 -std=c++17 -gencode arch=compute_90,code=sm_90 --expt-relaxed-constexpr --expt-extended-lambda \
//        --use_fast_math -DNDEBUG -Icsrc/block_sparse_attn/src -Icsrc/cutlass/include \
//        $(python3 -c 'import torch.utils.cpp_extension as e; print(*("-I" + i for i in e.include_paths()))') \
//        -o bsa …/bench/peers/bsa.cu
//
// Of PyTorch it needs three headers (a random state, two checks of errors), which may as well be written by hand.
#include <cstring>
#include <random>

#include "flash_fwd_launch_template.h"
#include "timing.cuh"

namespace FLASH_NAMESPACE {
template <>
void run_mha_fwd_block_<cutlass::bfloat16_t, 128, true>(Flash_fwd_params& p, cudaStream_t stream) {
  run_flash_fwd_block<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false, cutlass::bfloat16_t>, false, true>(p,
                                                                                                                stream);
}
}  // namespace FLASH_NAMESPACE

namespace {

constexpr int query_heads = 32, kv_heads = 8, head_dim = 128, block = 128;
constexpr int sinks = 1, locals = 16;

/// What a head does, in the words of head_mask_type.
enum head : int { dense = 0, lists = 1, streaming = -1 };

std::vector<int> heads(int how_many_dense, head others) {
  std::vector<int> made(query_heads, others);
  std::fill_n(made.begin(), how_many_dense, dense);
  return made;
}

/// For each row of blocks its list, descending, filled up with -1.
std::vector<int> draw_lists(int blocks, double density) {
  std::mt19937 random(3);
  std::bernoulli_distribution keep(density);
  std::vector<int> made;
  for (int i = 0; i < blocks; ++i) {
    std::vector<int> row;
    for (int j = 0; j < blocks; ++j)
      if (i == j || keep(random)) row.insert(row.begin(), j);
    row.resize(static_cast<std::size_t>(blocks), -1);
    made.insert(made.end(), row.begin(), row.end());
  }
  return made;
}

/// Key blocks that the queries of a head attend, of those that causality leaves.
double attended_blocks(int blocks, head kind, std::vector<int> const& lists_of_rows) {
  double sum = 0;
  for (int i = 0; i < blocks; ++i) {
    if (kind == dense) sum += i + 1;
    if (kind == streaming) sum += std::min(i + 1, sinks + locals);
    if (kind == lists)
      for (int j = 0; j < blocks; ++j) {
        int const entry = lists_of_rows[static_cast<std::size_t>(i) * blocks + j];
        sum += entry >= 0 && entry <= i;
      }
  }
  return sum;
}

void time_one(char const* name, int s, std::vector<int> const& types, double density = 0.1) {
  using namespace FLASH_NAMESPACE;
  peers::tensors const on(s, query_heads, kv_heads, head_dim);
  int const blocks = s / block;
  std::vector<int> const lists_of_rows = draw_lists(blocks, density);
  std::vector<int> info;
  for (int h = 0; h < query_heads; ++h) info.insert(info.end(), {sinks, locals});
  int* const starts = peers::upload(std::vector<int>{0, s});
  int* const streams = peers::upload(info);
  int* const mask_types = peers::upload(types);
  int* const masks = peers::upload(lists_of_rows);
  std::uint64_t* const state = peers::allocate<std::uint64_t>(2);

  Flash_fwd_params p{};
  p.is_bf16 = true;
  p.q_ptr = on.q, p.k_ptr = on.k, p.v_ptr = on.v, p.o_ptr = on.out;
  p.softmax_lse_ptr = on.lse;
  p.q_row_stride = p.o_row_stride = query_heads * head_dim;
  p.k_row_stride = p.v_row_stride = kv_heads * head_dim;
  p.q_head_stride = p.k_head_stride = p.v_head_stride = p.o_head_stride = head_dim;
  p.cu_seqlens_q = p.cu_seqlens_k = starts;
  p.is_seqlens_k_cumulative = true;
  p.b = 1, p.h = query_heads, p.h_k = kv_heads, p.h_h_k_ratio = query_heads / kv_heads;
  p.seqlen_q = p.seqlen_k = p.seqlen_q_rounded = p.seqlen_k_rounded = p.total_q = s;
  p.d = p.d_rounded = head_dim;
  p.scale_softmax = 1 / std::sqrt(static_cast<float>(head_dim));
  p.scale_softmax_log2 = p.scale_softmax * static_cast<float>(M_LOG2E);
  p.p_dropout = 1, p.p_dropout_in_uint8_t = 255, p.rp_dropout = 1, p.scale_softmax_rp_dropout = p.scale_softmax;
  p.is_causal = true, p.window_size_left = s, p.window_size_right = 0;
  p.streaming_info = streams, p.is_exact_streaming = false;
  p.m_block_dim = p.n_block_dim = block;
  p.head_mask_type = mask_types, p.blockmask = masks, p.num_blocksparse_heads = 1;
  p.rng_state = state;

  double pairs = 0;
  for (int const type : types) pairs += attended_blocks(blocks, static_cast<head>(type), lists_of_rows) * block * block;
  peers::report(
      name, on, pairs, [&] { run_mha_fwd_block_<cutlass::bfloat16_t, 128, true>(p, nullptr); }, s > 40000 ? 3 : 9);
  for (void* memory : {static_cast<void*>(starts), static_cast<void*>(streams), static_cast<void*>(mask_types),
                       static_cast<void*>(masks), static_cast<void*>(state)})
    cudaFree(memory);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    int const s = std::atoi(argv[i]);
    if (s <= 32768) time_one("dense", s, heads(query_heads, dense));
    time_one("75% sparse", s, heads(8, streaming));
    time_one("87.5% sparse", s, heads(4, streaming));
    time_one("streaming", s, heads(0, streaming));
    time_one("lists 10%", s, heads(0, lists), 0.1);
    time_one("lists 30%", s, heads(0, lists), 0.3);
  }
}
