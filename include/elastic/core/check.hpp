// From tensors and options to a checked problem: every mistake that the host can see is refused here,
// before anything is written.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <thread>

#include <elastic/core/error.hpp>
#include <elastic/core/problem.hpp>
#include <elastic/core/sequence.hpp>
#include <elastic/core/view.hpp>
#include <elastic/modes/tiles.hpp>
#include <elastic/routers/router.hpp>

namespace elastic {

/// Longest sequence: positions, windows and their sums stay inside an int.
inline constexpr std::int64_t longest_sequence = (std::int64_t{1} << 29) - 1;

constexpr bool supported_head_dim(std::int64_t d) {
  return d == 32 || d == 64 || d == 96 || d == 128 || d == 192 || d == 256;
}

namespace detail {

template <class T, int Rank>
std::string shape_of(strided_view<T, Rank> const& view) {
  std::string text = "(";
  for (int i = 0; i < Rank; ++i) text += (i > 0 ? ", " : "") + std::to_string(view.extents[i]);
  return text + ")";
}

inline std::string shape_of(std::initializer_list<std::int64_t> extents) {
  std::string text = "(";
  for (std::int64_t n : extents) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + ")";
}

/// Extents in range, data where there are elements, aligned for them, strides that keep every offset inside 64 bits.
template <class T, int Rank>
void check_view(char const* name, strided_view<T, Rank> const& view) {
  std::int64_t most = 0;
  for (int i = 0; i < Rank; ++i) {
    require(view.extents[i] >= 0 && view.extents[i] <= longest_sequence, name, shape_of(view),
            "extents of 0 to 2^29 - 1");
    std::int64_t reach = 0;
    bool const overflows =
        __builtin_mul_overflow(view.strides[i], maximum(view.extents[i] - 1, std::int64_t{0}), &reach) ||
        reach == std::numeric_limits<std::int64_t>::min() || __builtin_add_overflow(most, std::abs(reach), &most) ||
        most > (std::int64_t{1} << 61);
    require(!overflows, name, "strides whose offsets overflow", "offsets below 2^61 elements");
  }
  bool empty = false;
  for (std::int64_t n : view.extents) empty |= n == 0;
  require(view.data != nullptr || empty, name, "null data", "data for " + shape_of(view));
  std::uintptr_t const past = reinterpret_cast<std::uintptr_t>(view.data) % alignof(T);
  require(past == 0 || empty, name, "data " + std::to_string(past) + " bytes past an aligned address",
          "data aligned to " + std::to_string(alignof(T)) + " bytes");
}

template <class T>
void check_heads(char const* name, heads_view<T> const& view) {
  check_view(name, view);
  require(view.extents[3] <= 1 || view.strides[3] == 1, name, view.strides[3], "a head_dim stride of 1");
}

/// The dimension by which two indices of a checked view name one element, or −1. Dimensions may come in any order,
/// with padding, backwards; but sorted by their strides, each has to step over all of those before it.
template <class T, int Rank>
int overlapping_dimension(strided_view<T, Rank> const& view) {
  if (view.size() == 0) return -1;
  int order[Rank];
  std::int64_t steps[Rank];  // of a single element any stride will do
  for (int i = 0; i < Rank; ++i) {
    order[i] = i;
    steps[i] = view.extents[i] > 1 ? std::abs(view.strides[i]) : 0;
  }
  std::sort(order, order + Rank, [&](int a, int b) { return steps[a] < steps[b]; });
  std::int64_t reach = 0;  // from the first element to the last, over the dimensions so far
  for (int i : order) {
    if (view.extents[i] == 1) continue;
    if (steps[i] <= reach) return i;
    reach += steps[i] * (view.extents[i] - 1);
  }
  return -1;
}

/// What is written to, a checked view: no two indices name one element.
template <class T, int Rank>
void check_distinct(char const* name, strided_view<T, Rank> const& view) {
  int const i = overlapping_dimension(view);
  require(i < 0, name, "a stride of " + std::to_string(view.strides[maximum(i, 0)]), "elements that do not overlap");
}

/// Bytes [begin, end) that a checked view lies in, and whether its elements fill them.
struct view_range {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  bool filled = false;

