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

/// Strides have to be positive, multiples of 16 bytes, and below 2^40 bytes; extents 1 to 2^32.
template <class T>
bool tensor_map_describes(heads_view<T> const& view) {
  if (view.data == nullptr || reinterpret_cast<std::uintptr_t>(view.data) % 16 != 0) return false;
  for (int i = 0; i < 4; ++i)
    if (view.extents[i] < 1 || view.extents[i] >= std::int64_t{1} << 31) return false;
  for (int i = 0; i < 3; ++i) {
    std::int64_t const bytes = view.strides[i] * static_cast<std::int64_t>(sizeof(T));
    if (view.extents[i] > 1 && (bytes <= 0 || bytes % 16 != 0 || bytes >= std::int64_t{1} << 40)) return false;
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

/// Boxes of one panel of 64 columns and `rows` rows, swizzled by 128 bytes. The view is one that can be described. The
/// last panel of head dim 96 reaches past it: 32 columns of zeros, never written.
template <class T>
CUtensorMap make_tensor_map(heads_view<T> const& view, int rows) {
  constexpr bool is_half = std::is_same_v<std::remove_const_t<T>, half>;
  int const order[3] = {1, 2, 0};  // seq, heads, batch
  cuuint64_t extents[4] = {static_cast<cuuint64_t>(view.extents[3])}, strides[3];
  for (int i = 0; i < 3; ++i) {
    bool const several = view.extents[order[i]] > 1;
    extents[i + 1] = static_cast<cuuint64_t>(view.extents[order[i]]);
    strides[i] = several ? static_cast<cuuint64_t>(view.strides[order[i]]) * sizeof(T) : 16;
  }
  cuuint32_t const box[4] = {panel_columns, static_cast<cuuint32_t>(rows), 1, 1}, steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  CUresult const status = tensor_map_encoder()(
      &map, is_half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
      const_cast<std::remove_const_t<T>*>(view.data), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw cuda_error("cuTensorMapEncodeTiled", __FILE__, __LINE__, static_cast<int>(status), "a tensor was refused");
  return map;
}

}  // namespace elastic::detail
