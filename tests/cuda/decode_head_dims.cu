// Random decodes at the head dims that decode.cu leaves out, and what the forward kernel decodes.
#include "support/cuda_cache.cuh"

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("random decodes: other head dims") {
  using mode = hybrid<full, streaming>;
  run_cuda_decodes<mode, bfloat16>(cuda_tested<96, 256>{}, "random decodes: head dims 96 and 256", 20);
  run_cuda_decodes<mode, elastic::half>(cuda_tested<32, 192>{}, "random decodes: head dims 32 and 192", 20);
}

TEST_CASE("random decodes: floats take the forward kernel") {
  run_cuda_decodes<hybrid<full, block_sparse, streaming>, float>(cuda_tested<64>{}, "random decodes: float", 40);
}
