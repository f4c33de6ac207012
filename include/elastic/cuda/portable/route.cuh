// The MLP router (routers/mlp_router.hpp) in one launch: pooling, both MLPs, decision, assignment. A team of
// CTAs works on a few (sequence, KV head) rows: each CTA pools its share of the tokens and computes its share
// of every layer's outputs, which it stores into the shared memory of the whole team. A team is a cluster of 8
// where there are clusters, else one CTA: nothing is ever waited for that is not running. Its weights are on
// their way while it pools. Every sum has one order.
#pragma once

#include <elastic/core/check.hpp>
#include <elastic/cuda/launch.cuh>
#include <elastic/cuda/portable/rows.cuh>
#include <elastic/cuda/ptx/cluster.cuh>
#include <elastic/cuda/ptx/dependent_launch.cuh>
#include <elastic/cuda/upload.cuh>
#include <elastic/routers/mlp_router.hpp>

namespace elastic {

template <int... HeadDims>
struct cuda_for;

/// CTAs that share the rows of the MLP router, by the compute capability that the code was compiled for.
ELASTIC_HOST_DEVICE constexpr int mlp_team_for(int capability) { return capability >= 90 ? 8 : 1; }

/// Where the router's values on the way go, (batch, kv_heads, ·) in device memory; null where not wanted.
struct mlp_activation_views {
  float* pooled = nullptr;    // (batch, kv_heads, head_dim)
  float* features = nullptr;  // (batch, kv_heads, head_dim): output of the task MLP
  float* logits = nullptr;    // (batch, kv_heads, 2), or 1 in the sigmoid variant
};

namespace detail {

inline constexpr int mlp_threads = 512;
inline constexpr int mlp_shares = 8;  // the pooled tokens of a row are added in as many parts, in any team

/// Floats of the widest team's shared memory, part after part.
struct mlp_layout {
  static constexpr int linears = 5;
  int inputs[linears + 1];  // the values that go into each layer, and the logits: (rows, row floats)
  int shares;               // (mlp_shares, rows, head_dim) sums of tokens
  int slots;                // sums of the threads of one share
  int biases[linears];      // of this CTA's outputs
  int weights[linears];     // this CTA's rows of the weights, or −1: they are read where they lie
  int floats;
};

template <element T>
struct mlp_arguments {
  heads_view<T const> keys;  // (batch, k_len, kv_heads, head_dim)
  problem shape;
  pooling how;
  class_index index;
  packed_linear linear[mlp_layout::linears];
  mlp_layout at;
  assignment_view assignment;
  int sparse_route;
  mlp_activation_views values;
};

/// The outputs [first, end) of a layer that fall to a CTA.
struct mlp_slice {
  int first;
  int end;
  ELASTIC_HOST_DEVICE mlp_slice(packed_linear const& l, int rank, int team) {
    int const each = ceil_div(l.outputs, team);
    first = minimum(rank * each, l.outputs);
    end = minimum(first + each, l.outputs);
  }
};

/// y[outputs of this CTA] = weight · x + bias of every row, stored to the whole team; `weight` and `bias` start at
/// its first output. `Lanes` neighbouring lanes have one output.
template <int Lanes, int Rows>
__device__ __forceinline__ void apply_linear(packed_linear const& l, mlp_slice mine, float const* weight,
                                             float const* bias, bool activated, float const* x, float* y, int y_row,
                                             int team) {
  int const lane = static_cast<int>(threadIdx.x) % Lanes;
  for (int base = mine.first; base < mine.end; base += mlp_threads / Lanes) {
    int const out = base + static_cast<int>(threadIdx.x) / Lanes;
    bool const has = out < mine.end;
    float sum[Rows] = {};
    float const* const row = weight + std::int64_t{has ? out - mine.first : 0} * l.row;
#pragma unroll 4
    for (int c = 4 * lane; c < l.row; c += 4 * Lanes) {
      float4 const w = *reinterpret_cast<float4 const*>(row + c);
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        float4 const v = *reinterpret_cast<float4 const*>(x + r * l.row + c);
        sum[r] += w.x * v.x + w.y * v.y + w.z * v.z + w.w * v.w;
      }
    }
    float const added = bias[has ? out - mine.first : 0];
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
#pragma unroll
      for (int step = Lanes / 2; step > 0; step /= 2) sum[r] += __shfl_xor_sync(~0u, sum[r], step);
      float value = sum[r] + added;
      if (activated) value /= 1.f + expf(-value);
      if (has && lane < team) ptx::cluster_store(y + r * y_row + out, lane, value);
    }
  }
}

