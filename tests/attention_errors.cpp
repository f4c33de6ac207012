// Bad input: every entry point refuses it with an error that names the argument, what came and what was
// expected, and leaves the outputs as they were.
#include <elastic/attention.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "support/lists.hpp"
#include "support/random_problem.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

/// A selector that needs memory and does nothing, to have a workspace to refuse.
struct idle_selector {
  struct storage {
    std::byte* bytes;
    full selected() const { return {}; }
  };
  storage bind(problem const&, workspace_cursor& cursor) const { return {cursor.take<std::byte>(1000)}; }
  void check(problem const&) const {}
};
static_assert(selector<idle_selector>);
void select_on(cpu const&, idle_selector const&, idle_selector::storage const&, select_inputs<float> const&,
               workspace) {}

/// A selector whose memory fits the limit for one chunk of rows alone.
struct chunked_selector : idle_selector {
  storage bind(problem const& p, workspace_cursor& cursor) const {
    return {cursor.take<std::byte>(p.q_end - p.q_begin > chunk_alignment ? std::int64_t{3} << 30 : 1)};
  }
};
static_assert(selector<chunked_selector>);

/// A selector that needs no memory, and says how much scratch it was given.
struct scratch_asker {
  static inline std::size_t seen = 0;
  struct storage {
    full selected() const { return {}; }
  };
  storage bind(problem const&, workspace_cursor&) const { return {}; }
  void check(problem const&) const {}
};
void select_on(cpu const&, scratch_asker const&, scratch_asker::storage const&, select_inputs<float> const&,
               workspace scratch) {
  scratch_asker::seen = scratch.size();
}

/// A valid call with everything in it, to be spoiled in one place.
template <class M>
struct call {
  attention<M> attend;
  strided_tensor<float, 4> q, k, v, out;
  strided_tensor<float, 3> lse;
  std::vector<std::int32_t> routes;
  assignment_view assignment;
  std::vector<std::int32_t> starts_q{0, 2, 6}, starts_k{0, 3, 7};
  std::vector<std::byte> memory;
  workspace space;
  options o;
  route_inputs<float> inputs;

  // A cache of 4 pages of 4 keys: 7 keys of each of 2 sequences and 1 KV head.
  std::vector<float> pages = std::vector<float>(4 * 4 * 32, 0.5f);
  std::vector<std::int32_t> table{3, 1, 0, 2}, lengths{7, 7};
  paged_cache<float> cache;

  explicit call(M mode = {}, bool packed = false) : attend(mode) {
    dice r(1);
    auto const dense = [&](int batch, int rows, int heads) {
      strided_tensor<float, 4> t;
      t.memory.assign(static_cast<std::size_t>(batch * rows * heads * 32), 0.f);
      for (float& x : t.memory) x = r.normal();
      t.view = {t.memory.data(), {batch, rows, heads, 32}};
      return t;
    };
    int const batch = packed ? 1 : 2;
    q = dense(batch, 6, 2);
    k = dense(batch, 7, 1);
    v = dense(batch, 7, 1);
    out = dense(batch, 6, 2);
    out.memory.assign(out.memory.size(), poison<float>());
    lse.memory.assign(static_cast<std::size_t>(batch * 2 * 6), poison<float>());
    lse.view = {lse.memory.data(), {batch, 2, 6}};
    routes.assign(4, 0);
    assignment = {routes.data(), {2, 2}};
    memory.resize(4096);
    space = memory;
    if (packed) {
      o.cu_seqlens_q = starts_q;
      o.cu_seqlens_k = starts_k;
    }
    inputs = {.k_pre_rope = k.view, .q = q.view, .k = k.view, .v = v.view};
    strided_view<float const, 3> const pool(pages.data(), {4, 4, 32});
    cache = {pool, pool, {table.data(), {2, 1, 2}}, {lengths.data(), {2}}};
  }