  template <class T, int Rank>
  explicit view_range(strided_view<T, Rank> const& view) {
    if (view.size() == 0) return;
    std::int64_t low = 0, high = 1;
    for (int i = 0; i < Rank; ++i) {
      std::int64_t const reach = view.strides[i] * (view.extents[i] - 1);
      (reach < 0 ? low : high) += reach;
    }
    std::uintptr_t const at = reinterpret_cast<std::uintptr_t>(view.data);
    begin = at + static_cast<std::uintptr_t>(low) * sizeof(T);
    end = at + static_cast<std::uintptr_t>(high) * sizeof(T);
    filled = view.size() == high - low && overlapping_dimension(view) < 0;
  }
};

/// What is written shares no memory with what is read. Views with gaps may lie in each other's: those are let through.
template <class T, int Rank, class U, int OtherRank>
void check_apart(char const* name, strided_view<T, Rank> const& written, char const* other,
                 strided_view<U, OtherRank> const& read) {
  view_range const a(written), b(read);
  require(!a.filled || !b.filled || a.end <= b.begin || b.end <= a.begin, name, std::string("memory of ") + other,
          "memory of its own");
}

template <class T>
void check_shape(char const* name, heads_view<T> const& view, std::int64_t batch, std::int64_t seq, std::int64_t heads,
                 std::int64_t head_dim) {
  check_heads(name, view);
  bool const fits =
      view.extents[0] == batch && view.extents[1] == seq && view.extents[2] == heads && view.extents[3] == head_dim;
  require(fits, name, shape_of(view), shape_of({batch, seq, heads, head_dim}));
}

template <class T>
strided_view<T, 1> view_of(std::span<T> values) {
  return {values.data(), {static_cast<std::int64_t>(values.size())}};
}

/// What the host sees of row offsets, wherever they lie.
inline void check_starts(char const* name, std::span<std::int32_t const> starts) {
  require(starts.size() >= 2, name, starts.size(), "sequences + 1 row offsets");
  check_view(name, view_of(starts));
}

/// The longest sequence of ascending row offsets that start at 0 and end at `rows`.
inline int check_cu_seqlens(char const* name, std::span<std::int32_t const> starts, std::int64_t rows) {
  check_starts(name, starts);
  require(starts.front() == 0, name, starts.front(), "offsets that start at 0");
  int longest = 0;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    if (starts[i] < starts[i - 1])
      throw error(name, std::to_string(starts[i]) + " after " + std::to_string(starts[i - 1]),
                  "offsets that do not descend");
    longest = maximum(longest, starts[i] - starts[i - 1]);
  }
  require(starts.back() == rows, name, starts.back(),
          "offsets that end at the tensor's " + std::to_string(rows) + " rows");
  return longest;
}

/// The longest of packed sequences: read where the host can, else as the options say.
inline int longest_of(char const* name, std::span<std::int32_t const> starts, std::int64_t rows, char const* most_name,
                      int most, bool on_host) {
  if (on_host) return check_cu_seqlens(name, starts, rows);
  check_starts(name, starts);
  require(most >= 0 && most <= rows, most_name, most, "a length up to the tensor's " + std::to_string(rows) + " rows");
  return most;
}

/// The rows [begin, end) of every sequence, −1 being its end, of a tensor of `batch` × `rows` rows that is packed
/// where offsets are given.
struct row_ranges {
  std::int32_t const* starts = nullptr;  // of packed sequences, or null
  int sequences = 0;
  int rows = 0;
  int first = 0;
  int last = -1;

  row_ranges(char const* name, std::int64_t batch, std::int64_t all_rows, std::span<std::int32_t const> cu_seqlens,
             int begin, int end)
      : sequences(static_cast<int>(batch)), rows(static_cast<int>(all_rows)), first(begin), last(end) {
    require(begin >= 0 && end >= -1 && (end == -1 || begin <= end), "begin, end",
            std::to_string(begin) + ", " + std::to_string(end),
            "a range of rows, its end -1 or no less than its begin");
    if (cu_seqlens.empty()) return;
    require(batch == 1, (std::string(name) + " batch").c_str(), batch, "1 where sequences are packed");
    check_cu_seqlens("cu_seqlens_q", cu_seqlens, all_rows);
    starts = cu_seqlens.data();
    sequences = static_cast<int>(cu_seqlens.size()) - 1;
  }

