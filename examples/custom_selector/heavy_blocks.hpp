// A selector and a router of one's own, for the host's backends. Both look at the mean norm of the keys in every block:
// the selector keeps the k heaviest blocks that a query block may see and its newest one; the router sends a head there
// where one block outweighs the average by a factor.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <elastic/attention.hpp>

/// Mean norm of the keys in each block of a KV head.
template <elastic::element T>
std::vector<float> block_weights(elastic::heads_view<T const> const& k, int batch, int kv_head, int block) {
  int const length = static_cast<int>(k.extents[1]);
  std::vector<float> weights(static_cast<std::size_t>(elastic::ceil_div(length, block)));
  for (int j = 0; j < length; ++j) {
    float squares = 0;
    for (int d = 0; d < k.extents[3]; ++d) {
      float const x = static_cast<float>(k(batch, j, kv_head, d));
      squares += x * x;
    }
    int const size = elastic::minimum(block, length - j / block * block);
    weights[static_cast<std::size_t>(j / block)] += std::sqrt(squares) / static_cast<float>(size);
  }
  return weights;
}

struct heavy_blocks {
  int block = 64;
  int k = 3;

  // Where the choice is kept: here, lists of key blocks for every block of query rows, which the library offers.
  using storage = elastic::block_lists;
  storage bind(elastic::problem const& p, elastic::workspace_cursor& cursor) const {
    return storage::bind(p, block, block, cursor);
  }

  void check(elastic::problem const& p) const {
    elastic::require(block > 0 && elastic::chunk_alignment % block == 0, "heavy_blocks.block", block,
                     "a divisor of 128");
    elastic::require(k >= 0, "heavy_blocks.k", k, "0 or more blocks");
    elastic::require(p.causal && !p.packed(), "heavy_blocks", "another problem", "causal attention, not packed");
  }
};

/// Fills the lists, entries descending, of the heads that come to this selector. The front door finds it by its name.
template <class Backend, elastic::element T>
  requires(Backend::on_host)
void select_on(Backend const&, heavy_blocks const& s, elastic::block_lists const& lists,
               elastic::select_inputs<T> const& in, elastic::workspace) {
  using namespace elastic;
  problem const& p = in.shape;
  lists.clear();
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      if (!in.comes(b, h)) continue;
      where const w = locate(p, b, h, in.assignment(b, h));
      std::vector<float> const weights = block_weights<T>(in.k, b, w.kv_head, s.block);
      for (int i = p.q_begin / s.block; i * s.block < p.q_end; ++i) {
        int const newest = w.position(minimum((i + 1) * s.block, p.q_end) - 1) / s.block;
        if (newest < 0) continue;  // its queries come before every key
        std::int64_t const row = lists.row(b, h, i);
        std::int32_t* const chosen = lists.entries_of(row);
        for (int j = 0; j < newest; ++j) chosen[j] = j;
        int const kept = minimum(s.k, newest);
        std::partial_sort(chosen, chosen + kept, chosen + newest, [&](std::int32_t x, std::int32_t y) {
          return weights[static_cast<std::size_t>(x)] > weights[static_cast<std::size_t>(y)];
        });
        chosen[kept] = newest;
        std::sort(chosen, chosen + kept + 1, std::greater<>());
        lists.count[row] = kept + 1;
      }
    }
}

static_assert(elastic::selector<heavy_blocks>);

struct heavy_router {
  double factor = 1.5;

  void check(elastic::problem const& p, int) const {
    elastic::require(factor > 0, "heavy_router.factor", factor, "a positive number");
    elastic::require(p.kv_heads > 0, "k", "no tensor", "the keys");
  }
};

/// Writes a route for every head: 0 for the first mode, modes - 1 for the last.
template <class Backend, class Mode, elastic::element T>
  requires(Backend::on_host)
void route_on(Backend const&, heavy_router const& router, Mode const&, elastic::route_inputs<T> const& in,
              elastic::problem const& p, elastic::assignment_view const& assignment, elastic::workspace) {
  elastic::require(bool(in.k), "k", "no tensor", "the keys");
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      std::vector<float> const weights = block_weights<T>(in.k, b, h / p.group(), heavy_blocks{}.block);
      float sum = 0;
      for (float const weight : weights) sum += weight;
      bool const heavy =
          double(*std::ranges::max_element(weights)) * double(weights.size()) > router.factor * double(sum);
      assignment(b, h) = heavy ? elastic::routes<Mode> - 1 : 0;
    }
}

static_assert(elastic::router<heavy_router>);
