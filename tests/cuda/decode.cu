// Decode on the CUDA backend: random caches, lengths, groups and modes, judged by the oracle over the same
// cache in host memory. Pages lie in random order, pages that no head visits are absent or nonsense, slots that
// hold no key are poisoned; every problem runs twice and must give the same bits.
#include "support/cuda_cache.cuh"

using namespace elastic;
using namespace elastic::testing;

using mixed = hybrid<full, streaming, sliding_window>;

TEST_CASE_TEMPLATE("random decodes: bfloat16", M, full, mixed) {
  run_cuda_decodes<M, bfloat16>(cuda_tested<128>{}, "random decodes: bfloat16", 20);
}

TEST_CASE_TEMPLATE("random decodes: half", M, sink_logits<scored<hybrid<full, sliding_window>, soft_cap>>, triangle,
                   hybrid<predicate<striped>, union_of<streaming, sliding_window>>) {
  run_cuda_decodes<M, elastic::half>(cuda_tested<64>{}, "random decodes: half", 20);
}
