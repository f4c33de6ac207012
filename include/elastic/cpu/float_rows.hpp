// Query or key rows as a float matrix for Eigen's products: mapped in place where they are floats, else
// converted into a buffer.
#pragma once

#include <type_traits>

#include <elastic/core/dtype.hpp>
#include <elastic/core/sequence.hpp>
#include <elastic/cpu/convert.hpp>
#include <elastic/cpu/eigen.hpp>

namespace elastic::detail {

using float_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using float_rows = Eigen::Map<float_matrix const, 0, Eigen::OuterStride<>>;  // one row after another
using mutable_float_rows = Eigen::Map<float_matrix, 0, Eigen::OuterStride<>>;

/// Rows [first, first + count). `buffer` holds count · head_dim floats.
template <element T>
float_rows map_rows(head_rows<T const> rows, int first, int count, int head_dim, float* buffer) {
  if constexpr (std::is_same_v<T, float>) {
    return {rows[first], count, head_dim, Eigen::OuterStride<>(rows.stride)};
  } else {
    for (int i = 0; i < count; ++i) to_floats(rows[first + i], buffer + std::int64_t{i} * head_dim, head_dim);
    return {buffer, count, head_dim, Eigen::OuterStride<>(head_dim)};
  }
}

}  // namespace elastic::detail
