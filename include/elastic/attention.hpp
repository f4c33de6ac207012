// The front door: attention<Mode, Router, Backend>. Mode says which (query, key) pairs count, Router
// which head takes which mode, Backend where it runs.
//
//   attention attend{hybrid{full{}, streaming{}}, ratio_router{0.75}, cpu{}};  // cpu{} may be left out, in .cpp files
//   attend(q, k, v, out);                                       // everything, in one call
//
//   problem p = attend.shape(q, k, options);                    // or step by step
//   std::vector<std::byte> memory(attend.workspace_bytes(p));
//   attend.route(k_pre_rope, assignment, memory, options);      // who goes where
//   attend.select(q, k, assignment, memory, options);           // data-dependent lists
//   attend.forward(q, k, v, out, lse, assignment, memory, options);
//   attend.hand_back(cache, table, assignment, options);        // after prefill: pages that no one needs
//   attend.decode(q, cache, out, lse, assignment, memory, options);
//
// What select left serves the very shapes and the assignment that it was given: of another shape, forward finds the
// wrong lists; a head that another route sends to a selector afterwards finds empty rows, and sees no key. What is
// written (outputs, workspace, assignment) shares no memory with what is read; where both are dense that is checked,
// but for what a mode points to. Input is finite, with sums below the largest float (3e38): Σ|q·k| over head_dim,
// before and after the scale, and |v| times the number of keys that a row sees. Past that outputs may be ±∞ or NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <elastic/cache/elastic_cache.hpp>
#include <elastic/core/check.hpp>
#include <elastic/core/readable.hpp>
#include <elastic/core/workspace.hpp>
#include <elastic/modes/hooks.hpp>
#include <elastic/modes/modes.hpp>
#include <elastic/reference/reference.hpp>
#include <elastic/routers/routers.hpp>
#include <elastic/selectors/selectors.hpp>
#include <elastic/selectors/validate.hpp>
#include <elastic/version.hpp>

#ifndef __CUDACC__  // device translation units see no Eigen
#include <elastic/cpu/cpu.hpp>
#endif

namespace elastic {

#ifndef __CUDACC__
using default_backend = cpu;
#else
struct cpu;              // for what a header says of both: it has no definition here
struct default_backend;  // there is none: a slow one would be taken unawares
#endif

template <class B>
concept backend = std::copyable<B> && requires {
  { B::on_host } -> std::convertible_to<bool>;
};

/// A backend whose forward takes a workspace of that many bytes as its last argument.
template <class B>
concept backend_with_scratch = backend<B> && requires(B const& b, problem const& p) {
  { b.scratch_bytes(p) } -> std::convertible_to<std::size_t>;
};

/// A backend with a kernel of its own for few queries against a cache.
template <class B>
concept backend_with_decode = backend<B> && requires(B const& b, problem const& p) {
  { b.decode_bytes(p) } -> std::convertible_to<std::size_t>;
};

namespace detail {

template <class T>
struct tensor_element {
  static_assert(element<std::remove_const_t<T>>, "elastic: tensors are of float, half or bfloat16");
  using type = std::remove_const_t<T>;
};

}  // namespace detail

/// The element type of tensors, which may be const.
template <class T>
using element_of = typename detail::tensor_element<T>::type;

/// Every key that causality admits, with the hooks that a mode may have.
template <class Mode>
struct dense_of {
  Mode mode;

  static constexpr int spans_max = full::spans_max;
  static constexpr bool has_partial = full::has_partial;

  ELASTIC_HOST_DEVICE bool keeps(where const&, int, int) const { return true; }
  ELASTIC_HOST_DEVICE auto spans(where const& w, int q_tile, tile_shape shape) const {
    return full{}.spans(w, q_tile, shape);
  }

  template <class Real>
    requires scoring_mode<Mode>
  ELASTIC_HOST_DEVICE Real score(where const& w, Real s, int q, int k) const {
    return mode.score(w, s, q, k);
  }