template <int Rows, element T>
__global__ void __launch_bounds__(mlp_threads) route_by_mlp(__grid_constant__ mlp_arguments<T> const a) {
  ptx::let_dependents_start();
  extern __shared__ float4 shared[];
  float* const memory = reinterpret_cast<float*>(shared);
  constexpr int team = mlp_team_for(compiled_capability);
  constexpr int linears = mlp_layout::linears;
  mlp_layout const& at = a.at;
  problem const& p = a.shape;
  int const rank = ptx::cluster_rank(), thread = static_cast<int>(threadIdx.x);
  int const first_row = static_cast<int>(blockIdx.x) / team * Rows, row_count = p.batch * p.kv_heads;
  int const d = p.head_dim;

  // Padding between rows is multiplied by the weights' zeros.
  for (int i = thread; i < at.shares; i += mlp_threads) memory[i] = 0;
  __syncthreads();
  ptx::cluster_arrive();  // from here on the team may store to this CTA

  auto const address = [&](int at_float) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(memory + at_float));
  };
  for (int j = 0; j < linears; ++j) {
    packed_linear const& l = a.linear[j];
    bool const last = j + 1 == linears;  // the logits: by the first CTA alone
    mlp_slice const mine(l, last ? 0 : rank, last ? 1 : team);
    int const outputs = mine.end - mine.first;
    for (int i = thread; i < outputs; i += mlp_threads) ptx::copy_4(address(at.biases[j] + i), l.bias + mine.first + i);
    float const* const from = l.weight + std::int64_t{mine.first} * l.row;
    for (int i = 4 * thread; at.weights[j] >= 0 && i < outputs * l.row; i += 4 * mlp_threads)
      ptx::copy_16(address(at.weights[j] + i), from + i);
  }
  ptx::end_copy_group();

  // Neighbouring threads take the pieces of a token; `slots` of such groups share the rows.
  int const width = d / piece<T>, slots = mlp_threads / width, per_row = slots / Rows;
  int const slot = thread / width, column = thread % width * piece<T>, own_row = first_row + slot / per_row;
  bool const adds = slot < per_row * Rows;
  // The weights are older than any kernel on the stream, all else may be the one before's.
  if (p.packed()) ptx::wait_for_prerequisites();
  int length = 0;
  head_rows<T const> rows{};
  if (adds && own_row < row_count) {
    int const batch = own_row / p.kv_heads;
    extent const keys = extent_of(p.cu_seqlens_k, batch, p.k_len, a.keys.extents[1]);
    length = keys.length;
    std::int64_t const slab = p.packed() ? 0 : batch;
    rows = {a.keys.data + slab * a.keys.strides[0] + keys.start * a.keys.strides[1] +
                own_row % p.kv_heads * a.keys.strides[2],
            a.keys.strides[1]};
  }
  pooled_rows const pooled(a.how, length);
  int const tokens = pooled.head + pooled.tail;
  int const gap = length - tokens;  // from an index in the tail to its token
  ptx::wait_for_prerequisites();
  for (int share = rank * mlp_shares / team; share < (rank + 1) * mlp_shares / team; ++share) {
    if (adds) {
      // Tokens of the head, then of the tail, cut into equal shares.
      float total[piece<T>] = {};
      int const begin = static_cast<int>(std::int64_t{tokens} * share / mlp_shares);
      int const end = static_cast<int>(std::int64_t{tokens} * (share + 1) / mlp_shares);
      int const own = begin + slot % per_row;
      int const in_head = minimum(end, pooled.head);
      add_rows<T>(rows, column, own, in_head, per_row, total);
      int const skipped = own < in_head ? ceil_div(in_head - own, per_row) * per_row : 0;
      add_rows<T>(rows, column, own + skipped + gap, end + gap, per_row, total);
#pragma unroll
      for (int c = 0; c < piece<T>; ++c) memory[at.slots + slot * d + column + c] = total[c];
    }
    __syncthreads();
    if (share == rank * mlp_shares / team) ptx::cluster_wait();
    for (int i = thread; i < Rows * d; i += mlp_threads) {
      float sum = 0;
#pragma unroll 8
      for (int s = 0; s < per_row; ++s) sum += memory[at.slots + (i / d * per_row + s) * d + i % d];
      for (int to = 0; to < team; ++to) ptx::cluster_store(memory + at.shares + share * Rows * d + i, to, sum);
    }
    __syncthreads();
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();

  for (int i = thread; i < Rows * d; i += mlp_threads) {
    int const row = first_row + i / d;
    float sum = 0;
    for (int share = 0; share < mlp_shares; ++share) sum += memory[at.shares + share * Rows * d + i];
    if (row < row_count) {
      pooled_rows const pooled(a.how, extent_of(p.cu_seqlens_k, row / p.kv_heads, p.k_len, a.keys.extents[1]).length);
      sum /= static_cast<float>(maximum(pooled.head + pooled.tail, 1));
      if (rank == 0 && a.values.pooled != nullptr) a.values.pooled[std::int64_t{row} * d + i % d] = sum;
    }
    memory[at.inputs[0] + i / d * a.linear[0].row + i % d] = sum;
  }
  ptx::wait_copy_groups<0>();
  __syncthreads();

#pragma unroll
  for (int j = 0; j < linears; ++j) {
    packed_linear const& l = a.linear[j];
    bool const last = j + 1 == linears;
    if (last && rank > 0) return;
    mlp_slice const mine(l, last ? 0 : rank, last ? 1 : team);
    float const* const weight =
        at.weights[j] >= 0 ? memory + at.weights[j] : l.weight + std::int64_t{mine.first} * l.row;
    float const* const bias = memory + at.biases[j];
    float* const y = memory + at.inputs[j + 1];
    int const y_row = last ? 2 : a.linear[last ? j : j + 1].row, share_with = last ? 1 : team;
    constexpr bool activated[] = {true, false, true, true, false};  // mlp_layer::activated
    float const* const x = memory + at.inputs[j];
    if (mine.end - mine.first > mlp_threads / 32)
      apply_linear<8, Rows>(l, mine, weight, bias, activated[j], x, y, y_row, share_with);
    else
      apply_linear<32, Rows>(l, mine, weight, bias, activated[j], x, y, y_row, share_with);
    if (last) {
      __syncthreads();
    } else {
      ptx::cluster_arrive();
      ptx::cluster_wait();
    }
    float* const values = j == 1 ? a.values.features : last ? a.values.logits : nullptr;
    if (rank == 0 && values != nullptr)
      for (int i = thread; i < Rows * l.outputs; i += mlp_threads)
        if (int const row = first_row + i / l.outputs; row < row_count)
          values[std::int64_t{row} * l.outputs + i % l.outputs] = y[i / l.outputs * y_row + i % l.outputs];
  }

  float const* const logits = memory + at.inputs[linears];
  int const group = p.group();
  for (int i = thread; i < Rows * group; i += mlp_threads) {
    int const row = first_row + i / group;
    if (row >= row_count) continue;
    bool const retrieves = mlp_router::retrieves(logits + 2 * (i / group), a.linear[linears - 1].outputs, a.index);
    a.assignment(row / p.kv_heads, row % p.kv_heads * group + i % group) = retrieves ? 0 : a.sparse_route;
  }
}

