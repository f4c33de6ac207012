// Random problems with full attention in every element type.
#include "support/cuda_problem.cuh"

using namespace elastic;
using namespace elastic::testing;

TEST_CASE_TEMPLATE("random problems: full attention", T, float, half, bfloat16) {
  run_cuda_problems<full, T>(cuda_tested<64, 128>{}, "random problems: full attention", 20);
}