  ELASTIC_HOST_DEVICE float sink_logit(where const& w) const
    requires sink_logit_mode<Mode>
  {
    return mode.sink_logit(w);
  }
};

/// A leaf whose mode at decode has hooks, as a plan of a scored mode has.
template <class Leaf>
concept hooked_at_decode = requires(Leaf const& leaf) {
  leaf.at_decode();
  requires scoring_mode<decltype(leaf.at_decode())> || sink_logit_mode<decltype(leaf.at_decode())>;
};

/// The mode in which every head attends to the whole cache; score hooks and sink logits stay.
template <class Mode>
auto dense_mode(Mode const& mode) {
  return map_leaves(mode, [](auto const& leaf) {
    using leaf_type = std::remove_cvref_t<decltype(leaf)>;
    if constexpr (scoring_mode<leaf_type> || sink_logit_mode<leaf_type>)
      return dense_of<leaf_type>{leaf};
    else if constexpr (hooked_at_decode<leaf_type>)
      return dense_mode(leaf.at_decode());
    else
      return full{};
  });
}

/// The mode in use at decode: heads with lists or selectors attend to the whole cache, planned
/// ones as the mode that was planned.
template <class Mode>
auto decode_mode(Mode const& mode) {
  return map_leaves(mode, [](auto const& leaf) {
    using leaf_type = std::remove_cvref_t<decltype(leaf)>;
    if constexpr (requires { leaf.at_decode(); })
      return decode_mode(leaf.at_decode());
    else if constexpr (selector<leaf_type> || list_mode<leaf_type>)
      return dense_mode(leaf);
    else
      return leaf;
  });
}

template <class Mode, class Router = fixed_router, class Backend = default_backend>
class attention {
 public:
  using selected = selected_t<Mode>;
  static_assert(
      attention_mode<selected>,
      "elastic: Mode must satisfy attention_mode (keeps, has_partial, trivially copyable) or selector (storage, "
      "bind, storage.selected, check, trivially copyable)");
  static_assert(detail::hooks_fit<selected>());
  static_assert(
      router<Router>,
      "elastic: Router must satisfy the concept router: be callable with (problem, sequence, query_head, modes) "
      "and return an integer, or have check(problem, modes) and a route_on");
  static_assert(!detail::says_check<Router> || checked_router<Router>,
                "elastic: check of a Router must be void check(problem, int modes) const");
#ifdef __CUDACC__
  static_assert(!std::is_same_v<Backend, default_backend>,
                "elastic: a .cu file names its Backend: cuda or cuda_for<...>, or reference; cpu is for .cpp files");
#endif
  static_assert(backend<Backend>, "elastic: Backend must satisfy the concept backend");
  static_assert(Backend::on_host || !host_only<Mode>,
                "elastic: Mode selects per token (top_k): the reference and cpu backends serve it, cuda does not");

  attention() = default;
  explicit attention(Mode the_mode, Router the_router = {}, Backend the_backend = {})
      : mode_(std::move(the_mode)), router_(std::move(the_router)), backend_(std::move(the_backend)) {}

  Mode const& mode() const { return mode_; }
  Router const& router() const { return router_; }
  Backend const& backend() const { return backend_; }

  /// The checked problem of q (batch, q_len, query_heads, head_dim) against k (batch, k_len, kv_heads, head_dim).
  template <class T>
  problem shape(heads_view<T> const& q, heads_view<T> const& k, options const& o = {}) const {
    using E = element_of<T>;
    problem const p = make_problem<E>(heads_view<E const>(q), heads_view<E const>(k), o, Backend::on_host);
    check_mode(mode_, p);
    return p;
  }

  /// Query rows that select and forward take at once where the workspace is to stay within `limit`. Never fewer than
  /// chunk_alignment: what those need may exceed it.
  int chunk_rows(problem const& p, std::size_t limit = default_workspace_limit) const {
    int rows = p.q_end - p.q_begin;
    while (rows > chunk_alignment && bytes_of(p, rows) > limit)
      rows = maximum(chunk_alignment, ceil_div(rows / 2, chunk_alignment) * chunk_alignment);
    return rows;
  }