/// The parts of the shared memory for `rows` rows; weights as many layers as fit `bytes` in all.
template <element T>
mlp_layout lay_out_mlp(packed_linear const (&linear)[mlp_layout::linears], int rows, int team, int bytes) {
  auto const padded = [](std::int64_t n) {
    return static_cast<int>(minimum<std::int64_t>(ceil_div<std::int64_t>(n, 4) * 4, 1 << 28));
  };
  mlp_layout at{};
  std::int64_t used = 0;
  auto const take = [&](std::int64_t floats) {
    int const from = padded(used);
    used = std::int64_t{from} + padded(floats);
    return from;
  };
  for (int j = 0; j <= mlp_layout::linears; ++j)
    at.inputs[j] = take(std::int64_t{rows} * (j < mlp_layout::linears ? linear[j].row : 2));
  int const head_dim = linear[0].inputs;
  at.shares = take(std::int64_t{mlp_shares} * rows * head_dim);
  at.slots = take(std::int64_t{mlp_threads} * piece<T>);
  for (int j = 0; j < mlp_layout::linears; ++j)
    at.biases[j] = take(j + 1 < mlp_layout::linears ? ceil_div(linear[j].outputs, team) : 2);
  for (int j = 0; j < mlp_layout::linears; ++j) {
    std::int64_t const floats =
        std::int64_t{j + 1 < mlp_layout::linears ? ceil_div(linear[j].outputs, team) : 2} * linear[j].row;
    bool const fits = (used + floats + 4) * 4 <= bytes;
    at.weights[j] = fits ? take(floats) : -1;
  }
  at.floats = padded(used);
  return at;
}

