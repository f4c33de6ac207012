// Kernels take exponentials and logarithms to the base 2, the hardware's own.
#pragma once

namespace elastic::detail {

inline constexpr float log2_e = 1.4426950408889634f;
inline constexpr float ln_2 = 0.6931471805599453f;

}  // namespace elastic::detail