  /// Bytes enough for any routing of chunk_rows(p, limit) query rows. By the host-visible shapes alone.
  std::size_t workspace_bytes(problem const& p, std::size_t limit = default_workspace_limit) const {
    return bytes_of(p, chunk_rows(p, limit));
  }

  /// Writes the route of every (sequence, query head) to `assignment`.
  template <class T>
  void route(route_inputs<T> const& in, assignment_view const& assignment, workspace memory,
             options const& o = {}) const {
    problem const p = detail::make_route_problem(in, const_assignment_view(assignment), o, Backend::on_host);
    detail::check_distinct("assignment", assignment);
    auto const check_apart_from = [&](char const* name, auto const& tensor) {
      detail::check_apart("assignment", assignment, name, tensor);
      detail::check_apart("workspace", detail::view_of(memory), name, tensor);
    };
    check_apart_from("k_pre_rope", in.k_pre_rope);
    check_apart_from("q", in.q);
    check_apart_from("k", in.k);
    check_apart_from("v", in.v);
    detail::check_apart("workspace", detail::view_of(memory), "assignment", assignment);
    check_router(router_, p, routes<Mode>);
    if constexpr (head_router<Router> && Backend::on_host) {
      std::vector<std::int32_t> chosen;
      for (int b = 0; b < p.batch; ++b)
        for (int h = 0; h < p.query_heads; ++h) chosen.push_back(detail::decided_route(router_, p, b, h, routes<Mode>));
      auto next = chosen.begin();
      for (int b = 0; b < p.batch; ++b)
        for (int h = 0; h < p.query_heads; ++h) assignment(b, h) = *next++;
    } else if constexpr (requires { route_on(backend_, router_, mode_, in, p, assignment, memory); }) {
      route_on(backend_, router_, mode_, in, p, assignment, memory);
    } else {
      static_assert(!std::is_same_v<T, T>,
                    "elastic: this Router has no route_on for this Backend: route_on(backend, router, mode, "
                    "route_inputs<T>, problem, assignment, workspace), in the router's namespace");
    }
  }

  /// The same for routers that read the keys before RoPE alone.
  template <class T>
  void route(heads_view<T> const& k_pre_rope, assignment_view const& assignment, workspace memory,
             options const& o = {}) const {
    route(route_inputs<std::remove_const_t<T>>{.k_pre_rope = k_pre_rope}, assignment, memory, o);
  }

  /// Fills the workspace with what the mode's selectors choose; nothing for static modes.
  template <class T>
  void select(heads_view<T> const& q, heads_view<T> const& k, const_assignment_view const& assignment, workspace memory,
              options const& o = {}) const {
    if constexpr (selects<Mode>) {
      using E = element_of<T>;
      problem const p = shape(q, k, o);
      check_routes(p, assignment);
      detail::check_apart("workspace", detail::view_of(memory), "q", q);
      detail::check_apart("workspace", detail::view_of(memory), "k", k);
      detail::check_apart("workspace", detail::view_of(memory), "assignment", assignment);
      workspace_cursor cursor = start(p, memory);
      auto const bound = bind_storage(mode_, p, cursor);
      workspace const scratch = rest_of(memory, cursor);
      zip_leaves(mode_, bound, [&](auto const& leaf, auto const& storage, int at) {
        using leaf_type = std::remove_cvref_t<decltype(leaf)>;
        if constexpr (selector<leaf_type>) {
          select_inputs<E> const in{q, k, p, assignment, at};
          if constexpr (requires { select_on(backend_, leaf, storage, in, scratch); })
            select_on(backend_, leaf, storage, in, scratch);
          else
            static_assert(!std::is_same_v<leaf_type, leaf_type>,
                          "elastic: this selector has no select_on for this Backend: select_on(backend, selector, "
                          "storage, select_inputs<T>, workspace), in the selector's namespace");
        }
      });
    }
  }

