// How sparse attention is. Model sparsity Ω_MSR: the share of heads that are not sent to route 0.
// Effective sparsity Ω_ESR: the mean over heads of the pruned share ρ (arXiv 2601.17367), in two readings:
//   last row   ρ = max(0, 1 − n / visible), n the keys that the last query sees: what the paper plots
//   area       ρ = 1 − kept pairs / visible pairs
// Density is kept / visible over all heads together. Visible is what causality and length leave. A mode's
// pairs are counted by its tiles, in arithmetic but for partial ones; without causality too.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/cpu/parallel.hpp>

namespace elastic {

/// Ω_MSR of each sample, over the layers: the share of its heads that have a route other than 0.
inline std::vector<double> model_sparsity_of_samples(std::span<const_assignment_view const> layers) {
  require(!layers.empty(), "layers", "none", "the assignment of at least one layer");
  for (const_assignment_view const& layer : layers) detail::check_view("layers", layer);
  std::int64_t const batch = layers.front().extents[0];
  std::vector<double> shares;
  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t sparse = 0, heads = 0;
    for (const_assignment_view const& layer : layers) {
      require(layer.extents[0] == batch, "layers", layer.extents[0], "assignments of one batch size");
      for (std::int64_t h = 0; h < layer.extents[1]; ++h) sparse += layer(b, h) != 0;
      heads += layer.extents[1];
    }
    shares.push_back(heads > 0 ? static_cast<double>(sparse) / static_cast<double>(heads) : 0);
  }
  return shares;
}

/// Ω_MSR: its mean over the samples.
inline double model_sparsity(std::span<const_assignment_view const> layers) {
  std::vector<double> const shares = model_sparsity_of_samples(layers);
  double sum = 0;
  for (double const share : shares) sum += share;
  return shares.empty() ? 0 : sum / static_cast<double>(shares.size());
}

inline double model_sparsity(const_assignment_view const& layer) { return model_sparsity({&layer, 1}); }

/// What one head of one sequence sees.
struct head_sparsity {
  std::int64_t kept = 0;           // (query, key) pairs
  std::int64_t visible = 0;        // the same for full attention
  std::int64_t last_kept = 0;      // keys of the last query
  std::int64_t last_visible = 0;   // the same for full attention
  std::int64_t tiles = 0;          // tiles visited
  std::int64_t visible_tiles = 0;  // the same for full attention

  double last_row() const { return pruned(last_kept, last_visible); }
  double area() const { return pruned(kept, visible); }

  head_sparsity& operator+=(head_sparsity const& other) {
    kept += other.kept;
    visible += other.visible;
    last_kept += other.last_kept;
    last_visible += other.last_visible;
    tiles += other.tiles;
    visible_tiles += other.visible_tiles;
    return *this;
  }

 private:
  static double pruned(std::int64_t n, std::int64_t all) {
    return all > 0 ? maximum(0., 1 - static_cast<double>(n) / static_cast<double>(all)) : 0;
  }
};

/// All heads of a problem. Heads that have no visible pair count for nothing in the means.
struct effective_sparsity {
  int query_heads = 0;
  tile_shape shape{};
  std::vector<head_sparsity> heads;  // (batch, query_heads), row-major

  head_sparsity const& operator()(int sequence, int query_head) const {
    return heads[static_cast<std::size_t>(sequence) * static_cast<std::size_t>(query_heads) +
                 static_cast<std::size_t>(query_head)];
  }

  /// Ω_ESR by the last query.
  double last_row() const {
    return mean([](head_sparsity const& h) { return h.last_row(); },
                [](head_sparsity const& h) { return h.last_visible; });
  }

  /// Ω_ESR by area.
  double area() const {
    return mean([](head_sparsity const& h) { return h.area(); }, [](head_sparsity const& h) { return h.visible; });
  }

  head_sparsity total() const {
    head_sparsity sum;
    for (head_sparsity const& head : heads) sum += head;
    return sum;
  }

  /// Kept pairs over visible pairs; 1 where nothing is visible.
  double density() const {
    head_sparsity const sum = total();
    return sum.visible > 0 ? static_cast<double>(sum.kept) / static_cast<double>(sum.visible) : 1;
  }

  /// Visited tiles over the tiles of full attention: the share of work that a tiled kernel does.
  double tile_density() const {
    head_sparsity const sum = total();
    return sum.visible_tiles > 0 ? static_cast<double>(sum.tiles) / static_cast<double>(sum.visible_tiles) : 1;
  }

 private:
  double mean(auto const& share, auto const& counts) const {
    double sum = 0;
    std::int64_t n = 0;
    for (head_sparsity const& head : heads) {
      if (counts(head) == 0) continue;
      sum += share(head);
      ++n;
    }
    return n > 0 ? sum / static_cast<double>(n) : 0;
  }
};