  void run(char const* entry) {
    std::string const name = entry;
    if (name == "shape") attend.shape(q.view, k.view, o);
    if (name == "route") attend.route(inputs, assignment, space, o);
    if (name == "select") attend.select(q.view, k.view, assignment, space, o);
    if (name == "forward") attend.forward(q.view, k.view, v.view, out.view, lse.view, assignment, space, o);
    if (name == "decode") attend.decode(q.view, cache, out.view, lse.view, assignment, space, o);
    if (name == "call") attend(q.view, k.view, v.view, out.view, lse.view, o, k.view);
  }
};

/// Spoils a valid call and expects every one of the entries to refuse it with these words.
template <class M>
void refused(std::initializer_list<char const*> entries, char const* words, std::function<void(call<M>&)> const& spoil,
             M const& mode = {}, bool packed = false) {
  for (char const* entry : entries) {
    INFO(entry << ", expected: " << words);
    call<M> fine(mode, packed);
    REQUIRE_NOTHROW(fine.run(entry));
    call<M> x(mode, packed);
    spoil(x);
    auto const routes = x.routes;
    try {
      x.run(entry);
      FAIL_CHECK("was not refused");
    } catch (error const& thrown) {
      std::string const text = thrown.what();
      CHECK_MESSAGE(text.find(words) != text.npos, text);
      CHECK(!thrown.argument().empty());
      CHECK(!thrown.given().empty());
      CHECK(!thrown.expected().empty());
    } catch (std::exception const& thrown) {
      FAIL_CHECK("another exception: " << thrown.what());
    }
    for (float value : x.out.memory) REQUIRE(poisoned(value));
    for (float value : x.lse.memory) REQUIRE(poisoned(value));
    CHECK(x.routes == routes);
  }
}

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN(),
                infinite = std::numeric_limits<float>::infinity();
constexpr std::int64_t huge = std::int64_t{1} << 40;

}  // namespace

using plain = call<full>;
using selecting = call<idle_selector>;

TEST_CASE("shapes that do not belong together") {
  refused<idle_selector>({"shape", "select", "forward", "call"}, "k head_dim: got 64, expected 32 as in q",
                         [](selecting& x) { x.k.view.extents[3] = 64; });
  refused<idle_selector>({"shape", "select", "forward", "call"}, "k batch: got 1, expected 2 as in q",
                         [](selecting& x) { x.k.view.extents[0] = 1; });
  refused<full>({"forward", "call"}, "v: got (2, 6, 1, 32), expected (2, 7, 1, 32)",
                [](plain& x) { x.v.view.extents[1] = 6; });
  refused<full>({"forward", "call"}, "v: got (2, 7, 2, 32)", [](plain& x) { x.v.view.extents[2] = 2; });
  refused<full>({"forward", "decode", "call"}, "out: got (2, 5, 2, 32), expected (2, 6, 2, 32)",
                [](plain& x) { x.out.view.extents[1] = 5; });
  refused<full>({"forward", "decode", "call"}, "out: got (2, 6, 2, 16)", [](plain& x) { x.out.view.extents[3] = 16; });
  refused<full>({"forward", "decode", "call"}, "lse: got (2, 6, 2), expected (2, 2, 6)",
                [](plain& x) { x.lse.view = {x.lse.memory.data(), {2, 6, 2}}; });
  refused<idle_selector>({"route", "select", "forward", "decode"}, "assignment: got (2, 1), expected (2, 2)",
                         [](selecting& x) { x.assignment.extents[1] = 1; });
  refused<idle_selector>({"route", "select", "forward", "decode"}, "assignment: got (1, 2)",
                         [](selecting& x) { x.assignment.extents[0] = 1; });
  refused<full>({"route"}, "v: got (2, 7, 1, 16)", [](plain& x) { x.inputs.v.extents[3] = 16; });
  refused<full>({"route"}, "k_pre_rope: got (2, 7, 2, 32)", [](plain& x) { x.inputs.k_pre_rope.extents[2] = 2; });
}

