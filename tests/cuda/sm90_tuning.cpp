// The tiles of the Hopper kernel fit into shared memory and registers, and divide the blocks of lists.
#include <elastic/cuda/architecture.hpp>
#include <elastic/cuda/portable/tuning.hpp>

#include <doctest/doctest.h>

using namespace elastic;

TEST_CASE("half and bfloat16 on compute capability 9.0, where 90a is built") {
  CHECK((cuda_kernel_for(90, 128, 2) == cuda_kernel::sm90) == sm90_is_built);
  for (int capability : {80, 89, 100}) CHECK(cuda_kernel_for(capability, 128, 2) == cuda_kernel::portable);
  CHECK(cuda_kernel_for(90, 128, 4) == cuda_kernel::portable);
  CHECK(cuda_kernel_for(90, 32, 2) == cuda_kernel::portable);
}

TEST_CASE("tiles of every head dim fit") {
  int served = 0;
  for (int head_dim : {32, 64, 96, 128, 192, 256}) {
    sm90_tiling const t = sm90_tiling_for(head_dim);
    if (!t.serves()) continue;
    ++served;
    int const bytes = sm90_tile_bytes(t, head_dim);
    INFO("head_dim " << head_dim << ": tile " << t.shape.rows << " x " << t.shape.columns << ", query slots "
                     << t.query_slots << ", turns " << (t.turns == sm90_turns::alternate ? "alternate" : "free") << ", "
                     << bytes << " bytes of shared memory, registers " << sm90_producer_registers << " and "
                     << sm90_consumer_registers);
    CHECK(bytes + 1024 + 4096 <= shared_bytes_of(90));  // alignment, items and barriers
    CHECK((t.query_slots == 1 || t.query_slots == sm90_item_slots));
    CHECK(t.shape.rows == sm90_consumers * sm90_consumer_rows);
    CHECK(128 % t.shape.columns == 0);
    CHECK(t.shape.columns % sm90_part_columns == 0);
    // The pool is what the launch gets: 168 registers of 384 threads.
    CHECK(128 * (sm90_producer_registers + sm90_consumers * sm90_consumer_registers) <= 168 * sm90_threads);
    CHECK(sm90_producer_registers % 8 == 0);
    CHECK(sm90_consumer_registers % 8 == 0);
    // Scores, output, and two buffers of probabilities of one thread.
    CHECK(t.shape.columns / 2 + head_dim / 2 + 2 * t.shape.columns / 4 + 40 <= sm90_consumer_registers);
  }
  CHECK(served == 5);  // all but 32
}
