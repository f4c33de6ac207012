// The router of Elastic Attention (arXiv 2601.17367): per sequence and KV head, the keys after k-norm and
// before RoPE are pooled over the sequence, and two small MLPs (mlp_weights.hpp) turn the result into two
// logits, full attention or sparse. Full is route 0, sparse the last route; the G query heads of a KV
// head go together.
//   boundary pooling   mean of the first 100 and the last 100 tokens together; all tokens below 100;
//                      between 100 and 200 the overlap counts twice, as in the authors' code
// Logits are compared in float; a tie (or NaN) takes class 0. With one logit: full where it is positive.
#pragma once

#include <string>
#include <vector>

#include <elastic/routers/mlp_weights.hpp>
#include <elastic/routers/router.hpp>

namespace elastic {

enum class pooling { boundary, mean };

/// Which logit stands for full attention: the second in the authors' code and checkpoints, the first in
/// the paper's text.
enum class class_index { code, paper };

struct mlp_router {
  mlp_weights weights = {};
  elastic::pooling pooling = elastic::pooling::boundary;
  elastic::class_index class_index = elastic::class_index::code;

  /// Does a head with these logits retrieve (full attention)?
  bool retrieves(float const* logits) const { return retrieves(logits, weights.logits(), class_index); }

  ELASTIC_HOST_DEVICE static bool retrieves(float const* logits, int count, elastic::class_index index) {
    if (count == 1) return logits[0] > 0;
    bool const second = logits[1] > logits[0];
    return index == elastic::class_index::code ? second : !second;
  }

  void check(problem const& p, int) const {
    require(bool(weights), "mlp_router.weights", "none",
            "weights: loaded (io/mlp_weights.hpp) or mlp_weights::untrained");
    require_enumerator("mlp_router.pooling", pooling, elastic::pooling::mean);
    require_enumerator("mlp_router.class_index", class_index, elastic::class_index::paper);
    require(p.kv_heads > 0, "k_pre_rope", "no tensor", "the keys after k-norm and before RoPE");
    require(p.head_dim == weights.head_dim(), "k_pre_rope head_dim", p.head_dim,
            std::to_string(weights.head_dim()) + " as the router's weights");
    require(p.layer < weights.layers(), "options.layer", p.layer,
            "one of the router's " + std::to_string(weights.layers()) + " layers");
  }
};

static_assert(router<mlp_router>);

/// What the router computes on the way, each (batch, kv_heads, ·) row-major.
template <class Real>
struct mlp_activations {
  std::vector<Real> pooled;    // (batch, kv_heads, head_dim)
  std::vector<Real> features;  // (batch, kv_heads, head_dim): output of the task MLP
  std::vector<Real> logits;    // (batch, kv_heads, 2), or 1 in the sigmoid variant
};

namespace detail {

/// The pooled rows: [0, head) and [length − tail, length).
struct pooled_rows {
  static constexpr int boundary = 100;
  int head;
  int tail;

  ELASTIC_HOST_DEVICE pooled_rows(pooling how, int length) {
    bool const whole = how == pooling::mean || length < boundary;
    head = whole ? length : boundary;
    tail = whole ? 0 : boundary;
  }
};

template <class T>
void check_mlp_input(heads_view<T const> const& keys, problem const& p) {
  require(detail::is_given(keys), "k_pre_rope", "no tensor", "the keys after k-norm and before RoPE");
  require(keys.extents[2] == p.kv_heads && keys.extents[3] == p.head_dim, "k_pre_rope",
          std::to_string(keys.extents[2]) + " heads of " + std::to_string(keys.extents[3]),
          std::to_string(p.kv_heads) + " heads of " + std::to_string(p.head_dim));
}

/// One decision for each KV head, repeated over its query heads.
template <class Real>
void write_decisions(mlp_router const& router, mlp_activations<Real> const& computed, problem const& p, int modes,
                     assignment_view const& assignment) {
  std::size_t const count = static_cast<std::size_t>(router.weights.logits());
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      std::size_t const row =
          static_cast<std::size_t>(b) * static_cast<std::size_t>(p.kv_heads) + static_cast<std::size_t>(h / p.group());
      float logits[2] = {};
      for (std::size_t i = 0; i < count; ++i) logits[i] = static_cast<float>(computed.logits[row * count + i]);
      assignment(b, h) = router.retrieves(logits) ? 0 : modes - 1;
    }
}

}  // namespace detail

}  // namespace elastic
