// Where elements lie in a tile that TMA wrote with its 128-byte swizzle, and the descriptors by which wgmma finds
// them. A tile of `rows` rows and head_dim columns lies in panels of 64 columns: panel, row, 128 bytes; inside
// each 8 rows, 1024 bytes, the 16-byte chunk c of row r lies in place c xor (r mod 8).
// Descriptor: bits 0-13 address / 16, 16-29 leading offset / 16, 32-45 stride offset / 16, 62-63 swizzle (1: 128
// bytes); the high word is the same for all. PTX ISA, "Matrix Descriptor Format".
#pragma once

#include <cstdint>

#include <elastic/core/host_device.hpp>

namespace elastic {

inline constexpr int panel_columns = 64;
inline constexpr int panel_row_bytes = 128;

/// Eight rows follow the eight before by 1024 bytes.
inline constexpr std::uint32_t descriptor_high = (1u << 30) | (1024 >> 4);

/// `leading` is the distance of panels where the instruction's N spans several ("MN-major"), else not used.
ELASTIC_HOST_DEVICE constexpr std::uint32_t descriptor_low(std::uint32_t address, int leading) {
  return (static_cast<std::uint32_t>(leading >> 4) << 16) | ((address >> 4) & 0x3fffu);
}

ELASTIC_HOST_DEVICE constexpr int panel_bytes(int rows) { return rows * panel_row_bytes; }
ELASTIC_HOST_DEVICE constexpr int panels_of(int head_dim) { return (head_dim + panel_columns - 1) / panel_columns; }
ELASTIC_HOST_DEVICE constexpr int panel_tile_bytes(int rows, int head_dim) {
  return panels_of(head_dim) * panel_bytes(rows);
}

/// Added to a descriptor: to columns 16·step of a tile, for products over the columns (queries and keys).
ELASTIC_HOST_DEVICE constexpr std::uint32_t column_step(int step, int rows) {
  constexpr int steps = panel_columns / 16;
  return static_cast<std::uint32_t>((step / steps * panel_bytes(rows) + step % steps * 32) >> 4);
}

/// Added to a descriptor: to rows 16·step of a tile, for products over the rows (values).
ELASTIC_HOST_DEVICE constexpr std::uint32_t row_step(int step) {
  return static_cast<std::uint32_t>((step * 16 * panel_row_bytes) >> 4);
}

/// Bytes from the tile's start to chunk `chunk` (8 columns) of row `row`.
ELASTIC_HOST_DEVICE constexpr int chunk_offset(int row, int chunk, int rows) {
  return chunk / 8 * panel_bytes(rows) + row * panel_row_bytes + ((chunk % 8 ^ row % 8) << 4);
}

}  // namespace elastic