  /// One past the last row of a sequence.
  int end(int sequence) const {
    int const length = starts != nullptr ? starts[sequence + 1] - starts[sequence] : rows;
    return last < 0 ? length : minimum(last, length);
  }
};

inline void check_heads_divide(std::int64_t query_heads, std::int64_t kv_heads) {
  require(query_heads >= 1, "q heads", query_heads, "at least one query head");
  require(kv_heads >= 1 && query_heads % kv_heads == 0, "k heads", kv_heads,
          "a divisor of the " + std::to_string(query_heads) + " query heads");
}

inline void apply_options(problem& p, options const& o) {
  p.causal = o.causal;
  p.layer = o.layer;
  p.stream = o.stream;
  require(std::int64_t{p.batch} * p.query_heads <= longest_sequence, "q heads",
          std::to_string(p.batch) + " sequences of " + std::to_string(p.query_heads), "2^29 - 1 in all at most");
  require(o.layer >= 0, "options.layer", o.layer, "0 or more");
  require(o.threads >= 0 && o.threads <= 4096, "options.threads", o.threads, "0 (every core) to 4096");
  p.threads = o.threads > 0 ? o.threads : maximum(1, static_cast<int>(std::thread::hardware_concurrency()));
  p.softmax_scale = o.softmax_scale ? *o.softmax_scale : 1.f / std::sqrt(static_cast<float>(maximum(p.head_dim, 1)));
  require(std::isfinite(p.softmax_scale), "options.softmax_scale", p.softmax_scale, "a finite number");
  p.q_begin = o.q_begin;
  p.q_end = o.q_end == -1 ? p.q_len : o.q_end;
  require(p.q_begin >= 0 && p.q_begin <= p.q_end && p.q_end <= p.q_len, "options.q_begin, q_end",
          std::to_string(o.q_begin) + ", " + std::to_string(o.q_end), "a range of the query rows");
  require(p.q_begin % chunk_alignment == 0 && (p.q_end % chunk_alignment == 0 || p.q_end == p.q_len),
          "options.q_begin, q_end", std::to_string(o.q_begin) + ", " + std::to_string(o.q_end),
          "multiples of " + std::to_string(chunk_alignment) + ", or the end");
}

}  // namespace detail

/// The problem of q against k; `on_host`: can cu_seqlens be read? Throws elastic::error.
template <class T>
problem make_problem(heads_view<T const> const& q, heads_view<T const> const& k, options const& o = {},
                     bool on_host = true) {
  detail::check_heads("q", q);
  detail::check_heads("k", k);
  problem p;
  p.head_dim = static_cast<int>(q.extents[3]);
  require(supported_head_dim(q.extents[3]), "q head_dim", q.extents[3], "32, 64, 96, 128, 192 or 256");
  require(k.extents[3] == q.extents[3], "k head_dim", k.extents[3], std::to_string(q.extents[3]) + " as in q");
  detail::check_heads_divide(q.extents[2], k.extents[2]);
  p.query_heads = static_cast<int>(q.extents[2]);
  p.kv_heads = static_cast<int>(k.extents[2]);
  require(k.extents[0] == q.extents[0], "k batch", k.extents[0], std::to_string(q.extents[0]) + " as in q");
  require(o.cu_seqlens_q.empty() == o.cu_seqlens_k.empty(), "options.cu_seqlens_q, cu_seqlens_k",
          "one without the other", "both, or none");
  if (o.cu_seqlens_q.empty()) {
    p.batch = static_cast<int>(q.extents[0]);
    p.q_len = static_cast<int>(q.extents[1]);
    p.k_len = static_cast<int>(k.extents[1]);
  } else {
    require(q.extents[0] == 1, "q batch", q.extents[0], "1 where sequences are packed");
    require(o.cu_seqlens_q.size() == o.cu_seqlens_k.size(), "options.cu_seqlens_k", o.cu_seqlens_k.size(),
            std::to_string(o.cu_seqlens_q.size()) + " offsets as in cu_seqlens_q");
    p.q_len = detail::longest_of("options.cu_seqlens_q", o.cu_seqlens_q, q.extents[1], "options.max_q_len", o.max_q_len,
                                 on_host);
    p.k_len = detail::longest_of("options.cu_seqlens_k", o.cu_seqlens_k, k.extents[1], "options.max_k_len", o.max_k_len,
                                 on_host);
    p.batch = static_cast<int>(o.cu_seqlens_q.size()) - 1;
    p.cu_seqlens_q = o.cu_seqlens_q.data();
    p.cu_seqlens_k = o.cu_seqlens_k.data();
  }
  detail::apply_options(p, o);
  return p;
}