TEST_CASE("heads that do not divide, head dims that no backend has") {
  refused<idle_selector>({"shape", "select", "forward", "call"},
                         "k heads: got 3, expected a divisor of the 2 query heads",
                         [](selecting& x) { x.k.view.extents[2] = 3; });
  refused<idle_selector>({"shape", "select", "forward", "call"}, "k heads: got 0",
                         [](selecting& x) { x.k.view.extents[2] = 0; });
  refused<full>({"shape", "forward", "decode", "call"}, "q heads: got 0, expected at least one",
                [](plain& x) { x.q.view.extents[2] = 0; });
  refused<full>({"shape", "forward", "decode", "call"}, "q head_dim: got 31, expected 32, 64, 96, 128, 192 or 256",
                [](plain& x) { x.q.view.extents[3] = 31; });
  refused<full>({"shape", "forward", "decode", "call"}, "q head_dim: got 0", [](plain& x) { x.q.view.extents[3] = 0; });
}

TEST_CASE("views without data, with impossible extents or strides") {
  refused<idle_selector>({"shape", "select", "forward", "decode", "call"},
                         "q: got null data, expected data for (2, 6, 2, 32)",
                         [](selecting& x) { x.q.view.data = nullptr; });
  refused<idle_selector>({"shape", "select", "forward", "call"}, "k: got null data",
                         [](selecting& x) { x.k.view.data = nullptr; });
  refused<full>({"forward", "call"}, "v: got null data", [](plain& x) { x.v.view.data = nullptr; });
  refused<full>({"forward", "decode", "call"}, "out: got null data", [](plain& x) { x.out.view.data = nullptr; });
  refused<idle_selector>({"route", "select", "forward", "decode"}, "assignment: got null data",
                         [](selecting& x) { x.assignment.data = nullptr; });
  refused<full>({"shape", "forward", "decode", "call"}, "q: got (2, -1, 2, 32), expected extents of 0 to 2^29 - 1",
                [](plain& x) { x.q.view.extents[1] = -1; });
  refused<full>({"shape", "forward", "call"}, "k: got (2, 1099511627776, 1, 32)",
                [](plain& x) { x.k.view.extents[1] = huge; });
  refused<full>({"shape", "forward", "decode", "call"}, "q: got (536870912, ",
                [](plain& x) { x.q.view.extents[0] = 1 << 29; });
  refused<full>({"shape", "forward", "decode", "call"}, "q: got strides whose offsets overflow",
                [](plain& x) { x.q.view.strides[1] = std::numeric_limits<std::int64_t>::max(); });
  refused<full>({"shape", "forward", "call"}, "k: got strides whose offsets overflow",
                [](plain& x) { x.k.view.strides[1] = std::numeric_limits<std::int64_t>::min(); });
  refused<full>({"forward", "call"}, "v: got strides whose offsets overflow",
                [](plain& x) { x.v.view.strides[0] = huge << 22; });
  refused<full>({"forward", "decode", "call"}, "lse: got strides whose offsets overflow",
                [](plain& x) { x.lse.view.strides[0] = huge << 22; });
  refused<full>({"shape", "forward", "decode", "call"}, "q: got 2, expected a head_dim stride of 1",
                [](plain& x) { x.q.view.strides[3] = 2; });
  refused<full>({"forward", "decode", "call"}, "out: got 0, expected a head_dim stride of 1",
                [](plain& x) { x.out.view.strides[3] = 0; });
  refused<full>({"forward", "decode", "call"}, "out: got a stride of 0, expected elements that do not overlap",
                [](plain& x) { x.out.view.strides[1] = 0; });
  refused<full>({"forward", "decode", "call"}, "lse: got a stride of 0", [](plain& x) { x.lse.view.strides[0] = 0; });
  refused<full>({"route"}, "k_pre_rope: got 5, expected a head_dim stride of 1",
                [](plain& x) { x.inputs.k_pre_rope.strides[3] = 5; });
}

