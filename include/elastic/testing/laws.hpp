// The laws that bind a mode's tiles to its keeps, checked by brute force over every pair. A checker returns
// the first broken law as text, empty where all hold, so that a test may also demand that one breaks.
//
// Every mode:  tiles descend strictly and exist; a tile that is not visited keeps nothing admitted; a full
//              tile keeps and admits every pair; a clipped tile keeps every admitted pair; partial tiles
//              only where has_partial; kept_bits, where there is one, answers as keeps does; no query sees
//              what is forgotten at its position or before.
// Tight modes: every visited tile keeps something, and is no dearer than it has to be.
#pragma once

#include <string>

#include <elastic/modes/hooks.hpp>
#include <elastic/modes/modes.hpp>

namespace elastic::testing {

/// What brute force finds in one tile.
struct tile_census {
  bool any_kept = false;      // a pair is kept and admitted
  bool all_admitted = true;   // every pair is admitted, and no column lies past the end
  bool admitted_kept = true;  // every admitted pair is kept
};

/// Does kept_bits answer as keeps does, for 1 to 64 keys from any on?
template <class M>
bool bits_agree(M const& mode, where const& w, int q, int first, int count) {
  std::uint64_t const bits = kept_bits_of(mode, w, q, first, count);
  for (int i = 0; i < count; ++i)
    if ((bits >> i & 1) != std::uint64_t{mode.keeps(w, q, first + i)}) return false;
  return true;
}

template <class M>
tile_census census(M const& mode, where const& w, int q_tile, int k_tile, tile_shape shape) {
  tile_census seen;
  tile_rows const rows(w, q_tile, shape);
  for (int q = rows.first; q <= rows.last; ++q)
    for (int k = k_tile * shape.columns; k < (k_tile + 1) * shape.columns; ++k) {
      bool const admitted = w.admits(q, k);
      bool const kept = admitted && mode.keeps(w, q, k);
      seen.any_kept |= kept;
      seen.all_admitted &= admitted;
      seen.admitted_kept &= kept || !admitted;
    }
  return seen;
}

/// Does a query see a key that is forgotten at its own position, or at an earlier query's? Of some pairs of queries.
template <class M>
std::string remembered_key(M const& mode, where const& w) {
  for (int q = 0; q < w.q_len; q += 3) {
    key_range const gone = forgotten_by(mode, w, w.position(q));
    for (int later = q; later < w.q_len; later += 1 + (later - q))
      for (int k = gone.begin; k < gone.end; ++k)
        if (w.admits(later, k) && mode.keeps(w, later, k))
          return "a query sees what was forgotten before it: query " + std::to_string(later) + ", key " +
                 std::to_string(k) + ", forgotten at position " + std::to_string(w.position(q));
  }
  return {};
}

/// How a mode's tiles differ from the cheapest that are right.
struct slack {
  long visited = 0;   // tiles visited
  long needless = 0;  // of these: tiles that keep nothing
  long dear = 0;      // of these: tiles whose kind asks for more than they need
};

inline char const* name_of(tile_kind kind) {
  return kind == tile_kind::full ? "full" : kind == tile_kind::clipped ? "clipped" : "partial";
}

template <attention_mode M>
std::string broken_law(M const& mode, where const& w, tile_shape shape, slack* measured = nullptr) {
  static_assert(elastic::detail::hooks_fit<M>());
  if (std::string const remembered = remembered_key(mode, w); !remembered.empty()) return remembered;
  int const key_tiles = ceil_div(w.k_len, shape.columns);
  for (int q_tile = 0; q_tile < ceil_div(w.q_len, shape.rows); ++q_tile) {
    auto const tiles = tiles_of(mode, w, q_tile, shape);
    int below = key_tiles;  // tiles from here on are dealt with
    auto const tell = [&](char const* law, int k_tile) {
      return std::string(law) + ": query tile " + std::to_string(q_tile) + ", key tile " + std::to_string(k_tile) +
             " of " + std::to_string(shape.rows) + "×" + std::to_string(shape.columns) + ", q_len " +
             std::to_string(w.q_len) + ", k_len " + std::to_string(w.k_len) +
             (w.causal ? ", causal" : ", bidirectional");
    };
    for (int i = 0; i <= tiles.count; ++i) {
      tile const visited = i < tiles.count ? tiles[i] : tile{-1, tile_kind::full};
      if (i < tiles.count && visited.index < 0) return tell("a visited tile does not exist", visited.index);
      if (visited.index >= below)
        return tell(i == 0 ? "a visited tile does not exist" : "tiles do not descend", visited.index);
      for (int skipped = below - 1; skipped > visited.index; --skipped)
        if (census(mode, w, q_tile, skipped, shape).any_kept)
          return tell("a kept pair lies in a tile that is not visited", skipped);
      if (i == tiles.count) break;
      below = visited.index;
      tile_census const seen = census(mode, w, q_tile, visited.index, shape);
      if (visited.kind == tile_kind::full && !seen.all_admitted)
        return tell("a full tile holds a pair that is not admitted", below);
      if (visited.kind != tile_kind::partial && !seen.admitted_kept)
        return tell("a full or clipped tile holds a pair that is not kept", below);
      if constexpr (bits_mode<M>) {
        tile_rows const rows(w, q_tile, shape);
        int const end = minimum((visited.index + 1) * shape.columns, w.k_len);
        for (int q = rows.first; q <= rows.last; ++q) {
          int const first = visited.index * shape.columns + q % minimum(shape.columns, 7);
          if (first < end && !bits_agree(mode, w, q, first, minimum(end - first, 64)))
            return tell("kept_bits and keeps differ", below);
        }
      }
      if (visited.kind == tile_kind::partial && !has_partial_of<M>)
        return tell("a partial tile of a mode without partial tiles", below);
      if (measured != nullptr) {
        tile_kind const enough = !seen.admitted_kept ? tile_kind::partial
                                 : seen.all_admitted ? tile_kind::full
                                                     : tile_kind::clipped;
        ++measured->visited;
        measured->needless += seen.any_kept ? 0 : 1;
        measured->dear += seen.any_kept && visited.kind != enough ? 1 : 0;
      }
    }
  }
  return {};
}

/// The laws, and that no tile is needless or dear.
template <attention_mode M>
std::string broken_tightness(M const& mode, where const& w, tile_shape shape) {
  slack measured;
  std::string broken = broken_law(mode, w, shape, &measured);
  if (broken.empty() && measured.needless + measured.dear > 0)
    broken = "tiles are not tight: " + std::to_string(measured.needless) + " needless and " +
             std::to_string(measured.dear) + " too dear of " + std::to_string(measured.visited) + " of " +
             std::to_string(shape.rows) + "×" + std::to_string(shape.columns) + ", q_len " + std::to_string(w.q_len) +
             ", k_len " + std::to_string(w.k_len) + (w.causal ? ", causal" : ", bidirectional");
  return broken;
}

/// Does the shape fit what the mode allows?
template <class M>
bool fits(M const& mode, tile_shape shape) {
  tile_shape const largest = largest_tile_of(mode);
  return largest.rows % shape.rows == 0 && largest.columns % shape.columns == 0;
}

inline constexpr tile_shape law_shapes[] = {{16, 16},  {32, 16},  {16, 64},   {48, 112},  {64, 32}, {64, 64},
                                            {96, 128}, {128, 96}, {128, 128}, {128, 256}, {1, 128}, {8, 8}};

/// Where an attention pattern is drawn by hand: one line per query, '#' for a pair that counts. Returns the
/// first line that differs, empty where all agree.
template <class M>
std::string picture_differs(M const& mode, where const& w, std::initializer_list<char const*> picture) {
  if (static_cast<int>(picture.size()) != w.q_len) return "the picture needs one line for each query";
  int q = 0;
  for (char const* expected : picture) {
    std::string line;
    for (int k = 0; k < w.k_len; ++k) line += w.admits(q, k) && mode.keeps(w, q, k) ? '#' : '.';
    if (line != expected) return "query " + std::to_string(q) + ": " + line + ", expected " + expected;
    ++q;
  }
  return {};
}

/// One head of one sequence.
inline where place(int q_len, int k_len, bool causal = true, int route = 0) {
  where w;
  w.q_len = q_len;
  w.k_len = k_len;
  w.causal = causal;
  w.route = route;
  return w;
}

}  // namespace elastic::testing
