// Per-token top-k: every query of every head sees the k keys with the largest q·k among those that
// causality and length leave it; ties go to the lower index. What is kept is a cut per row, not a set:
// the mode recomputes q·k for the pair it is asked about, so that memory stays linear in the sequence.
#pragma once

#include <elastic/selectors/dot_source.hpp>
#include <elastic/selectors/selector.hpp>
#include <elastic/selectors/top_cut.hpp>

namespace elastic {

/// Reads the q and k that were selected from; they have to stay where they are. The front door's forward and
/// validate refuse others.
struct top_k_selected {
  top_cut<double> const* cuts = nullptr;  // (batch, query_heads, q_end − q_begin)
  dot_source const* source = nullptr;
  std::int64_t const* q_starts = nullptr;  // (batch)
  std::int64_t const* k_starts = nullptr;  // (batch)
  int q_begin = 0;
  int rows = 0;  // q_end − q_begin

  static constexpr bool has_partial = true;
  static constexpr bool host_only = true;  // no kernel recomputes logits in double

  std::int64_t row(where const& w, int q) const {
    return (std::int64_t{w.batch} * w.query_heads + w.query_head) * rows + q - q_begin;
  }

  bool keeps(where const& w, int q, int k) const {
    top_cut<double> const cut = cuts[row(w, q)];
    if (cut.is_nothing() || cut.is_everything()) return cut.is_everything();
    return cut.keeps(detail::orderable((*source)(w, q_starts[w.batch], k_starts[w.batch], q, k)), k);
  }

  void validate(problem const& p) const {
    bool const filled = source->mark == dot_source::written && source->head_dim == p.head_dim;
    require(filled, "workspace", "no top_k selection", "what select wrote");
  }
};

static_assert(attention_mode<top_k_selected>);

struct top_k {
  int k = 2048;

  static constexpr bool host_only = true;

  struct storage {
    top_cut<double>* cuts = nullptr;
    dot_source* source = nullptr;
    std::int64_t* q_starts = nullptr;
    std::int64_t* k_starts = nullptr;
    int q_begin = 0;
    int rows = 0;

    top_k_selected selected() const { return {cuts, source, q_starts, k_starts, q_begin, rows}; }

    template <element T>
    void view(select_inputs<T> const& in) const {
      problem const& p = in.shape;
      *source = dot_source::of(in);
      for (int b = 0; b < p.batch; ++b) {
        q_starts[b] = dot_source::start(in.q, p.cu_seqlens_q, b);
        k_starts[b] = dot_source::start(in.k, p.cu_seqlens_k, b);
      }
    }

    /// Throws elastic::error unless `view` was of these tensors and this problem: they are read once more.
    template <element T>
    void check_source(select_inputs<T> const& in) const {
      problem const& p = in.shape;
      bool same = *source == dot_source::of(in);
      for (int b = 0; same && b < p.batch; ++b)
        same = q_starts[b] == dot_source::start(in.q, p.cu_seqlens_q, b) &&
               k_starts[b] == dot_source::start(in.k, p.cu_seqlens_k, b);
      require(same, "workspace",
              source->mark == dot_source::written ? "a top_k selection from other q or k" : "no top_k selection",
              "what select wrote for these q and k");
    }

    top_cut<double>& cut(where const& w, int q) const { return cuts[selected().row(w, q)]; }
  };

  storage bind(problem const& p, workspace_cursor& cursor) const {
    storage made;
    made.q_begin = p.q_begin;
    made.rows = p.q_end - p.q_begin;
    made.source = cursor.take<dot_source>(1);  // first, so that one left from another problem is found
    made.cuts = cursor.take<top_cut<double>>(elements_of({p.batch, p.query_heads, made.rows}));
    made.q_starts = cursor.take<std::int64_t>(p.batch);
    made.k_starts = cursor.take<std::int64_t>(p.batch);
    return made;
  }

  void check(problem const& p) const {
    require(k >= 1, "top_k.k", k, "1 key or more");
    elements_of({p.batch, p.query_heads, p.q_len, 16});
  }
};

static_assert(selector<top_k>);

}  // namespace elastic