TEST_CASE("packed sequences whose offsets make no sense") {
  auto const packed = [](std::initializer_list<char const*> entries, char const* words, auto&& spoil) {
    refused<idle_selector>(entries, words, spoil, {}, true);
  };
  std::initializer_list<char const*> const all = {"shape", "route", "select", "forward", "call"};
  packed(all, "options.cu_seqlens_q: got 1, expected offsets that start at 0", [](selecting& x) { x.starts_q[0] = 1; });
  packed(all, "options.cu_seqlens_k: got -1, expected offsets that start at 0",
         [](selecting& x) { x.starts_k[0] = -1; });
  packed(all, "options.cu_seqlens_q: got 6 after 7, expected offsets that do not descend",
         [](selecting& x) { x.starts_q[1] = 7; });
  packed(all, "options.cu_seqlens_k: got -2 after 0", [](selecting& x) { x.starts_k[1] = -2; });
  packed(all, "options.cu_seqlens_q: got 5, expected offsets that end at the tensor's 6 rows",
         [](selecting& x) { x.starts_q[2] = 5; });
  packed(all, "options.cu_seqlens_k: got 2147483647, expected offsets that end",
         [](selecting& x) { x.starts_k[2] = std::numeric_limits<std::int32_t>::max(); });
  packed(all, "options.cu_seqlens_k: got 2, expected 3 offsets as in cu_seqlens_q",
         [](selecting& x) { x.o.cu_seqlens_k = std::span(x.starts_k).first(2); });
  packed(all, "one without the other", [](selecting& x) { x.o.cu_seqlens_k = {}; });
  packed(all, "options.cu_seqlens_q: got 1, expected sequences + 1 row offsets", [](selecting& x) {
    x.o.cu_seqlens_q = std::span(x.starts_q).first(1);
    x.o.cu_seqlens_k = std::span(x.starts_k).first(1);
  });
  refused<full>({"shape", "route", "forward", "call"}, "q batch: got 2, expected 1 where sequences are packed",
                [](plain& x) {
                  x.o.cu_seqlens_q = x.starts_q;
                  x.o.cu_seqlens_k = x.starts_k;
                });
  refused<full>({"decode"}, "options.cu_seqlens_q: got packed queries",
                [](plain& x) { x.o.cu_seqlens_q = x.starts_q; });
}

TEST_CASE("options out of range") {
  std::initializer_list<char const*> const all = {"shape", "route", "select", "forward", "decode", "call"};
  auto const options_refused = [&](char const* words, auto&& spoil) {
    refused<idle_selector>(all, words, [&](selecting& x) { spoil(x.o); });
  };
  options_refused("options.softmax_scale: got nan, expected a finite number",
                  [](options& o) { o.softmax_scale = not_a_number; });
  options_refused("options.softmax_scale: got inf", [](options& o) { o.softmax_scale = infinite; });
  options_refused("options.softmax_scale: got -inf", [](options& o) { o.softmax_scale = -infinite; });
  options_refused("options.layer: got -1", [](options& o) { o.layer = -1; });
  options_refused("options.threads: got -1", [](options& o) { o.threads = -1; });
  options_refused("options.threads: got 5000", [](options& o) { o.threads = 5000; });
  options_refused("options.q_begin, q_end: got 3, -1, expected multiples of 128, or the end",
                  [](options& o) { o.q_begin = 3; });
  options_refused("options.q_begin, q_end: got 0, 5, expected multiples of 128", [](options& o) { o.q_end = 5; });
  options_refused("options.q_begin, q_end: got 0, 7, expected a range of the query rows",
                  [](options& o) { o.q_end = 7; });
  options_refused("options.q_begin, q_end: got -128, -1", [](options& o) { o.q_begin = -128; });
  options_refused("options.q_begin, q_end: got 0, -2", [](options& o) { o.q_end = -2; });
  options_refused("options.q_begin, q_end: got 128, -1", [](options& o) { o.q_begin = 128; });
}

TEST_CASE("assignments out of range") {
  using pair = hybrid<full, idle_selector>;
  for (int route : {-1, 2, std::numeric_limits<int>::max()})
    refused<pair>({"select", "forward", "decode"}, (std::to_string(route) + ", expected routes 0 to 1").c_str(),
                  [&](call<pair>& x) { x.routes[3] = route; });
  refused<full>({"forward", "decode"}, "assignment: got 1, expected routes 0 to 0", [](plain& x) { x.routes[2] = 1; });
}

