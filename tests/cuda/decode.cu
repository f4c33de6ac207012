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

TEST_CASE("the backend says which kernel decodes") {
  using gpu = cuda_for<64>;
  problem p;
  p.head_dim = 64;
  p.q_len = 1;
  if (device_missing("the backend says which kernel decodes")) return;
  CHECK(gpu{}.decode_kernel<bfloat16>(full{}, p) == cuda_kernel::portable_decode);
  CHECK(gpu{}.decode_kernel<float>(full{}, p) != cuda_kernel::portable_decode);
  p.q_len = 17;
  CHECK(gpu{}.decode_kernel<bfloat16>(full{}, p) != cuda_kernel::portable_decode);
}

TEST_CASE("plans that leave an int are refused, large ones are not") {
  problem p;
  p.kv_heads = 1;
  p.q_len = 16;
  p.head_dim = 64;
  p.query_heads = 1 << 28;
  CHECK(cuda_for<64>{}.decode_bytes(p) > std::size_t{1} << 40);
  p.batch = p.query_heads;
  p.query_heads = 16;
  CHECK_THROWS_WITH_AS(cuda_for<64>{}.decode_bytes(p), doctest::Contains("bundles"), error);
}

TEST_CASE("decode refuses before any launch, without a device too") {
  alignas(256) static std::byte memory[1 << 19], result[256];
  auto* const fake = reinterpret_cast<elastic::half*>(memory);
  attention<full, fixed_router, cuda_for<64>> const attend;
  auto const refused = [&](int head_dim, int shift, std::size_t bytes) -> std::string {
    std::int32_t integers[4] = {};
    strided_view<elastic::half const, 3> const pages(fake + shift, {2, 64, head_dim});
    paged_cache<elastic::half> const cache{pages, pages, {integers, {1, 1, 2}}, {integers, {1}}};
    heads_view<elastic::half const> const q(fake, {1, 1, 1, head_dim});
    heads_view<elastic::half> const out(reinterpret_cast<elastic::half*>(result), {1, 1, 1, head_dim});
    try {
      attend.decode(q, cache, out, {}, const_assignment_view(integers, {1, 1}), {memory, bytes});
    } catch (error const& thrown) {
      return thrown.argument();
    }
    return "nothing";
  };
  CHECK(refused(64, 0, 1000) == "workspace");
  CHECK(refused(128, 0, sizeof memory) == "q head_dim");
  CHECK(refused(64, 1, sizeof memory) == "cache.k_pages");
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0) return;
  cudaGetLastError();
  CHECK(refused(64, 0, sizeof memory) == "device");
}