namespace detail {

/// Keys that causality and length leave to a query.
inline std::int64_t visible_keys(where const& w, int q) {
  return w.causal ? minimum(maximum(w.position(q) + 1, 0), w.k_len) : w.k_len;
}

struct tile_counts {
  std::int64_t kept = 0;
  std::int64_t tiles = 0;
};

/// What the rows of a query tile keep, by its tiles.
template <attention_mode M>
tile_counts count_tiles(M const& mode, where const& w, int q_tile, tile_shape shape) {
  tile_rows const rows(w, q_tile, shape);
  auto const tiles = tiles_of(mode, w, q_tile, shape);
  tile_counts counts{0, tiles.count};
  for (int i = 0; i < tiles.count; ++i) {
    tile const t = tiles[i];
    int const begin = t.index * shape.columns;
    if (t.kind == tile_kind::full) {
      counts.kept += std::int64_t{rows.last - rows.first + 1} * shape.columns;
      continue;
    }
    for (int q = rows.first; q <= rows.last; ++q) {
      int const columns = static_cast<int>(minimum(visible_keys(w, q) - begin, std::int64_t{shape.columns}));
      if (!has_partial_of<M> || t.kind == tile_kind::clipped)
        counts.kept += maximum(columns, 0);
      else
        for (int at = 0; at < columns; at += 64) {
          int const count = minimum(64, columns - at);
          counts.kept += std::popcount(kept_bits_of(mode, w, q, begin + at, count) & ~std::uint64_t{0} >> (64 - count));
        }
    }
  }
  return counts;
}

}  // namespace detail

/// The tile shape in which a mode is counted: `wanted`, or what the mode's lists allow.
template <attention_mode M>
tile_shape counting_shape(M const& mode, tile_shape wanted = {128, 128}) {
  tile_shape const largest = largest_tile_of(mode);
  return {gcd(largest.rows, wanted.rows), gcd(largest.columns, wanted.columns)};
}

/// Counts what a mode keeps of the problem's query rows [q_begin, q_end), each head by its route. The last query is
/// counted with the rows that hold it, so chunks add up. Lists have to be in host memory, and valid.
template <attention_mode M>
effective_sparsity count_sparsity(M const& mode, problem const& p, const_assignment_view const& assignment,
                                  tile_shape wanted = {128, 128}) {
  for (int const side : {wanted.rows, wanted.columns})
    require(side > 0 && side <= 1 << 29, "wanted", side, "a tile of 1 × 1 to 2^29 × 2^29");
  check_mode(mode, p);
  check_assignment(p, assignment, routes<M>);
  zip_leaves(mode, mode, [&](auto const& leaf, auto const&, int) {
    if constexpr (requires { leaf.validate(p); }) leaf.validate(p);
  });
  effective_sparsity result;
  result.query_heads = p.query_heads;
  result.shape = counting_shape(mode, wanted);
  result.heads.resize(static_cast<std::size_t>(p.batch) * static_cast<std::size_t>(p.query_heads));
  tile_shape const shape = result.shape;
  detail::parallel_for(static_cast<std::int64_t>(result.heads.size()), p.threads, [&](std::int64_t item, int) {
    int const batch = static_cast<int>(item / p.query_heads), head = static_cast<int>(item % p.query_heads);
    where const w = locate(p, batch, head, assignment(batch, head));
    head_sparsity& count = result.heads[static_cast<std::size_t>(item)];
    int const end = minimum(p.q_end, w.q_len);
    tile_shape rows = shape;
    rows.rows = gcd(rows.rows, gcd(p.q_begin, end == w.q_len ? 0 : end));  // no tile crosses a chunk's border
    for (int q_tile = p.q_begin / rows.rows; q_tile * rows.rows < end; ++q_tile) {
      detail::tile_counts const counts = detail::count_tiles(mode, w, q_tile, rows);
      count.kept += counts.kept;
      count.tiles += counts.tiles;
      count.visible_tiles += bounds(w, q_tile, rows).visible;
    }
    for (int q = p.q_begin; q < end; ++q) count.visible += detail::visible_keys(w, q);
    if (w.q_len > p.q_begin && w.q_len <= p.q_end) {
      count.last_kept = detail::count_tiles(mode, w, w.q_len - 1, {1, shape.columns}).kept;
      count.last_visible = detail::visible_keys(w, w.q_len - 1);
    }
  });
  return result;
}

/// The same for any mode of the front door: selectors are run first, chunk by chunk.
template <class Mode, class Router, class Backend, class T>
  requires(Backend::on_host)
effective_sparsity count_sparsity(attention<Mode, Router, Backend> const& attend, heads_view<T> const& q,
                                  heads_view<T> const& k, const_assignment_view const& assignment,
                                  options const& o = {}, tile_shape wanted = {128, 128}) {
  problem const p = attend.shape(q, k, o);
  std::vector<std::byte> memory(attend.workspace_bytes(p));
  effective_sparsity result;
  options step = o;
  int const rows = maximum(attend.chunk_rows(p), 1);
  bool first = true;  // a problem without rows is counted once, too
  for (int begin = p.q_begin; first || begin < p.q_end; begin += rows) {
    step.q_begin = begin;
    step.q_end = minimum(begin + rows, p.q_end);
    attend.select(q, k, assignment, memory, step);
    problem const part = attend.shape(q, k, step);
    effective_sparsity const counted = count_sparsity(attend.selected_in(part, memory), part, assignment, wanted);
    if (std::exchange(first, false)) {
      result = counted;
    } else {
      for (std::size_t i = 0; i < result.heads.size(); ++i) result.heads[i] += counted.heads[i];
    }
  }
  return result;
}

}  // namespace elastic