  /// The mode that forward runs: a static one, or a view of what select left in the workspace.
  selected selected_in(problem const& p, workspace memory) const {
    workspace_cursor cursor = start(p, memory);
    return selected_mode(bind_storage(mode_, p, cursor));
  }

  /// out = softmax(scale · q·kᵀ over the kept keys) · v, and where `lse` is given its log-sum-exp.
  template <class T>
  void forward(heads_view<T> const& q, heads_view<T> const& k, heads_view<T> const& v,
               heads_view<std::remove_const_t<T>> const& out, lse_view const& lse,
               const_assignment_view const& assignment, workspace memory, options const& o = {}) const {
    using E = element_of<T>;
    problem const p = shape(q, k, o);
    detail::check_shape("v", v, k.extents[0], k.extents[1], k.extents[2], k.extents[3]);
    check_outputs<E>(p, q, out, lse);
    check_outputs_apart(out, lse, "k", k);
    check_outputs_apart(out, lse, "v", v);
    check_outputs_apart(out, lse, "options.cu_seqlens_q", detail::view_of(o.cu_seqlens_q));
    check_outputs_apart(out, lse, "options.cu_seqlens_k", detail::view_of(o.cu_seqlens_k));
    check_outputs_apart(out, lse, "assignment", assignment);
    check_outputs_apart(out, lse, "workspace", detail::view_of(memory));
    check_routes(p, assignment);
    workspace_cursor cursor = start(p, memory);
    auto const bound = bind_storage(mode_, p, cursor);
    check_sources(bound, select_inputs<E>{q, k, p, assignment});
    selected const ready = selected_mode(bound);
    check_lists(ready, p);
    auto const run = [&](auto const& mode) {
      forward_on<E>(mode, p, q, plain_keys<E>{k, v}, out, lse, assignment, rest_of(memory, cursor));
    };
    if constexpr (requires { ready.as_simplest(run); })
      ready.as_simplest(run);
    else
      run(ready);
  }

  /// The checked problem of new queries q (batch, few, query_heads, head_dim) against a cache.
  template <class T>
  problem shape(heads_view<T> const& q, paged_cache<std::remove_const_t<T>> const& cache, options const& o = {}) const {
    using E = element_of<T>;
    return make_problem<E>(heads_view<E const>(q), cache, o, Backend::on_host);
  }

  /// Bytes that decode needs for any routing and any lengths. By the host-visible shapes alone.
  std::size_t decode_bytes(problem const& p) const {
    std::size_t bytes = 0;
    if constexpr (backend_with_decode<Backend>)
      bytes = backend_.decode_bytes(p);
    else if constexpr (backend_with_scratch<Backend>)
      bytes = backend_.scratch_bytes(p);
    return bytes == 0 ? 0 : bytes + workspace_alignment;
  }

  /// New queries (batch, few, query_heads, head_dim) against a cache, routed as at prefill. The cache
  /// already holds their own keys. `options.dense_decode` sends every head to the whole cache.
  template <class T>
  void decode(heads_view<T> const& q, paged_cache<std::remove_const_t<T>> const& cache,
              heads_view<std::remove_const_t<T>> const& out, lse_view const& lse,
              const_assignment_view const& assignment, workspace memory, options const& o = {}) const {
    using E = element_of<T>;
    problem const p = shape(q, cache, o);
    check_outputs<E>(p, q, out, lse);
    check_outputs_apart(out, lse, "cache.k_pages", cache.k_pages);
    check_outputs_apart(out, lse, "cache.v_pages", cache.v_pages);
    check_outputs_apart(out, lse, "cache.table", cache.table);
    check_outputs_apart(out, lse, "cache.k_lengths", cache.k_lengths);
    check_outputs_apart(out, lse, "assignment", assignment);
    check_outputs_apart(out, lse, "workspace", detail::view_of(memory));
    check_routes(p, assignment);
    check_workspace(memory, decode_bytes(p), "decode_bytes");
    with_decode_mode(o, [&](auto const& mode) {
      check_mode(mode, p);
      decode_with<E>(mode, p, q, cache, out, lse, assignment, memory);
    });
  }

