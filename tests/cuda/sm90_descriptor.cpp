// Where the 128-byte swizzle puts elements, and the descriptors that name them, against literal values.
#include <elastic/cuda/sm90/descriptor.hpp>

#include <doctest/doctest.h>

#include <set>

using namespace elastic;

TEST_CASE("a descriptor's fields") {
  CHECK(descriptor_low(0x400, 16) == 0x0001'0040u);       // keys and queries: the leading offset is not used
  CHECK(descriptor_low(0x1c400, 16384) == 0x0400'1c40u);  // values of 128 rows: panels are 16 KB apart
  CHECK(descriptor_low(0x38c00, 8192) == 0x0200'38c0u);   // the last tile of 227 KB keeps its 14 bits
  CHECK(descriptor_high == 0x4000'0040u);                 // 128-byte swizzle; 1024 bytes from 8 rows to the next 8
}

TEST_CASE("steps of 16 columns stay inside a panel's row of 128 bytes, then enter the next panel") {
  CHECK(column_step(0, 128) == 0);
  CHECK(column_step(1, 128) == 2);
  CHECK(column_step(3, 128) == 6);
  CHECK(column_step(4, 128) == 1024);
  CHECK(column_step(7, 64) == 512 + 6);
  CHECK(column_step(8, 64) == 1024);
  CHECK(column_step(5, 128) == 1024 + 2);     // the last of head dim 96
  CHECK(column_step(15, 64) == 3 * 512 + 6);  // and of 256
}

TEST_CASE("steps of 16 rows are 2 KB") {
  CHECK(row_step(1) == 128);
  CHECK(row_step(7) == 896);
}

TEST_CASE("chunks of a tile: every place once, panels apart, permuted by row inside 128 bytes") {
  CHECK(panels_of(64) == 1);
  CHECK(panels_of(96) == 2);
  CHECK(panels_of(192) == 3);
  CHECK(panels_of(256) == 4);
  CHECK(panel_tile_bytes(128, 96) == 32768);
  CHECK(panel_tile_bytes(128, 128) == 32768);
  CHECK(chunk_offset(0, 0, 64) == 0);
  CHECK(chunk_offset(1, 0, 64) == 128 + 16);
  CHECK(chunk_offset(7, 7, 64) == 7 * 128);
  CHECK(chunk_offset(9, 10, 64) == 8192 + 9 * 128 + 3 * 16);
  CHECK(chunk_offset(63, 11, 64) == 8192 + 63 * 128 + 4 * 16);
  for (int rows : {64, 128}) {
    std::set<int> places;
    for (int row = 0; row < rows; ++row)
      for (int chunk = 0; chunk < 16; ++chunk) {
        int const at = chunk_offset(row, chunk, rows);
        CHECK(at % 16 == 0);
        CHECK(at / 128 % rows == row);
        places.insert(at);
      }
    CHECK(static_cast<int>(places.size()) == rows * 16);
    CHECK(*places.rbegin() == panel_tile_bytes(rows, 128) - 16);
  }
}
