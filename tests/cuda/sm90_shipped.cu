// The Hopper kernels of the modes that speed is claimed for keep everything in registers. The build of this file fails
// where ptxas says otherwise (cmake/ptxas_gate.sh); on a GPU the loaded code says it too.
#include <elastic/cuda/sm90/antidiagonal_logsums.cuh>
#include <elastic/cuda/sm90/launch.cuh>
#include <elastic/modes/modes.hpp>

#include <doctest/doctest.h>

#include <vector>

#include "support/cuda_memory.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

struct shipped {
  char const* name;
  void const* entry;
};

template <class T, int HeadDim, class... Modes>
void add(std::vector<shipped>& all, char const* name) {
  using elastic::detail::sm90_arguments, elastic::detail::sm90_forward, elastic::detail::sm90_kernel;
  (all.push_back(
       {name, reinterpret_cast<void const*>(&sm90_forward<sm90_kernel<Modes, T, HeadDim>, sm90_arguments<Modes, T>>)}),
   ...);
}

std::vector<shipped> shipped_kernels() {
  std::vector<shipped> all;
  add<bfloat16, 64, full, streaming, block_sparse, hybrid<full, streaming>, hybrid<full, block_sparse>>(all, "64");
  add<bfloat16, 96, full, streaming, block_sparse, hybrid<full, streaming>, hybrid<full, block_sparse>>(all, "96");
  add<bfloat16, 128, full, sliding_window, streaming, block_sparse, triangle, hybrid<full, streaming>,
      hybrid<full, block_sparse>, hybrid<block_sparse, streaming>>(all, "128");
  add<elastic::half, 128, full, hybrid<full, streaming>, hybrid<full, block_sparse>>(all, "128, half");
  add<bfloat16, 192, full, streaming, block_sparse, hybrid<full, streaming>, hybrid<full, block_sparse>>(all, "192");
  add<bfloat16, 256, full, streaming, block_sparse, hybrid<full, streaming>, hybrid<full, block_sparse>>(all, "256");
  using elastic::detail::sm90_antidiagonal_logsums;
  all.push_back({"any, log-sums", reinterpret_cast<void const*>(&sm90_antidiagonal_logsums<bfloat16>)});
  all.push_back({"any, log-sums, half", reinterpret_cast<void const*>(&sm90_antidiagonal_logsums<elastic::half>)});
  return all;
}

}  // namespace

TEST_CASE("no shipped kernel has local memory") {
  std::vector<shipped> const all = shipped_kernels();
  CHECK(all.size() == 33);
  if (device_missing("no shipped kernel has local memory")) return;
  for (shipped const& kernel : all) {
    CHECK_MESSAGE(elastic::detail::attributes_of(kernel.entry).localSizeBytes == 0, "head dim " << kernel.name);
  }
}