  /// Marks the pages absent in `table` (which the cache names) whose keys no query to come will see, and
  /// says which they were. The newest `pending` keys' queries are still to come. Reads lengths, table and
  /// assignment once, and so waits for the stream. Call it again as the cache grows.
  template <class T>
  handed_back hand_back(paged_cache<T> const& cache, page_table const& table, const_assignment_view const& assignment,
                        options const& o = {}, int pending = 1) const {
    require(pending >= 0, "pending", pending, "0 or more keys");
    std::int64_t const kv_heads = maximum(cache.table.extents[1], std::int64_t{1});
    require(assignment.extents[0] == cache.table.extents[0] && assignment.extents[1] > 0 &&
                assignment.extents[1] % kv_heads == 0,
            "assignment", detail::shape_of(assignment),
            "(batch, query_heads) of the cache's " + std::to_string(cache.table.extents[0]) + " sequences and " +
                std::to_string(cache.table.extents[1]) + " KV heads");
    heads_view<T const> const none(nullptr,
                                   {cache.k_lengths.extents[0], 0, assignment.extents[1], cache.k_pages.extents[2]});
    check_assignment_shape(shape(none, cache, o), assignment);
    detail::check_view("table", table);
    detail::check_distinct("table", table);
    bool fits = true;
    for (int i = 0; i < 3; ++i) fits &= table.extents[i] == cache.table.extents[i];
    require(fits, "table", detail::shape_of(table), detail::shape_of(cache.table) + " as the cache's");
    paged_cache<T> read = cache;  // pages stay where they are, the rest is read
    auto const lengths = readable_on(backend_, cache.k_lengths, o.stream);
    auto const named = readable_on(backend_, strided_view<std::int32_t const, 3>(table), o.stream);
    auto const routed = readable_on(backend_, assignment, o.stream);
    read.k_lengths = lengths.view;
    read.table = named.view;
    problem p = make_problem<T>(none, read, o);
    p.q_len = 1;
    check_assignment(p, routed.view, routes<Mode>);
    handed_back result;
    with_decode_mode(o, [&](auto const& mode) {
      check_mode(mode, p);
      result = detail::hand_back_pages(mode, p, cache, named.view, routed.view, pending,
                                       [&](int b, int h, key_range gone) { mark_absent(table, b, h, gone, o.stream); });
    });
    return result;
  }

  /// What the backend's memory holds for select and forward, read and checked as the host's is: cu_seqlens,
  /// assignment, and the lists that select left in `memory`. Waits for the stream.
  template <class T>
  void validate(heads_view<T> const& q, heads_view<T> const& k, const_assignment_view const& assignment,
                workspace memory, options const& o = {}) const {
    problem p = shape(q, k, o);
    check_assignment_shape(p, assignment);
    auto const starts_q = readable_starts(o.cu_seqlens_q, o), starts_k = readable_starts(o.cu_seqlens_k, o);
    if (p.packed()) {
      detail::validate_starts("options.cu_seqlens_q", starts_q.view, q.extents[1], "options.max_q_len", p.q_len);
      detail::validate_starts("options.cu_seqlens_k", starts_k.view, k.extents[1], "options.max_k_len", p.k_len);
    }
    check_assignment(p, readable_on(backend_, assignment, o.stream).view, routes<Mode>);
    workspace_cursor cursor = start(p, memory);
    auto const bound = bind_storage(mode_, p, cursor);
    check_sources(bound, select_inputs<std::remove_const_t<T>>{q, k, p, assignment});
    selected const ready = selected_mode(bound);
    if (p.packed()) p.cu_seqlens_q = starts_q.view.data, p.cu_seqlens_k = starts_k.view.data;
    zip_leaves(ready, ready,
               [&](auto const& leaf, auto const&, int) { detail::validate_lists(backend_, leaf, p, o.stream); });
  }

