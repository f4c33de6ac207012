// The best any router could do: computes every head in route 0 and in the last route, and takes the last
// route where all query heads of the KV head err by no more than the tolerance. The error is that of the
// sparse output against the dense one over the problem's query rows, in the tensors' dtype
// (metrics/output_error.hpp). Costs two attention calls and two outputs in memory, both the library's
// own, so host backends alone offer it. For upper bounds and for labels, not for production.
#pragma once

#include <string>
#include <vector>

#include <elastic/core/workspace.hpp>
#include <elastic/metrics/output_error.hpp>
#include <elastic/routers/given_router.hpp>
#include <elastic/routers/router.hpp>

namespace elastic {

template <class Mode, class Router, class Backend>
class attention;

struct oracle_router {
  double tolerance = 0.05;
  error_measure measure = error_measure::relative_l2;

  void check(problem const& p, int) const {
    require_enumerator("oracle_router.measure", measure, error_measure::relative_maximum);
    require(tolerance >= 0, "oracle_router.tolerance", tolerance, "0 or more");
    detail::require_kv_heads(p);
  }
};

static_assert(router<oracle_router>);

namespace detail {

/// The options that a checked problem came from.
inline options options_of(problem const& p) {
  options o;
  o.causal = p.causal;
  o.softmax_scale = p.softmax_scale;
  o.layer = p.layer;
  o.threads = p.threads;
  if (p.packed()) {
    o.cu_seqlens_q = {p.cu_seqlens_q, static_cast<std::size_t>(p.batch) + 1};
    o.cu_seqlens_k = {p.cu_seqlens_k, static_cast<std::size_t>(p.batch) + 1};
  }
  o.q_begin = p.q_begin;
  o.q_end = p.q_end;
  return o;
}

/// Per (sequence, query head), row-major: the error of the last route against route 0. `attention` is
/// complete wherever this is instantiated: attention::route does it.
template <class Backend, class Mode, class T>
std::vector<head_error> route_errors(Backend const& backend, Mode const& mode, route_inputs<T> const& in,
                                     problem const& p) {
  require(detail::is_given(in.q), "q", "no tensor", "the queries: the oracle computes the attention that it judges");
  require(detail::is_given(in.k), "k", "no tensor", "the keys: the oracle computes the attention that it judges");
  require(detail::is_given(in.v), "v", "no tensor", "the values: the oracle computes the attention that it judges");
  options const o = options_of(p);
  auto const attend = [&](std::int32_t route, std::vector<T>& memory) {
    memory.resize(static_cast<std::size_t>(in.q.size()));
    heads_view<T> const out(memory.data(), {in.q.extents[0], in.q.extents[1], in.q.extents[2], in.q.extents[3]});
    given_router const all{const_assignment_view(&route, {p.batch, p.query_heads}, {0, 0})};
    attention<Mode, given_router, Backend>(mode, all, backend)(in.q, in.k, in.v, out, {}, o);
    return heads_view<T const>(out);
  };
  std::vector<T> dense_memory, sparse_memory;
  heads_view<T const> const dense = attend(0, dense_memory);
  heads_view<T const> const sparse = attend(routes<Mode> - 1, sparse_memory);
  return output_errors(sparse, dense, o.cu_seqlens_q, p.q_begin, p.q_end);
}

}  // namespace detail

template <class Backend, class Mode, class T>
  requires(Backend::on_host)
void route_on(Backend const& backend, oracle_router const& router, Mode const& mode, route_inputs<T> const& in,
              problem const& p, assignment_view const& assignment, workspace) {
  std::vector<head_error> const errors = detail::route_errors(backend, mode, in, p);
  for (int b = 0; b < p.batch; ++b)
    for (int first = 0; first < p.query_heads; first += p.group()) {
      bool within = true;  // written so that a NaN is not
      for (int h = first; h < first + p.group(); ++h)
        within =
            within && errors[static_cast<std::size_t>(b * p.query_heads + h)].by(router.measure) <= router.tolerance;
      for (int h = first; h < first + p.group(); ++h) assignment(b, h) = within ? routes<Mode> - 1 : 0;
    }
}

}  // namespace elastic
