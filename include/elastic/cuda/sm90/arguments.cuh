// Arguments of the Hopper kernel: those of every forward kernel, and the four tensor maps, which are read from the
// kernel's own parameters, so that no copy of them in memory has to be made visible.
#pragma once

#include <cuda.h>

#include <elastic/cuda/work.cuh>

namespace elastic::detail {

template <class M, class T>
struct sm90_arguments : forward_arguments<M, T, plain_keys<T>> {
  CUtensorMap queries;  // boxes of 64 rows
  CUtensorMap keys;     // boxes of one key tile
  CUtensorMap values;
  CUtensorMap outputs;  // boxes of 64 rows
};

}  // namespace elastic::detail