  /// The same for decode: lengths, assignment, and that every page that the queries visit is there.
  template <class T>
  void validate(heads_view<T> const& q, paged_cache<std::remove_const_t<T>> const& cache,
                const_assignment_view const& assignment, options const& o = {}) const {
    using E = element_of<T>;
    check_assignment_shape(shape(q, cache, o), assignment);
    paged_cache<E> read = cache;
    auto const lengths = readable_on(backend_, cache.k_lengths, o.stream);
    auto const table = readable_on(backend_, cache.table, o.stream);
    auto const routed = readable_on(backend_, assignment, o.stream);
    read.k_lengths = lengths.view;
    read.table = table.view;
    problem const p = make_problem<E>(heads_view<E const>(q), read, o);
    check_assignment(p, routed.view, routes<Mode>);
    with_decode_mode(o, [&](auto const& mode) {
      check_mode(mode, p);
      detail::check_pages(mode, p, read, routed.view);
    });
  }

  /// All steps in one call, with its own memory. Returns the assignment (batch, query_heads), row-major.
  template <class T>
  std::vector<std::int32_t> operator()(heads_view<T> const& q, heads_view<T> const& k, heads_view<T> const& v,
                                       heads_view<std::remove_const_t<T>> const& out, lse_view const& lse = {},
                                       options const& o = {}, heads_view<T> const& k_pre_rope = {}) const
    requires(Backend::on_host)
  {
    using E = element_of<T>;
    problem const p = shape(q, k, o);
    detail::check_shape("v", v, k.extents[0], k.extents[1], k.extents[2], k.extents[3]);
    check_outputs<E>(p, q, out, lse);
    check_lists(mode_, p);  // of all rows, before the first are written
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(p.batch) * static_cast<std::size_t>(p.query_heads));
    assignment_view const assignment(chosen.data(), {p.batch, p.query_heads});
    std::vector<std::byte> memory(workspace_bytes(p));
    route(route_inputs<E>{.k_pre_rope = k_pre_rope, .q = q, .k = k, .v = v}, assignment, memory, o);
    options step = o;
    int const rows = maximum(chunk_rows(p), 1);
    for (int begin = p.q_begin; begin < p.q_end; begin += rows) {
      step.q_begin = begin;
      step.q_end = minimum(begin + rows, p.q_end);
      select(q, k, assignment, memory, step);
      forward(q, k, v, out, lse, assignment, memory, step);
    }
    return chosen;
  }

 private:
  /// Storage of every selector, then the largest scratch of any step.
  std::size_t bytes_of(problem p, int rows) const {
    p.q_end = minimum(p.q_begin + rows, p.q_end);
    workspace_cursor cursor;
    bind_storage(mode_, p, cursor);
    std::size_t scratch = 0;
    zip_leaves(mode_, mode_, [&](auto const& leaf, auto const&, int) {
      if constexpr (requires { scratch_bytes_on(backend_, leaf, p); })
        scratch = maximum(scratch, scratch_bytes_on(backend_, leaf, p));
    });
    if constexpr (backend_with_scratch<Backend>) scratch = maximum(scratch, backend_.scratch_bytes(p));
    if constexpr (requires { scratch_bytes_on(backend_, router_, p); })
      scratch = maximum(scratch, scratch_bytes_on(backend_, router_, p));
    std::size_t const bytes = cursor.used() + scratch;
    return bytes == 0 ? 0 : bytes + workspace_alignment;  // room to align the caller's pointer
  }

  workspace_cursor start(problem const& p, workspace memory) const {
    check_workspace(memory, bytes_of(p, p.q_end - p.q_begin),
                    "workspace_bytes), or fewer query rows at once (chunk_rows");
    return workspace_cursor(aligned(memory).data());
  }

  static void check_workspace(workspace memory, std::size_t needed, char const* told_by) {
    require(memory.size() >= needed, "workspace", std::to_string(memory.size()) + " bytes",
            "at least " + std::to_string(needed) + " bytes (" + told_by + ")");
    require(memory.data() != nullptr || needed == 0, "workspace", "null data",
            "data for " + std::to_string(needed) + " bytes");
  }

