// Random problems with unions, intersections and hooks, in half at head dim 96 and bfloat16 at 192.
#include "support/cuda_problem.cuh"

using namespace elastic;
using namespace elastic::testing;

TEST_CASE_TEMPLATE("random problems: compositions", M, intersection_of<sliding_window, streaming>,
                   union_of<streaming, sliding_window>, union_of<predicate<striped>, sliding_window>,
                   union_of<intersection_of<streaming, sliding_window>, full>,
                   intersection_of<block_sparse, streaming>) {
  run_cuda_problems<M, half>(cuda_tested<96>{}, "random problems: compositions", 40);
}

TEST_CASE_TEMPLATE("random problems: hooks", M, scored<full, soft_cap>, sink_logits<full>,
                   sink_logits<scored<block_sparse, soft_cap>>,
                   scored<hybrid<sink_logits<streaming>, full>, soft_cap>) {
  run_cuda_problems<M, bfloat16>(cuda_tested<192>{}, "random problems: hooks", 40);
}
