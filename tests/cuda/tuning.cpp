// The tables of the CUDA backend that a host can read: which kernel serves what, and tiles that fit.
#include <elastic/cuda/architecture.hpp>
#include <elastic/cuda/error.hpp>
#include <elastic/cuda/portable/tuning.hpp>

#include <doctest/doctest.h>

#include <string>

using namespace elastic;

TEST_CASE("the portable kernel serves compute capability 8.0 and newer") {
  CHECK(cuda_kernel_for(75, 128, 2) == cuda_kernel::none);
  for (int capability : {80, 86, 89, 90, 100, 120}) CHECK(cuda_kernel_for(capability, 128, 2) != cuda_kernel::none);
  CHECK(std::string(name_of(cuda_kernel::portable)) == "portable");
  CHECK(cuda_decode_kernel_for(75, 128, 2, true) == cuda_kernel::none);
  CHECK(cuda_decode_kernel_for(90, 128, 2, true) == cuda_kernel::portable_decode);
  CHECK(cuda_decode_kernel_for(90, 128, 4, false) != cuda_kernel::portable_decode);
  CHECK(std::string(name_of(cuda_kernel::portable_decode)) == "portable decode");
}

TEST_CASE("tiles of every architecture, head dim and type fit into shared memory and registers") {
  constexpr int tail = portable_tail_bytes;
  for (int capability : {80, 86, 87, 89, 90, 100, 120})
    for (int head_dim : {32, 64, 96, 128, 192, 256})
      for (int bytes : {2, 4}) {
        portable_tiling const t = portable_tiling_for(capability, head_dim, bytes);
        int const tile_bytes = portable_tile_bytes(t, head_dim, bytes);
        INFO("capability " << capability << ", head_dim " << head_dim << ", " << bytes << " bytes: tile "
                           << t.shape.rows << " x " << t.shape.columns << ", " << t.warps << " warps, " << t.slots
                           << " slots, " << t.residents << " residents, " << tile_bytes << " bytes of shared memory");
        CHECK(tile_bytes + tail <= shared_bytes_of(capability));
        CHECK(t.residents * (tile_bytes + tail + 1024) <= shared_bytes_of(capability) + 1024);
        CHECK(t.residents * t.threads() <= (capability == 86 || capability == 89 || capability == 120 ? 1536 : 2048));
        CHECK(128 % t.shape.rows == 0);
        CHECK(128 % t.shape.columns == 0);
        if (bytes == 4) continue;
        CHECK(t.slots >= 2);
        // Accumulators of one thread: output and scores.
        int const fragments = t.shape.rows / t.warps / 16;
        CHECK(fragments * (head_dim + t.shape.columns) / 2 <= 224);
        CHECK(t.residents * t.threads() * (fragments * (head_dim + t.shape.columns) / 2 + 32) <= 65536);
      }
}

TEST_CASE("a failed call tells its name, file, line and reason") {
  cuda_error const thrown("cudaMalloc", "here.cuh", 7, 2, "out of memory");
  CHECK(std::string(thrown.what()) == "elastic: cudaMalloc failed in here.cuh:7: out of memory (2)");
  CHECK(thrown.call() == "cudaMalloc");
  CHECK(thrown.code() == 2);
}