/// The problem of new queries q against a paged cache; `on_host`: can its lengths be read? Where they cannot,
/// k_len is all that the table has room for, or options.max_k_len. Throws elastic::error.
template <class T>
problem make_problem(heads_view<T const> const& q, paged_cache<T> const& cache, options const& o = {},
                     bool on_host = true) {
  detail::check_heads("q", q);
  detail::check_view("cache.k_pages", cache.k_pages);
  detail::check_view("cache.v_pages", cache.v_pages);
  detail::check_view("cache.table", cache.table);
  detail::check_view("cache.k_lengths", cache.k_lengths);
  problem p;
  p.batch = static_cast<int>(q.extents[0]);
  p.q_len = static_cast<int>(q.extents[1]);
  p.query_heads = static_cast<int>(q.extents[2]);
  p.kv_heads = static_cast<int>(cache.table.extents[1]);
  p.head_dim = static_cast<int>(q.extents[3]);
  require(supported_head_dim(q.extents[3]), "q head_dim", q.extents[3], "32, 64, 96, 128, 192 or 256");
  detail::check_heads_divide(q.extents[2], cache.table.extents[1]);
  require(o.cu_seqlens_q.empty() && o.cu_seqlens_k.empty(), "options.cu_seqlens_q", "packed queries",
          "queries of equal length at decode");
  for (auto const* pages : {&cache.k_pages, &cache.v_pages}) {
    char const* const name = pages == &cache.k_pages ? "cache.k_pages" : "cache.v_pages";
    require(pages->extents[2] == q.extents[3], name, detail::shape_of(*pages), "pages of q's head_dim");
    require(pages->extents[2] <= 1 || pages->strides[2] == 1, name, pages->strides[2], "a head_dim stride of 1");
    require(pages->extents[0] == cache.k_pages.extents[0] && pages->extents[1] == cache.k_pages.extents[1], name,
            detail::shape_of(*pages), detail::shape_of(cache.k_pages) + " as k_pages");
    require(pages->extents[1] >= 1, name, detail::shape_of(*pages), "pages of at least one key");
  }
  require(cache.table.extents[0] == p.batch, "cache.table", detail::shape_of(cache.table), "a row for every sequence");
  require(cache.k_lengths.extents[0] == p.batch, "cache.k_lengths", detail::shape_of(cache.k_lengths),
          "a length for every sequence");
  require(p.batch <= 1 || cache.k_lengths.strides[0] == 1, "cache.k_lengths", cache.k_lengths.strides[0],
          "a stride of 1");
  std::int64_t const room = minimum(cache.table.extents[2] * cache.run(), longest_sequence);
  for (int b = 0; on_host && b < p.batch; ++b) {
    std::int64_t const length = cache.k_lengths(b);
    require(length >= 0 && length <= room, "cache.k_lengths", length, "0 to the keys that the table has pages for");
    p.k_len = maximum(p.k_len, static_cast<int>(length));
  }
  if (!on_host) {
    require(o.max_k_len >= -1 && o.max_k_len <= room, "options.max_k_len", o.max_k_len,
            "a length up to the " + std::to_string(room) + " keys that the table has pages for, or -1");
    p.k_len = o.max_k_len >= 0 ? o.max_k_len : static_cast<int>(room);
  }
  p.k_lengths = cache.k_lengths.data;
  detail::apply_options(p, o);
  return p;
}

/// The problem as keys (batch, k_len, kv_heads, head_dim) alone tell it; −1 query heads are as many as KV
/// heads. Any head_dim. Throws elastic::error.
template <class T>
problem make_keys_problem(heads_view<T> const& keys, options const& o = {}, std::int64_t query_heads = -1,
                          char const* name = "k_pre_rope", bool on_host = true) {
  detail::check_heads(name, keys);
  problem p;
  p.batch = static_cast<int>(keys.extents[0]);
  p.kv_heads = static_cast<int>(keys.extents[2]);
  p.query_heads = query_heads < 0 ? p.kv_heads : static_cast<int>(query_heads);
  p.head_dim = static_cast<int>(keys.extents[3]);
  p.q_len = p.k_len = static_cast<int>(keys.extents[1]);
  detail::check_heads_divide(p.query_heads, p.kv_heads);
  if (!o.cu_seqlens_k.empty()) {
    require(keys.extents[0] == 1, name, detail::shape_of(keys), "a batch of 1 where sequences are packed");
    p.q_len = p.k_len = detail::longest_of("options.cu_seqlens_k", o.cu_seqlens_k, keys.extents[1], "options.max_k_len",
                                           o.max_k_len, on_host);
    p.batch = static_cast<int>(o.cu_seqlens_k.size()) - 1;
    p.cu_seqlens_q = p.cu_seqlens_k = o.cu_seqlens_k.data();
  }
  detail::apply_options(p, o);
  return p;
}