  /// The workspace from its first aligned byte on; empty where there is none.
  static workspace aligned(workspace memory) {
    std::size_t const past = reinterpret_cast<std::uintptr_t>(memory.data()) % workspace_alignment;
    std::size_t const skipped = past == 0 ? 0 : workspace_alignment - past;
    return skipped < memory.size() ? memory.subspan(skipped) : workspace();
  }

  static workspace rest_of(workspace memory, workspace_cursor const& cursor) {
    workspace const all = aligned(memory);
    return cursor.used() < all.size() ? all.subspan(cursor.used()) : workspace();
  }

  void check_routes(problem const& p, const_assignment_view const& assignment) const {
    if constexpr (Backend::on_host)
      check_assignment(p, assignment, routes<Mode>);
    else
      check_assignment_shape(p, assignment);
  }

  /// Lists in host memory are read before they are trusted.
  template <class M>
  static void check_lists(M const& mode, problem const& p) {
    if constexpr (Backend::on_host)
      zip_leaves(mode, mode, [&](auto const& leaf, auto const&, int) {
        if constexpr (requires { leaf.validate(p); }) leaf.validate(p);
      });
  }

  /// And so is what select wrote about the tensors that it read.
  template <class Bound, class E>
  static void check_sources(Bound const& bound, select_inputs<E> const& in) {
    if constexpr (Backend::on_host)
      zip_leaves(bound, bound, [&](auto const& storage, auto const&, int) {
        if constexpr (requires { storage.check_source(in); }) storage.check_source(in);
      });
  }

  template <class E, class M, class Source>
  void forward_on(M const& mode, problem const& p, heads_view<E const> const& q, Source const& source,
                  heads_view<E> const& out, lse_view const& lse, const_assignment_view const& assignment,
                  workspace scratch) const {
    if constexpr (backend_with_scratch<Backend>)
      backend_.template forward<M, Source, E>(mode, p, q, source, out, lse, assignment, scratch);
    else
      backend_.template forward<M, Source, E>(mode, p, q, source, out, lse, assignment);
  }

  template <class E, class M>
  void decode_with(M const& mode, problem const& p, heads_view<E const> const& q, paged_cache<E> const& cache,
                   heads_view<E> const& out, lse_view const& lse, const_assignment_view const& assignment,
                   workspace memory) const {
    if constexpr (Backend::on_host) detail::check_pages(mode, p, cache, assignment);
    workspace const scratch = rest_of(memory, {});
    if constexpr (backend_with_decode<Backend>)
      backend_.template decode<M, E>(mode, p, q, cache, out, lse, assignment, scratch);
    else
      forward_on<E>(mode, p, q, cache, out, lse, assignment, scratch);
  }

  template <class F>
  void with_decode_mode(options const& o, F&& f) const {
    if (o.dense_decode)
      f(dense_mode(mode_));
    else
      f(decode_mode(mode_));
  }

  auto readable_starts(std::span<std::int32_t const> starts, options const& o) const {
    return readable_on(backend_, detail::view_of(starts), o.stream);
  }

  void mark_absent(page_table const& table, int batch, int kv_head, key_range pages, void* stream) const {
    if constexpr (Backend::on_host)
      for (int i = pages.begin; i < pages.end; ++i) table(batch, kv_head, i) = absent_page;
    else
      backend_.fill_absent(&table(batch, kv_head, pages.begin), table.strides[2], pages.size(), stream);
  }

  Mode mode_;
  Router router_;
  Backend backend_;
};

template <class Mode>
attention(Mode) -> attention<Mode>;
template <class Mode, class Router>
attention(Mode, Router) -> attention<Mode, Router>;
template <class Mode, class Router, class Backend>
attention(Mode, Router, Backend) -> attention<Mode, Router, Backend>;

}  // namespace elastic