TEST_CASE("a workspace that is too small") {
  refused<idle_selector>({"select", "forward"}, "workspace: got 1000 bytes, expected at least 1280 bytes",
                         [](selecting& x) { x.space = x.space.first(1000); });
  refused<idle_selector>({"select", "forward"}, "workspace: got 0 bytes", [](selecting& x) { x.space = {}; });
}

TEST_CASE("modes whose parameters do not fit the problem") {
  refused<sliding_window>({"shape", "forward", "decode", "call"}, "sliding_window.window: got 0",
                          [](call<sliding_window>& x) { x.attend = attention<sliding_window>{sliding_window{0}}; });
  refused<streaming>({"shape", "forward", "decode", "call"}, "streaming.sink: got -1",
                     [](call<streaming>& x) { x.attend = attention<streaming>{streaming{-1, 4}}; });
  using capped = scored<hybrid<full, full>, soft_cap>;
  refused<capped>({"shape", "forward", "decode", "call"}, "soft_cap.cap: got nan",
                  [](call<capped>& x) { x.attend = attention<capped>{capped{{}, {not_a_number}}}; });
  refused<triangle>({"shape", "forward", "call"}, "triangle: got attention without causality",
                    [](call<triangle>& x) { x.o.causal = false; });
}

TEST_CASE("block lists are read before they are trusted") {
  using rows = std::vector<std::vector<std::int32_t>>;
  hand_lists const fine(rows{{1, 0}}), ascending(rows{{0, 1}}), outside(rows{{2}}), negative(rows{{-3}});
  auto const lists_refused = [&](char const* words, block_sparse const& wrong) {
    refused<block_sparse>(
        {"forward", "call"}, words, [&](call<block_sparse>& x) { x.attend = attention<block_sparse>{wrong}; },
        fine.mode(128, 4, 2, 2));
  };
  lists_refused("block_sparse.entries: got 1", ascending.mode(128, 4, 2, 2));
  lists_refused("block_sparse.entries: got 2", outside.mode(128, 4, 2, 2));
  lists_refused("block_sparse.entries: got -3", negative.mode(128, 4, 2, 2));
  lists_refused("block_sparse.block_rows: got -128", fine.mode(-128, 4, 2, 2));
  lists_refused("lists for every sequence", fine.mode(128, 4, 1, 2));
  lists_refused("lists for every query head", fine.mode(128, 4, 2, 1));
  lists_refused("lists for every block of the query rows", fine.mode(4, 4, 2, 2));
}

TEST_CASE("routers that do not fit the problem") {
  auto const router_refused = [](char const* words, fixed_router const& wrong, int layer) {
    refused<full>({"route", "call"}, words, [&](plain& x) {
      x.attend = attention<full>{full{}, wrong};
      x.o.layer = layer;
    });
  };
  router_refused("fixed_router.routes: got 3, expected routes for the problem's 2 query heads",
                 fixed_router({0, 0, 0}, 3), 0);
  router_refused("options.layer: got 1, expected one of the 1 layers", fixed_router({0, 0}, 2), 1);
  router_refused("fixed_router.routes: got 1, expected 0 to 0", fixed_router({0, 1}, 2), 0);
  router_refused("fixed_router.routes: got -1", fixed_router({0, -1}, 2), 0);
  CHECK_THROWS_AS(fixed_router({0, 0, 0}, 2), error);
  CHECK_THROWS_AS(fixed_router({0, 0}, 0), error);
}

TEST_CASE("an LSE without memory is none, or has no shape") {
  refused<full>({"forward", "decode", "call"}, "lse: got null data", [](plain& x) { x.lse.view.data = nullptr; });
}

TEST_CASE("hand_back names the assignment") {
  plain x;
  std::int32_t none = 0;
  for (const_assignment_view const& given :
       {const_assignment_view{}, const_assignment_view(&none, {2, 0}), const_assignment_view(&none, {1, 2})}) {
    page_table const table(x.table.data(), {2, 1, 2});
    try {
      x.attend.hand_back(x.cache, table, given);
      FAIL_CHECK("was not refused");
    } catch (error const& thrown) {
      CHECK(thrown.argument() == "assignment");
    }
  }
}

