// Non-owning strided views: a pointer, extents and strides in elements, 64-bit offsets.
// Attention tensors are (batch, seq, heads, head_dim) with the last dimension contiguous; packed
// sequences lie behind one another in seq, with batch = 1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <elastic/core/host_device.hpp>

namespace elastic {

/// A view of `Rank` dimensions. `strides` count elements and may be anything, zero and negative too.
template <class T, int Rank>
struct strided_view {
  T* data = nullptr;
  std::int64_t extents[Rank] = {};
  std::int64_t strides[Rank] = {};

  using value_type = std::remove_const_t<T>;

  strided_view() = default;

  /// A dense row-major view. Strides that leave 64 bits stop at the largest, which check_view refuses.
  ELASTIC_HOST_DEVICE strided_view(T* pointer, std::array<std::int64_t, Rank> const& shape) : data(pointer) {
    auto const given = __builtin_bit_cast(plain, shape);
    for (int i = 0; i < Rank; ++i) extents[i] = given.at[i];  // apart from the strides: see the test of a last extent 0
    std::int64_t step = 1;
    for (int i = Rank - 1; i >= 0; --i) {
      strides[i] = step;
      step = saturating_product(step, extents[i]);
    }
  }

  ELASTIC_HOST_DEVICE strided_view(T* pointer, std::array<std::int64_t, Rank> const& shape,
                                   std::array<std::int64_t, Rank> const& steps)
      : data(pointer) {
    auto const given = __builtin_bit_cast(plain, shape), given_steps = __builtin_bit_cast(plain, steps);
    for (int i = 0; i < Rank; ++i) {
      extents[i] = given.at[i];
      strides[i] = given_steps.at[i];
    }
  }

  /// A view of mutable elements reads as a view of const ones.
  template <class U>
    requires(std::is_same_v<T, U const> && !std::is_const_v<U>)
  ELASTIC_HOST_DEVICE strided_view(strided_view<U, Rank> const& other) : data(other.data) {
    for (int i = 0; i < Rank; ++i) {
      extents[i] = other.extents[i];
      strides[i] = other.strides[i];
    }
  }

  template <class... Index>
    requires(sizeof...(Index) == Rank)
  ELASTIC_HOST_DEVICE T& operator()(Index... index) const {
    std::int64_t const at[Rank] = {static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (int i = 0; i < Rank; ++i) offset += at[i] * strides[i];
    return data[offset];
  }

  ELASTIC_HOST_DEVICE std::int64_t size() const {
    std::int64_t n = 1;
    for (int i = 0; i < Rank; ++i) n = saturating_product(n, extents[i]);
    return n;
  }

  ELASTIC_HOST_DEVICE explicit operator bool() const { return data != nullptr; }

 private:
  struct plain {  // std::array's subscript is a host function
    std::int64_t at[Rank];
  };
};

namespace detail {

/// Was it given? What is empty may have no data, as an empty vector has none.
template <class T, int Rank>
bool is_given(strided_view<T, Rank> const& view) {
  bool given = view.data != nullptr;
  for (std::int64_t n : view.extents) given |= n != 0;
  return given;
}

}  // namespace detail

template <class T>
using heads_view = strided_view<T, 4>;  // (batch, seq, heads, head_dim)

using lse_view = strided_view<float, 3>;                // (batch, query_heads, seq)
using assignment_view = strided_view<std::int32_t, 2>;  // (batch, query_heads): the route of each head
using const_assignment_view = strided_view<std::int32_t const, 2>;

static_assert(std::is_trivially_copyable_v<heads_view<float>>);

}  // namespace elastic
