// The decode kernel's sizes that a host can read: they fit every architecture.
#include <elastic/cuda/portable/decode_tuning.hpp>

#include <doctest/doctest.h>

using namespace elastic;

TEST_CASE("rings of every architecture and head dim fit into shared memory and keep loads under way") {
  for (int capability : {80, 86, 87, 89, 90, 100, 120})
    for (int head_dim : {32, 64, 96, 128, 192, 256}) {
      decode_tiling const t = decode_tiling_for(capability, head_dim);
      int const bytes = decode_tile_bytes(t, head_dim) + decode_tail_bytes;
      INFO("capability " << capability << ", head_dim " << head_dim << ": " << t.warps << " warps, " << t.stages
                         << " stages, " << t.residents << " residents, " << bytes << " bytes of shared memory");
      CHECK(bytes <= shared_bytes_of(capability));
      CHECK(t.residents * (bytes + 1024) <= shared_bytes_of(capability) + 1024);
      CHECK(t.stages >= 2);
      CHECK(t.stages <= 8);
      // What a multiprocessor has under way while it waits.
      CHECK(t.residents * t.warps * (t.stages - 1) * 2 * decode_step * head_dim * 2 >= 12 * 1024);
      if (capability >= 90 && capability < 120 && head_dim >= 64)
        CHECK(t.residents * t.warps * (t.stages - 1) * 2 * decode_step * head_dim * 2 >= 40 * 1024);
    }
}