TEST_CASE("caches that do not fit the queries") {
  auto const cache_refused = [](char const* words, auto&& spoil) {
    refused<full>({"decode"}, words, [&](plain& x) { spoil(x); });
  };
  cache_refused("cache.k_pages: got null data", [](plain& x) { x.cache.k_pages.data = nullptr; });
  cache_refused("cache.v_pages: got null data", [](plain& x) { x.cache.v_pages.data = nullptr; });
  cache_refused("cache.table: got null data", [](plain& x) { x.cache.table.data = nullptr; });
  cache_refused("cache.k_lengths: got null data", [](plain& x) { x.cache.k_lengths.data = nullptr; });
  cache_refused("cache.k_pages: got (4, 4, 16), expected pages of q's head_dim",
                [](plain& x) { x.cache.k_pages.extents[2] = 16; });
  cache_refused("cache.v_pages: got (4, 3, 32), expected (4, 4, 32) as k_pages",
                [](plain& x) { x.cache.v_pages.extents[1] = 3; });
  cache_refused("cache.k_pages: got (4, 0, 32), expected pages of at least one key",
                [](plain& x) { x.cache.k_pages.extents[1] = x.cache.v_pages.extents[1] = 0; });
  cache_refused("cache.k_pages: got 2, expected a head_dim stride of 1",
                [](plain& x) { x.cache.k_pages.strides[2] = 2; });
  cache_refused("cache.table: got (1, 1, 2), expected a row for every sequence",
                [](plain& x) { x.cache.table.extents[0] = 1; });
  cache_refused("k heads: got 3", [](plain& x) { x.cache.table.extents[1] = 3; });
  cache_refused("cache.k_lengths: got (1)", [](plain& x) { x.cache.k_lengths.extents[0] = 1; });
  cache_refused("cache.k_lengths: got 0, expected a stride of 1", [](plain& x) { x.cache.k_lengths.strides[0] = 0; });
  cache_refused("cache.k_lengths: got 9, expected 0 to", [](plain& x) { x.lengths[1] = 9; });
  cache_refused("cache.k_lengths: got -1", [](plain& x) { x.lengths[0] = -1; });
  cache_refused("cache.table: got 4, expected a page of the cache", [](plain& x) { x.table[2] = 4; });
  cache_refused("cache.table: got -1", [](plain& x) { x.table[1] = -1; });
}

TEST_CASE("empty problems are no errors") {
  for (auto extent : {0, 1}) {  // no sequences, no queries
    plain x;
    x.q.view.extents[extent] = x.out.view.extents[extent] = 0;
    if (extent == 0) x.k.view.extents[0] = x.v.view.extents[0] = x.lse.view.extents[0] = x.assignment.extents[0] = 0;
    if (extent == 1) x.lse.view.extents[2] = 0;
    x.q.view.data = nullptr;
    CHECK_NOTHROW(x.run("forward"));
    CHECK_NOTHROW(x.run("call"));
    x.out.view =
        heads_view<float>(x.out.memory.data(), {x.q.view.extents[0], x.q.view.extents[1], 2, 32});  // its strides are 0
    CHECK_NOTHROW(x.run("call"));
    for (float value : x.out.memory) REQUIRE(poisoned(value));
  }
  // An empty vector has no data; routers that look at the keys take it for what it is.
  std::vector<float> const nothing;
  std::vector<float> q(2 * 3 * 4 * 32, 1.f), out(q.size(), 7.f);
  std::vector<std::int32_t> routes(8);
  heads_view<float const> const k(nothing.data(), {2, 0, 2, 32}), some(q.data(), {2, 3, 4, 32});
  hybrid<full, streaming> const pair;
  attention{pair, ratio_router{0.5}}(some, k, k, heads_view<float>(out.data(), {2, 3, 4, 32}));
  for (float value : out) CHECK(value == 0.f);
  std::vector<std::byte> memory(1 << 20);
  attention const by_keys{pair, mlp_router{mlp_weights::untrained(32, 1)}};
  CHECK_NOTHROW(by_keys.route(k, assignment_view(routes.data(), {2, 4}), memory));
  attention const by_error{pair, oracle_router{}};
  CHECK_NOTHROW(
      by_error.route(route_inputs<float>{.q = some, .k = k, .v = k}, assignment_view(routes.data(), {2, 4}), memory));
  plain no_keys;
  no_keys.k.view.extents[1] = no_keys.v.view.extents[1] = 0;
  no_keys.k.view.data = no_keys.v.view.data = nullptr;
  no_keys.run("call");
  for (float value : no_keys.out.memory) CHECK(value == 0.f);
  for (float value : no_keys.lse.memory) CHECK(value == -infinite);
}

