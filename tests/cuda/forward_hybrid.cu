// Random problems with hybrids, compositions and hooks: bfloat16 at head dim 128, half at 64, and float.
#include "support/cuda_problem.cuh"

using namespace elastic;
using namespace elastic::testing;

using every_kind = hybrid<full, scored<sliding_window, soft_cap>, block_sparse, streaming, sink_logits<triangle>>;

TEST_CASE_TEMPLATE("random problems: hybrids in bfloat16", M, hybrid<full, streaming>, hybrid<full, block_sparse>,
                   hybrid<full, sliding_window, block_sparse, streaming>, every_kind) {
  run_cuda_problems<M, bfloat16>(cuda_tested<128>{}, "random problems: hybrids in bfloat16", 40);
}

TEST_CASE_TEMPLATE("random problems: hybrids in half", M, hybrid<streaming, predicate<striped>>,
                   scored<hybrid<full, streaming>, alibi>, sink_logits<hybrid<streaming, block_sparse>>) {
  run_cuda_problems<M, half>(cuda_tested<64>{}, "random problems: hybrids in half", 40);
}

TEST_CASE("random problems: hybrids in float") {
  run_cuda_problems<hybrid<full, sliding_window, block_sparse, streaming>, float>(
      cuda_tested<32>{}, "random problems: hybrids in float", 40);
}
