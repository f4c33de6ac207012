// Tensor maps: what TMA is told of a (batch, seq, heads, head_dim) tensor of 16-bit elements. Made on the host for
// each launch, and passed by value.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include <elastic/core/dtype.hpp>
#include <elastic/core/view.hpp>
#include <elastic/cuda/call.cuh>
#include <elastic/cuda/sm90/descriptor.hpp>

namespace elastic::detail {

/// Strides have to be positive, multiples of 16 bytes, and below 2^40 bytes; extents 1 to 2^31 − 1.
template <class T>
bool tensor_map_describes(heads_view<T> const& view) {
  if (view.data == nullptr || reinterpret_cast<std::uintptr_t>(view.data) % 16 != 0) return false;
  for (int i = 0; i < 4; ++i)
    if (view.extents[i] < 1 || view.extents[i] >= std::int64_t{1} << 31) return false;
  for (int i = 0; i < 3; ++i) {
    std::int64_t const stride = view.strides[i], size = sizeof(T);
    if (view.extents[i] > 1 && (stride <= 0 || stride >= (std::int64_t{1} << 40) / size || stride * size % 16 != 0))
      return false;
  }
  return true;
}

/// The driver's function, found without linking the driver's library.
inline auto tensor_map_encoder() {
  using function = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, cuuint64_t const*,
                                cuuint64_t const*, cuuint32_t const*, cuuint32_t const*, CUtensorMapInterleave,
                                CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static function const found = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result{};
    cuda_call(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result),
              "cudaGetDriverEntryPointByVersion");
    if (result != cudaDriverEntryPointSuccess) entry = nullptr;
    return reinterpret_cast<function>(entry);
  }();
  return found;
}

/// Boxes of one panel of 64 columns and `rows` positions of the second dimension, swizzled by 128 bytes. `strides`
/// are those of all dimensions but the first, in bytes.
template <class T, int Rank>
CUtensorMap encode_tensor_map(T const* data, cuuint64_t const (&extents)[Rank], cuuint64_t const (&strides)[Rank - 1],
                              int rows) {
  constexpr auto type = std::is_same_v<T, half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  cuuint32_t box[Rank], steps[Rank];
  for (int i = 0; i < Rank; ++i) box[i] = steps[i] = 1;
  box[0] = panel_columns;
  box[1] = static_cast<cuuint32_t>(rows);
  CUtensorMap map;
  CUresult const status = tensor_map_encoder()(&map, type, Rank, const_cast<T*>(data), extents, strides, box, steps,
                                               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw cuda_error("cuTensorMapEncodeTiled", __FILE__, __LINE__, static_cast<int>(status), "a tensor was refused");
  return map;
}

/// A dimension's stride in bytes; one position needs none, but TMA wants a number.
template <class T>
cuuint64_t tensor_map_stride(heads_view<T> const& view, int dimension) {
  return view.extents[dimension] > 1 ? static_cast<cuuint64_t>(view.strides[dimension]) * sizeof(T) : 16;
}

/// (head_dim, seq, heads, batch). The view is one that can be described. The last panel of head dim 96 reaches past it:
/// 32 columns of zeros, never written.
template <class T>
CUtensorMap make_tensor_map(heads_view<T> const& view, int rows) {
  int const order[4] = {3, 1, 2, 0};
  cuuint64_t extents[4], strides[3];
  for (int i = 0; i < 4; ++i) extents[i] = static_cast<cuuint64_t>(view.extents[order[i]]);
  for (int i = 0; i < 3; ++i) strides[i] = tensor_map_stride(view, order[i + 1]);
  return encode_tensor_map<std::remove_const_t<T>>(view.data, extents, strides, rows);
}

/// (head_dim, fold, phase, heads, batch): token fold · stride + phase, of the first `folds` folds alone.
template <class T>
CUtensorMap make_folded_tensor_map(heads_view<T> const& view, int stride, std::int64_t folds, int rows) {
  cuuint64_t const token = tensor_map_stride(view, 1), width = static_cast<cuuint64_t>(stride);
  cuuint64_t const extents[5] = {static_cast<cuuint64_t>(view.extents[3]), static_cast<cuuint64_t>(folds), width,
                                 static_cast<cuuint64_t>(view.extents[2]), static_cast<cuuint64_t>(view.extents[0])};
  cuuint64_t const strides[4] = {token * width, token, tensor_map_stride(view, 2), tensor_map_stride(view, 0)};
  return encode_tensor_map<std::remove_const_t<T>>(view.data, extents, strides, rows);
}

}  // namespace elastic::detail
