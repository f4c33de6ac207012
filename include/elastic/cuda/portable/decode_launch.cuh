// Host side of decode: scratch by shapes alone, grid, launches. Long queries, floats, and modes whose spans do
// not fit shared memory go through the forward kernel.
#pragma once

#include <type_traits>

#include <elastic/core/workspace.hpp>
#include <elastic/cuda/call.cuh>
#include <elastic/cuda/portable/decode.cuh>

namespace elastic::detail {

/// Spans that the kernel has room for; lists do not reach decode.
template <class M, class T>
constexpr bool decode_serves() {
  if constexpr (std::is_same_v<T, float> || lists_bind_tile<M>)
    return false;
  else
    return sizeof(typename decode_kernel<M, T, 32>::shared_tail) <= decode_tail_bytes;
}

/// Counts the bytes, and with memory lays out the plan.
inline decode_plan bind_decode(problem const& p, workspace_cursor& cursor) {
  decode_plan plan;
  std::int64_t const rows = std::int64_t{p.group()} * p.q_len;
  std::int64_t const per_head = ceil_div<std::int64_t>(maximum<std::int64_t>(rows, 1), decode_rows);
  std::int64_t const bundles = per_head * p.batch * p.kv_heads;
  require(bundles < (std::int64_t{1} << 31), "q", bundles, "fewer than 2^31 bundles of 16 query rows");
  plan.bundles_per_head = static_cast<int>(per_head);
  plan.bundles = static_cast<int>(bundles);
  plan.slot_rows = static_cast<int>(minimum<std::int64_t>(rows, decode_rows));
  std::int64_t const slots = std::int64_t{decode_parts} + plan.bundles;
  plan.tiles = cursor.take<int>(plan.bundles);
  plan.parts = cursor.take<part_range>(plan.bundles);
  plan.sums = cursor.take<float2>(slots * plan.slot_rows);
  plan.output = cursor.take<float>(slots * plan.slot_rows * p.head_dim);
  return plan;
}

inline std::size_t decode_scratch_bytes(problem const& p) {
  workspace_cursor cursor;
  if (p.q_len <= decode_queries) bind_decode(p, cursor);
  return cursor.used();
}

/// Launches on the problem's stream. `scratch` is aligned and large enough.
template <int HeadDim, class M, class Source, class T>
void decode_launch(M const& mode, problem const& p, heads_view<T const> const& q, Source const& source,
                   heads_view<T> const& out, lse_view const& lse, const_assignment_view const& assignment,
                   workspace scratch, int device) {
  using kernel = decode_kernel<M, T, HeadDim>;
  using arguments = decode_arguments<M, T, Source>;
  auto const entry = portable_decode<kernel, arguments>;
  cudaStream_t const stream = static_cast<cudaStream_t>(p.stream);

  // The tiling is that of the architecture that the loaded code was compiled for.
  decode_tiling const tiling = decode_tiling_for(attributes_of(entry).ptxVersion, HeadDim);
  // The tail's arrays follow the number of warps and stages; 4 and 8 are the most.
  int const bytes = decode_tile_bytes(tiling, HeadDim) + decode_tail_bytes;
  cuda_call(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");

  workspace_cursor cursor(scratch.data());
  arguments a{mode, p, q, source, out, lse, assignment, bind_decode(p, cursor)};
  if (int const run = source.run(); run > 0 && ceil_div(p.k_len, run) > 1) {  // steps stay inside a page
    a.plan.columns = gcd(run, decode_columns);
    require(a.plan.columns % decode_step == 0, "cache pages", run,
            "a multiple of " + std::to_string(decode_step) + " keys");
  }
  a.plan.parts_most = minimum(ctas_at_once(entry, tiling.threads(), bytes, device), decode_parts);
  std::int64_t const tiles = std::int64_t{a.plan.bundles} * (ceil_div(p.k_len, a.plan.columns) + decode_start);
  require(tiles < (std::int64_t{1} << 31), "cache.table", tiles, "fewer than 2^31 key tiles in all heads");

  auto const blocks = [](int n) { return static_cast<unsigned>(n); };
  count_decode<<<blocks(ceil_div(a.plan.bundles, counting_threads / 32)), counting_threads, 0, stream>>>(a);
  cuda_call(cudaGetLastError(), "count_decode");
  int const parts = static_cast<int>(minimum<std::int64_t>(a.plan.parts_most, tiles));
  if (parts > 0) launch_dependent(entry, blocks(parts), tiling.threads(), bytes, stream, "portable_decode", a);
  launch_dependent(combine_decode<HeadDim, T, arguments>, dim3(blocks(a.plan.bundles), blocks(a.plan.slot_rows)),
                   combining_threads, 0, stream, "combine_decode", a);
}

}  // namespace elastic::detail
