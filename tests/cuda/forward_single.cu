// Random problems with one mode for all heads, in bfloat16.
#include "support/cuda_problem.cuh"

using namespace elastic;
using namespace elastic::testing;

TEST_CASE_TEMPLATE("random problems: single modes", M, sliding_window, streaming, triangle, block_sparse,
                   predicate<striped>) {
  run_cuda_problems<M, bfloat16>(cuda_tested<64>{}, "random problems: single modes", 40);
}