TEST_CASE("what is written twice, or over what is read") {
  std::initializer_list<char const*> const writers = {"forward", "decode", "call"};
  refused<full>(writers, "out: got a stride of 32, expected elements that do not overlap",
                [](plain& x) { x.out.view.strides[1] = 32; });
  refused<full>(writers, "lse: got a stride of 1, expected elements that do not overlap",
                [](plain& x) { x.lse.view.strides[1] = 1; });
  refused<full>({"route"}, "assignment: got a stride of 0", [](plain& x) { x.assignment.strides[1] = 0; });
  refused<full>(writers, "out: got memory of q, expected memory of its own",
                [](plain& x) { x.q.view = heads_view<float>(x.out.memory.data(), {2, 6, 2, 32}); });
  refused<full>({"forward", "call"}, "out: got memory of v", [](plain& x) { x.v.view.data = x.out.memory.data() + 1; });
  refused<full>({"forward", "call"}, "out: got memory of k", [](plain& x) { x.k.view.data = x.out.memory.data(); });
  refused<full>(writers, "lse: got memory of out", [](plain& x) { x.lse.view.data = x.out.memory.data() + 5; });
  refused<full>(writers, "lse: got memory of q", [](plain& x) { x.lse.view.data = x.q.memory.data(); });
  refused<full>({"forward", "call"}, "lse: got memory of k", [](plain& x) { x.lse.view.data = x.k.memory.data(); });
  refused<full>({"forward", "call"}, "lse: got memory of v", [](plain& x) { x.lse.view.data = x.v.memory.data(); });
  refused<full>({"decode"}, "lse: got memory of cache.k_pages", [](plain& x) { x.lse.view.data = x.pages.data() + 9; });
  refused<full>({"decode"}, "out: got memory of cache.v_pages", [](plain& x) {
    x.pages.assign(2000, 0.5f);
    x.cache.v_pages.data = x.pages.data();
    x.out.view.data = x.pages.data();
  });
}

TEST_CASE("what is written over what a step reads beside tensors") {
  auto const lse_at = [](plain& x, std::vector<std::int32_t>& read) {
    read.resize(static_cast<std::size_t>(x.lse.view.size()));  // so that it lies in nothing else
    x.lse.view.data = reinterpret_cast<float*>(read.data());
    x.assignment.data = x.routes.data();
    x.cache.table.data = x.table.data();
    x.cache.k_lengths.data = x.lengths.data();
    if (!x.o.cu_seqlens_q.empty()) {
      x.o.cu_seqlens_q = {x.starts_q.data(), 3};
      x.o.cu_seqlens_k = {x.starts_k.data(), 3};
    }
  };
  refused<full>({"forward", "decode"}, "lse: got memory of assignment", [&](plain& x) { lse_at(x, x.routes); });
  refused<full>({"forward", "decode"}, "out: got memory of workspace",
                [](plain& x) { x.space = std::as_writable_bytes(std::span(x.out.memory)); });
  refused<full>({"decode"}, "lse: got memory of cache.table", [&](plain& x) { lse_at(x, x.table); });
  refused<full>({"decode"}, "lse: got memory of cache.k_lengths", [&](plain& x) { lse_at(x, x.lengths); });
  for (bool const queries : {true, false})
    refused<full>(
        {"forward", "call"},
        queries ? "lse: got memory of options.cu_seqlens_q" : "lse: got memory of options.cu_seqlens_k",
        [&](plain& x) { lse_at(x, queries ? x.starts_q : x.starts_k); }, {}, true);
  refused<full>({"route"}, "assignment: got memory of k_pre_rope",
                [](plain& x) { x.assignment.data = reinterpret_cast<std::int32_t*>(x.k.memory.data()); });
  refused<full>({"route"}, "workspace: got memory of q",
                [](plain& x) { x.space = std::as_writable_bytes(std::span(x.q.memory)); });
  refused<full>({"route"}, "workspace: got memory of assignment",
                [](plain& x) { x.space = std::as_writable_bytes(std::span(x.routes)); });
  refused<idle_selector>({"select"}, "workspace: got memory of k",
                         [](selecting& x) { x.space = std::as_writable_bytes(std::span(x.k.memory)); });
}