template <int Rows, element T>
void launch_mlp(mlp_arguments<T>& a, int device, int team, int bytes) {
  auto const entry = route_by_mlp<Rows, T>;
  a.at = lay_out_mlp<T>(a.linear, Rows, team, bytes);
  int const used = 4 * a.at.floats;
  cuda_call(cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, used), "cudaFuncSetAttribute");
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = static_cast<unsigned>(team);
  attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(static_cast<unsigned>(ceil_div(a.shape.batch * a.shape.kv_heads, Rows) * team));
  how.blockDim = dim3(mlp_threads);
  how.dynamicSmemBytes = static_cast<std::size_t>(used);
  how.stream = static_cast<cudaStream_t>(a.shape.stream);
  how.attrs = attributes;
  how.numAttrs = team > 1 ? 2 : 0;  // both need sm_90
  cuda_call(cudaLaunchKernelEx(&how, entry, a), "route_by_mlp");
}

/// Routes, and writes what `values` asks for. The problem is a checked one.
template <element T>
void cuda_route_by_mlp(mlp_router const& router, heads_view<T const> const& keys, problem const& p, int modes,
                       assignment_view const& assignment, mlp_activation_views const& values = {}) {
  router.check(p, modes);
  check_mlp_input(keys, p);
  check_alignment("k_pre_rope", keys);
  int const d = p.head_dim;
  require(d % piece<T> == 0 && d <= mlp_threads * piece<T>, "k_pre_rope head_dim", d,
          "a multiple of 16 bytes, at most " + std::to_string(mlp_threads * piece<T>));
  auto const& copy = router.weights.on_device();
  require(copy.values != nullptr, "mlp_router.weights", "weights in host memory alone",
          "upload(weights) (cuda/upload.cuh)");
  cuda_device const device = current_device();
  require(copy.device == device.number, "mlp_router.weights", "a copy on device " + std::to_string(copy.device),
          "one on the current device, " + std::to_string(device.number));
  std::int64_t const rows = std::int64_t{p.batch} * p.kv_heads;
  require(rows < 1 << 27, "assignment", rows, "fewer than 2^27 KV heads in all sequences");
  if (rows == 0) return;

  mlp_arguments<T> a{keys, p, router.pooling, router.class_index, {}, {}, assignment, modes - 1, values};
  std::size_t used = 0;
  for (int i = 0; i <= p.layer; ++i) {
    auto const packed = pack(router.weights.layer(i), copy.values.get(), used);
    for (std::size_t j = 0; j < packed.size(); ++j) a.linear[j] = packed[j];
  }
  int const bytes = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device.number);
  int const processors = device_attribute(cudaDevAttrMultiProcessorCount, device.number);
  int const team = mlp_team_for(attributes_of(route_by_mlp<1, T>).ptxVersion);

  // As few rows for a team as let all teams run at once: then they read the weights side by side. Clusters stay
  // inside a group of multiprocessors, so that an eighth of these may find no team.
  int const teams = team > 1 ? processors * 7 / 8 / team : processors;
  int const slots = mlp_threads / (d / piece<T>);
  int each = 1;
  while (each < 8 && ceil_div<std::int64_t>(rows, each) > teams && 2 * each <= slots &&
         lay_out_mlp<T>(a.linear, 2 * each, team, bytes).floats * std::int64_t{4} <= bytes)
    each *= 2;
  require(lay_out_mlp<T>(a.linear, each, team, bytes).floats * std::int64_t{4} <= bytes, "mlp_router.weights",
          "layers too wide", "layers whose values fit the shared memory of a multiprocessor");
  switch (each) {
    case 1:
      return launch_mlp<1>(a, device.number, team, bytes);
    case 2:
      return launch_mlp<2>(a, device.number, team, bytes);
    case 4:
      return launch_mlp<4>(a, device.number, team, bytes);
    default:
      return launch_mlp<8>(a, device.number, team, bytes);
  }
}

}  // namespace detail

template <int... HeadDims, class Mode, class T>
void route_on(cuda_for<HeadDims...> const&, mlp_router const& router, Mode const&, route_inputs<T> const& in,
              problem const& p, assignment_view const& assignment, workspace) {
  detail::cuda_route_by_mlp<T>(router, in.k_pre_rope, p, routes<Mode>, assignment);
}

}  // namespace elastic
