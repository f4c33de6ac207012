// A panel: a few vectors of query rows side by side, and the two products of attention on it, blocked for
// registers on Eigen's packets. Keys and values are read where they lie; nothing is packed.
//   S[c][r] = scale · Σ_d Q[d][r]·K[c][d]          O[d][r] = scale[r]·O[d][r] + Σ_c P[c][r]·V[c][d]
#pragma once

#include <cstdint>
#include <utility>

#include <elastic/core/sequence.hpp>
#include <elastic/cpu/eigen.hpp>

namespace elastic::detail {

using packet = Eigen::internal::packet_traits<float>::type;
inline constexpr int packet_size = Eigen::internal::packet_traits<float>::size;
static_assert(packet_size > 1, "elastic: the CPU backend needs Eigen's vector types (EIGEN_DONT_VECTORIZE is set?)");

/// Query rows of a panel: two packets, so that a loaded key serves both.
inline constexpr int panel_rows = 2 * packet_size;

/// Keys (or value columns) multiplied at once: two accumulators each, as many as the registers hold.
inline constexpr int panel_block = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 8 : 6;

/// Two packets for each of `Block` results. Loops are folds, so that they unroll at any optimisation level.
template <int Block>
struct panel_sums {
  packet low[Block], high[Block];

  void clear() {
    each([&](int j) { low[j] = high[j] = Eigen::internal::pset1<packet>(0.f); });
  }
  /// Adds row[0 … panel_rows − 1] · factor(j).
  template <class Factor>
  EIGEN_STRONG_INLINE void add(float const* row, Factor&& factor) {
    using namespace Eigen::internal;
    packet const a = pload<packet>(row), b = pload<packet>(row + packet_size);
    each([&](int j) {
      packet const f = pset1<packet>(factor(j));
      low[j] = pmadd(a, f, low[j]);
      high[j] = pmadd(b, f, high[j]);
    });
  }
  /// results (Block, panel_rows) become factor · sums.
  void store(float* results, float factor) const {
    using namespace Eigen::internal;
    packet const f = pset1<packet>(factor);
    each([&](int j) {
      pstore(results + j * panel_rows, pmul(low[j], f));
      pstore(results + j * panel_rows + packet_size, pmul(high[j], f));
    });
  }
  /// results (Block, panel_rows) become scale (panel_rows) · results + sums.
  void accumulate(float* results, float const* scale) const {
    using namespace Eigen::internal;
    packet const a = pload<packet>(scale), b = pload<packet>(scale + packet_size);
    each([&](int j) {
      float* const row = results + j * panel_rows;
      pstore(row, pmadd(pload<packet>(row), a, low[j]));
      pstore(row + packet_size, pmadd(pload<packet>(row + packet_size), b, high[j]));
    });
  }

 private:
  template <class F>
  EIGEN_STRONG_INLINE static void each(F&& f) {
    [&]<int... J>(std::integer_sequence<int, J...>) { (f(J), ...); }(std::make_integer_sequence<int, Block>{});
  }
};

template <int Block>
inline void score_block(float const* query, head_rows<float const> keys, int head_dim, float scale, float* scores) {
  panel_sums<Block> sums;
  sums.clear();
  for (int d = 0; d < head_dim; ++d)
    sums.add(query + d * panel_rows, [&](int j) { return keys.data[j * keys.stride + d]; });
  sums.store(scores, scale);
}

/// scores (columns, panel_rows) of query (head_dim, panel_rows), scaled. The products come first: of 16-bit
/// inputs they are exact. What is left over goes in smaller blocks.
template <int Block = panel_block>
void panel_scores(float const* query, head_rows<float const> keys, int columns, int head_dim, float scale,
                  float* scores) {
  int c = 0;
  for (; c + Block <= columns; c += Block)
    score_block<Block>(query, {keys[c], keys.stride}, head_dim, scale, scores + c * panel_rows);
  if constexpr (Block > 1)
    panel_scores<Block / 2>(query, {keys[c], keys.stride}, columns - c, head_dim, scale, scores + c * panel_rows);
}

template <int Block>
inline void output_block(float const* weights, head_rows<float const> values, int columns, float const* scale,
                         float* output) {
  panel_sums<Block> sums;
  sums.clear();
  for (int c = 0; c < columns; ++c)
    sums.add(weights + c * panel_rows, [&](int j) { return values.data[c * values.stride + j]; });
  sums.accumulate(output, scale);
}

/// output (head_dim, panel_rows) times scale (panel_rows), plus weights (columns, panel_rows) times values.
/// What is added is summed on its own first: thousands of small weights would be lost on a large sum.
template <int Block = panel_block>
void panel_output(float const* weights, head_rows<float const> values, int columns, int head_dim, float const* scale,
                  float* output) {
  int d = 0;
  for (; d + Block <= head_dim; d += Block)
    output_block<Block>(weights, {values.data + d, values.stride}, columns, scale, output + d * panel_rows);
  if constexpr (Block > 1)
    panel_output<Block / 2>(weights, {values.data + d, values.stride}, columns, head_dim - d, scale,
                            output + d * panel_rows);
}

}  // namespace elastic::detail