namespace detail {

/// What a router is asked about: sequences and heads from the assignment, lengths from whichever tensor
/// came. Where no keys came, kv_heads and the lengths are 0.
template <class T>
problem make_route_problem(route_inputs<T> const& in, const_assignment_view const& assignment, options const& o,
                           bool on_host = true) {
  check_view("assignment", assignment);
  check_heads("k_pre_rope", in.k_pre_rope);
  problem p;
  if (is_given(in.q) && is_given(in.k)) {
    p = make_problem<T>(in.q, in.k, o, on_host);
    if (is_given(in.v)) check_shape("v", in.v, in.k.extents[0], in.k.extents[1], in.k.extents[2], in.k.extents[3]);
    if (is_given(in.k_pre_rope))
      check_shape("k_pre_rope", in.k_pre_rope, in.k.extents[0], in.k.extents[1], in.k.extents[2], in.k.extents[3]);
  } else if (is_given(in.k_pre_rope) || is_given(in.k)) {
    bool const before_rope = is_given(in.k_pre_rope);
    p = make_keys_problem(before_rope ? in.k_pre_rope : in.k, o, assignment.extents[1],
                          before_rope ? "k_pre_rope" : "k", on_host);
  } else {
    p.batch = static_cast<int>(assignment.extents[0]);
    p.query_heads = static_cast<int>(assignment.extents[1]);
    p.kv_heads = 0;
    apply_options(p, o);
  }
  require(assignment.extents[0] == p.batch && assignment.extents[1] == p.query_heads, "assignment",
          shape_of(assignment), shape_of({p.batch, p.query_heads}));
  return p;
}

/// Every page that the mode's tiles visit is there. For tables in host memory.
template <class M, class T>
void check_pages(M const& mode, problem const& p, paged_cache<T> const& cache,
                 const_assignment_view const& assignment) {
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, assignment(b, h));
      if (w.q_len == 0) continue;
      auto const tiles = tiles_of(mode, w, 0, {w.q_len, cache.run()});
      for (int i = 0; i < tiles.count; ++i) {
        int const page = cache.table(b, w.kv_head, tiles[i].index);
        require(page >= 0 && page < cache.k_pages.extents[0], "cache.table", page,
                "a page of the cache, for every page that a head visits");
      }
    }
}

}  // namespace detail

/// Output and LSE of a problem. An absent lse is an empty view.
template <class T>
void check_outputs(problem const& p, heads_view<T const> const& q, heads_view<T> const& out, lse_view const& lse) {
  detail::check_shape("out", out, q.extents[0], q.extents[1], q.extents[2], q.extents[3]);
  detail::check_distinct("out", out);
  detail::check_apart("out", out, "q", q);
  detail::check_view("lse", lse);
  if (!lse) return;
  detail::check_distinct("lse", lse);
  detail::check_apart("lse", lse, "q", q);
  detail::check_apart("lse", lse, "out", out);
  bool const fits = lse.extents[0] == q.extents[0] && lse.extents[1] == p.query_heads && lse.extents[2] == q.extents[1];
  require(fits, "lse", detail::shape_of(lse), detail::shape_of({q.extents[0], p.query_heads, q.extents[1]}));
}

/// Outputs share no memory with what is read: tensors, or pages.
template <class T, class U, int Rank>
void check_outputs_apart(heads_view<T> const& out, lse_view const& lse, char const* name,
                         strided_view<U, Rank> const& read) {
  detail::check_apart("out", out, name, read);
  detail::check_apart("lse", lse, name, read);
}

inline void check_assignment_shape(problem const& p, const_assignment_view const& assignment) {
  detail::check_view("assignment", assignment);
  require(assignment.extents[0] == p.batch && assignment.extents[1] == p.query_heads, "assignment",
          detail::shape_of(assignment), detail::shape_of({p.batch, p.query_heads}));
}

/// For assignments in host memory.
inline void check_assignment(problem const& p, const_assignment_view const& assignment, int routes) {
  check_assignment_shape(p, assignment);
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h)
      require(assignment(b, h) >= 0 && assignment(b, h) < routes, "assignment", assignment(b, h),
              "routes 0 to " + std::to_string(routes - 1));
}

}  // namespace elastic