TEST_CASE("a workspace that ends before its first aligned byte leaves no scratch memory") {
  call<scratch_asker> x;
  alignas(workspace_alignment) std::byte memory[8];
  x.space = {memory + 1, 7};
  scratch_asker::seen = 1;
  x.run("select");
  CHECK(scratch_asker::seen == 0);
}

TEST_CASE("a workspace of some size that is nowhere") {
  refused<idle_selector>({"select", "forward"}, "workspace: got null data",
                         [](selecting& x) { x.space = {static_cast<std::byte*>(nullptr), 1 << 20}; });
}

TEST_CASE("the one call reads the lists of all rows before it writes any") {
  using pair = hybrid<block_sparse, chunked_selector>;
  int const rows = 2 * chunk_alignment;
  std::vector<float> q(rows * 32, 0.1f), out(q.size(), poison<float>());
  heads_view<float const> const view(q.data(), {1, rows, 1, 32});
  std::vector<std::vector<std::int32_t>> lists(rows / 128, {0});
  lists.back() = {99};
  hand_lists const wrong(lists);
  attention const attend(pair{wrong.mode(128, 128), {}}, fixed_router{});
  REQUIRE(attend.chunk_rows(attend.shape(view, view)) == chunk_alignment);
  CHECK_THROWS_WITH_AS(attend(view, view, view, heads_view<float>(out.data(), {1, rows, 1, 32})),
                       doctest::Contains("block_sparse.entries: got 99"), error);
  for (float const x : out) REQUIRE(poisoned(x));
}

TEST_CASE("logits that leave float are no rows without keys") {
  int const rows = 40;
  std::vector<float> q(rows * 32, 1e20f), k(rows * 32), v(rows * 32, 1.f), out(q.size()), lse(rows);
  heads_view<float const> const queries(q.data(), {1, rows, 1, 32}), keys(k.data(), {1, rows, 1, 32}),
      values(v.data(), {1, rows, 1, 32});
  for (float const key : {1e20f, -1e20f}) {
    std::fill(k.begin(), k.end(), key);
    attention{full{}}(queries, keys, values, heads_view<float>(out.data(), {1, rows, 1, 32}),
                      lse_view(lse.data(), {1, 1, rows}), {.softmax_scale = 1e-40f});
    for (float const x : out) REQUIRE(std::isnan(x));
    for (float const x : lse) REQUIRE(std::isnan(x));
    // Rows that the mode leaves no key stay what they are.
    attention{predicate{[](where const&, int row, int) { return row % 2 == 0; }}}(
        queries, keys, values, heads_view<float>(out.data(), {1, rows, 1, 32}), lse_view(lse.data(), {1, 1, rows}));
    for (int i = 0; i < rows; ++i) {
      REQUIRE(std::isnan(out[static_cast<std::size_t>(i * 32)]) == (i % 2 == 0));
      REQUIRE((lse[static_cast<std::size_t>(i)] == -infinite) == (i % 2 == 1));
    }
  }
}
