// The front door: fixtures made by PyTorch, the one-call overload, chunks, decode over a paged cache.
#include <elastic/attention.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "support/golden.hpp"
#include "support/lists.hpp"
#include "support/random_problem.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

/// The scale 1/√d in the oracle's own precision; the library's is a float.
struct exact_scale {
  int head_dim = 0;
  template <class Real>
  Real operator()(where const&, Real s, int, int) const {
    return s / std::sqrt(Real(head_dim));
  }
};

/// Causality as a predicate, for fixtures whose heads differ in it.
struct past {
  bool operator()(where const& w, int q, int k) const { return k <= w.position(q); }
};

template <class T>
golden_tensor<T> converted(golden_tensor<float> const& from) {
  golden_tensor<T> to{from.shape, {}};
  for (float x : from.values) to.values.push_back(T(x));
  return to;
}

/// Judges cpu's out and lse of one dtype by the fixture instead of the oracle.
template <element T, class M>
void check_cpu(M const& mode, golden_case const& golden, std::vector<std::int32_t> const& routes, bool causal) {
  auto const q = converted<T>(golden.load<float>("q")), k = converted<T>(golden.load<float>("k")),
             v = converted<T>(golden.load<float>("v"));
  auto const o = golden.load<double>("o"), lse = golden.load<double>("lse");
  std::int64_t const batch = o.shape[0], heads = o.shape[1], rows = o.shape[2], d = o.shape[3];
  std::vector<T> out_memory(o.values.size(), poison<T>());
  std::vector<float> lse_memory(lse.values.size(), poison<float>());
  heads_view<T> out(out_memory.data(), {batch, rows, heads, d});
  std::swap(out.strides[1], out.strides[2]);  // as the fixture: (batch, heads, rows, d)
  out.strides[1] = d;
  out.strides[2] = rows * d;
  lse_view const lse_out(lse_memory.data(), {batch, heads, rows});
  const_assignment_view const assignment(routes.data(), {batch, heads});
  attention attend{mode, fixed_router{}, cpu{}};
  options options;
  options.causal = causal;
  std::vector<std::byte> memory(attend.workspace_bytes(attend.shape(q.as_heads(), k.as_heads(), options)));
  attend.forward(q.as_heads(), k.as_heads(), v.as_heads(), out, lse_out, assignment, memory, options);

  problem const p = attend.shape(q.as_heads(), k.as_heads(), options);
  plain_keys<T> const source{k.as_heads(), v.as_heads()};
  auto const naive = emit_rows<float, elastic::detail::round_to<T>>(mode, p, q.as_heads(), source, assignment);
  auto const naive_lse =
      emit_rows<float, elastic::detail::round_to<float>>(mode, p, q.as_heads(), source, assignment).lse;
  elastic::testing::detail::largest_errors of_out, of_lse;
  for (std::size_t i = 0; i < o.values.size(); ++i)
    of_out.add(static_cast<double>(static_cast<float>(out_memory[i])), naive.out[i], o.values[i]);
  for (std::size_t i = 0; i < lse.values.size(); ++i) {
    if (std::isinf(lse.values[i]))
      CHECK(lse_memory[i] == lse.values[i]);
    else
      of_lse.add(lse_memory[i], naive_lse[i], lse.values[i]);
  }
  CHECK(of_out.verdict("out", epsilon<T>) == "");
  CHECK(of_lse.verdict("lse", epsilon<float>) == "");
}

template <class M>
void check_golden(M const& mode, golden_case const& golden, std::vector<std::int32_t> const& routes, bool causal) {
  auto const q = golden.load<float>("q"), k = golden.load<float>("k"), v = golden.load<float>("v");
  auto const o = golden.load<double>("o"), lse = golden.load<double>("lse");
  options options;
  options.causal = causal;
  options.softmax_scale = 1.f;
  problem const p = make_problem<float>(q.as_heads(), k.as_heads(), options);
  const_assignment_view const assignment(routes.data(), {p.batch, p.query_heads});

  // The oracle in double, to the fixture's own accuracy.
  auto const rows =
      emit_rows<double, elastic::detail::exact>(scored<M, exact_scale>{mode, {p.head_dim}}, p, q.as_heads(),
                                                plain_keys<float>{k.as_heads(), v.as_heads()}, assignment);
  REQUIRE(rows.out.size() == o.values.size());
  double worst = 0;
  for (std::size_t i = 0; i < o.values.size(); ++i) worst = maximum(worst, std::abs(rows.out[i] - o.values[i]));
  for (std::size_t i = 0; i < lse.values.size(); ++i)
    if (rows.lse[i] != lse.values[i]) worst = maximum(worst, std::abs(rows.lse[i] - lse.values[i]));
  CHECK(worst < 1e-9);

  if (golden.has("keep")) {
    auto const kept = golden.load<std::uint8_t>("keep");
    auto const keep = kept.view<4>();
    long wrong = 0;
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, 0, h, assignment(0, h));
      for (int i = 0; i < p.q_len; ++i)
        for (int j = 0; j < p.k_len; ++j)
          wrong += (w.admits(i, j) && mode.keeps(w, i, j)) != (keep(0, keep.extents[1] == 1 ? 0 : h, i, j) == 1);
    }
    CHECK(wrong == 0);
  }
  check_cpu<float>(mode, golden, routes, causal);
  check_cpu<half>(mode, golden, routes, causal);
  check_cpu<bfloat16>(mode, golden, routes, causal);
}

}  // namespace

TEST_CASE("attention of PyTorch: outputs and log-sum-exps") {
  golden_file const fixture("attention.safetensors");
  int compared = 0;
  for (auto const& golden : fixture.cases()) {
    INFO(golden.name);
    auto const& heads = golden.parameters.at("heads");
    std::string const kind = heads[0][0];
    std::vector<std::int32_t> routes(std::size_t(golden.parameters.at("B")) * std::size_t(golden.parameters.at("Hq")),
                                     0);
    ++compared;
    if (heads.size() > 1) {  // causal, token, local and full heads in one call
      for (std::size_t i = 0; i < routes.size(); ++i) routes[i] = static_cast<std::int32_t>(i % 4);
      REQUIRE((heads.size() == 4 && kind == "causal" && heads[1][0] == "token" && heads[2][0] == "local" &&
               heads[3][0] == "full"));
      predicate<past> const causal{};
      hybrid<predicate<past>, intersection_of<predicate<past>, streaming>,
             intersection_of<predicate<past>, sliding_window>, full> const mode{
          causal, {causal, {heads[1][1], heads[1][2], granularity::token}}, {causal, {heads[2][1]}}, {}};
      check_golden(mode, golden, routes, false);
    } else if (kind == "causal" || kind == "full") {
      check_golden(full{}, golden, routes, kind == "causal");
    } else if (kind == "token") {
      check_golden(streaming{heads[0][1], heads[0][2], granularity::token}, golden, routes, true);
    } else if (kind == "block") {
      check_golden(streaming{heads[0][1], heads[0][2], granularity::block, alignment::query_block}, golden, routes,
                   true);
    } else {
      REQUIRE(kind == "bsparse");
      auto const blocks = golden.load<std::uint8_t>("block_mask");
      auto const mask = blocks.view<4>();
      std::vector<std::vector<std::int32_t>> lists(static_cast<std::size_t>(mask.extents[2]));
      for (std::size_t i = 0; i < lists.size(); ++i)
        for (auto j = static_cast<std::int32_t>(mask.extents[3]); j-- > 0;)
          if (mask(0, 0, i, j) == 1) lists[i].push_back(j);
      hand_lists const kept(lists);
      check_golden(kept.mode(128, 128), golden, routes, true);
    }
  }
  CHECK(compared == 11);
}

namespace {

/// q, k, v and outputs of one problem, dense.
struct tensors {
  int batch = 2, q_len = 300, k_len = 333, query_heads = 4, kv_heads = 2, head_dim = 32;
  std::vector<float> q_memory, k_memory, v_memory, out_memory, lse_memory;
  heads_view<float const> q, k, v;
  heads_view<float> out;
  lse_view lse;

  explicit tensors(int queries = 300, int keys = 333) : q_len(queries), k_len(keys) {
    dice r(11);
    auto const normals = [&](int rows, int heads) {
      std::vector<float> values(static_cast<std::size_t>(batch * rows * heads * head_dim));
      for (float& x : values) x = r.normal();
      return values;
    };
    q_memory = normals(q_len, query_heads);
    k_memory = normals(k_len, kv_heads);
    v_memory = normals(k_len, kv_heads);
    out_memory.assign(q_memory.size(), poison<float>());
    lse_memory.assign(static_cast<std::size_t>(batch * query_heads * q_len), poison<float>());
    q = {q_memory.data(), {batch, q_len, query_heads, head_dim}};
    k = {k_memory.data(), {batch, k_len, kv_heads, head_dim}};
    v = {v_memory.data(), {batch, k_len, kv_heads, head_dim}};
    out = {out_memory.data(), {batch, q_len, query_heads, head_dim}};
    lse = {lse_memory.data(), {batch, query_heads, q_len}};
  }
};

}  // namespace

TEST_CASE("one call does what the steps do, and returns who went where") {
  tensors x;
  attention const attend{hybrid{full{}, streaming{0, 1}}, fixed_router({0, 1, 1, 0}, 4)};
  auto const routes = attend(x.q, x.k, x.v, x.out, x.lse);
  CHECK(routes == std::vector<std::int32_t>{0, 1, 1, 0, 0, 1, 1, 0});
  auto const once = x.out_memory;
  auto const once_lse = x.lse_memory;

  std::fill(x.out_memory.begin(), x.out_memory.end(), poison<float>());
  std::vector<std::int32_t> chosen(8, -1);
  assignment_view const assignment(chosen.data(), {2, 4});
  problem const p = attend.shape(x.q, x.k);
  std::vector<std::byte> memory(attend.workspace_bytes(p));
  attend.route(x.k, assignment, memory);
  attend.select(x.q, x.k, assignment, memory);
  attend.forward(x.q, x.k, x.v, x.out, x.lse, assignment, memory);
  CHECK(chosen == routes);
  CHECK(x.out_memory == once);
  CHECK(x.lse_memory == once_lse);
  CHECK(misjudged<float>(attend.mode(), p, x.q, plain_keys<float>{x.k, x.v}, x.out, x.lse, assignment) == "");
}

TEST_CASE("both backends agree; lse and the options may be left out") {
  tensors x(40, 50), y(40, 50);
  attention const oracle{sliding_window{7}, fixed_router{}, reference{}};
  attention const attend{sliding_window{7}};
  static_assert(std::is_same_v<decltype(attend), attention<sliding_window, fixed_router, cpu> const>);
  oracle(x.q, x.k, x.v, x.out);
  attend(y.q, y.k, y.v, y.out);
  for (std::size_t i = 0; i < x.out_memory.size(); ++i)
    REQUIRE(x.out_memory[i] == doctest::Approx(y.out_memory[i]).epsilon(1e-4));
}

TEST_CASE("chunks of query rows, taken one by one, give the whole") {
  tensors x;
  attention const attend{hybrid{full{}, streaming{10, 40, granularity::token}}, fixed_router({0, 1, 0, 1}, 4)};
  auto const routes = attend(x.q, x.k, x.v, x.out, x.lse);
  auto const whole = x.out_memory;
  auto const whole_lse = x.lse_memory;
  std::fill(x.out_memory.begin(), x.out_memory.end(), poison<float>());
  std::fill(x.lse_memory.begin(), x.lse_memory.end(), poison<float>());
  const_assignment_view const assignment(routes.data(), {2, 4});
  options o;
  for (o.q_begin = 256; o.q_begin >= 0; o.q_begin -= 128) {
    o.q_end = minimum(o.q_begin + 128, 300);
    attend.forward(x.q, x.k, x.v, x.out, x.lse, assignment, {}, o);
    if (o.q_begin == 256) CHECK(poisoned(x.out(0, 255, 0, 0)));
  }
  CHECK(x.out_memory == whole);
  CHECK(x.lse_memory == whole_lse);
}

TEST_CASE("a workspace limit cuts selection into chunks, and changes nothing else") {
  auto const cut = [](auto const& mode) {
    using mode_type = std::remove_cvref_t<decltype(mode)>;
    INFO(name_of_mode<mode_type>());
    tensors x(700, 700);
    attention<mode_type, fixed_router> const attend{mode, fixed_router({0, 1, 1, 0}, 4)};
    options o;
    o.threads = 1;
    auto const routes = attend(x.q, x.k, x.v, x.out, x.lse, o);
    auto const whole = x.out_memory;
    auto const whole_lse = x.lse_memory;
    std::fill(x.out_memory.begin(), x.out_memory.end(), poison<float>());

    problem const p = attend.shape(x.q, x.k, o);
    std::size_t const limit = attend.workspace_bytes(p) * 9 / 10;  // chunks of 128 rows still have to fit
    int const rows = attend.chunk_rows(p, limit);
    CHECK(rows < 700);
    CHECK(rows % chunk_alignment == 0);
    CHECK(attend.workspace_bytes(p, limit) <= limit);
    std::vector<std::byte> memory(attend.workspace_bytes(p, limit));
    const_assignment_view const assignment(routes.data(), {2, 4});
    CHECK_THROWS_WITH_AS(attend.select(x.q, x.k, assignment, memory, o),
                         doctest::Contains("or fewer query rows at once"), error);
    for (o.q_begin = 0; o.q_begin < 700; o.q_begin += rows) {
      o.q_end = minimum(o.q_begin + rows, 700);
      attend.select(x.q, x.k, assignment, memory, o);
      attend.forward(x.q, x.k, x.v, x.out, x.lse, assignment, memory, o);
    }
    CHECK(x.out_memory == whole);
    CHECK(x.lse_memory == whole_lse);
  };
  cut(hybrid{full{}, moba{64, 3}});
  cut(hybrid{full{}, pooled_top_k{64, 32, 4}});
  cut(hybrid{full{}, planned{union_of<sliding_window, streaming>{{30}, {1, 2}}}});
}

TEST_CASE("static modes need no workspace; its bytes are by shape alone") {
  attention const attend{hybrid{full{}, streaming{}}};
  tensors x;
  CHECK(attend.workspace_bytes(attend.shape(x.q, x.k)) == 0);
  CHECK(attend.chunk_rows(attend.shape(x.q, x.k)) == 300);
}

namespace {

/// A paged copy of keys and values: pages in random order, absent where no head of the group needs them, and
/// every slot that holds no key NaN.
struct cache_of {
  std::vector<float> k_memory, v_memory;
  std::vector<std::int32_t> table_memory, lengths;
  paged_cache<float> cache;

  /// The first `keys[b]` keys of sequence b; needed(batch, kv_head, page) says which pages stay.
  template <class Needed>
  cache_of(dice& r, tensors const& x, std::vector<std::int32_t> keys, int page, Needed&& needed)
      : lengths(std::move(keys)) {
    int const pages = ceil_div(x.k_len, page), slots = x.batch * x.kv_heads * pages;
    std::vector<std::int32_t> order(static_cast<std::size_t>(slots));
    for (int i = 0; i < slots; ++i) order[static_cast<std::size_t>(i)] = i;
    for (int i = slots - 1; i > 0; --i)
      std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(r.below(i + 1))]);
    k_memory.assign(static_cast<std::size_t>(slots * page * x.head_dim), poison<float>());
    v_memory = k_memory;
    strided_view<float, 3> const k(k_memory.data(), {slots, page, x.head_dim}),
        v(v_memory.data(), {slots, page, x.head_dim});
    for (int b = 0, slot = 0; b < x.batch; ++b)
      for (int h = 0; h < x.kv_heads; ++h)
        for (int i = 0; i < pages; ++i, ++slot) {
          std::int32_t const at = order[static_cast<std::size_t>(slot)];
          bool const stays = needed(b, h, i);
          table_memory.push_back(stays ? at : r.pick({-1, at, 1 << 30}));  // absent, full of NaN, or nonsense
          for (int s = 0; stays && s < page; ++s)
            if (int const key = i * page + s; key < lengths[static_cast<std::size_t>(b)])
              for (int d = 0; d < x.head_dim; ++d) {
                k(at, s, d) = x.k(b, key, h, d);
                v(at, s, d) = x.v(b, key, h, d);
              }
        }
    cache = {k, v, {table_memory.data(), {x.batch, x.kv_heads, pages}}, {lengths.data(), {x.batch}}};
  }
};

/// Decodes the last `few` queries of every sequence and compares with a prefill of the whole sequence.
template <class M, class Expected>
void check_decode(M const& mode, Expected const& as, std::vector<std::int32_t> const& routes, bool dense, int page) {
  INFO(name_of_mode<M>() << ", pages of " << page << (dense ? ", dense" : ""));
  dice r(17, static_cast<std::uint64_t>(page));
  int const longest = 333;
  tensors all(longest, longest);
  const_assignment_view const assignment(routes.data(), {2, 4});
  for (int few : {1, 3}) {
    std::vector<std::int32_t> const lengths{longest, 200};
    // Which pages do the new queries need, by brute force over keeps?
    auto const needed = [&](int b, int kv_head, int i) {
      problem p;
      p.batch = 2;
      p.q_len = few;
      p.k_len = longest;
      p.query_heads = 4;
      p.kv_heads = 2;
      p.k_lengths = lengths.data();
      for (int h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
        where const w = locate(p, b, h, assignment(b, h));
        for (int q = 0; q < few; ++q)
          for (int key = i * page; key < minimum((i + 1) * page, w.k_len); ++key)
            if (w.admits(q, key) && as.keeps(w, q, key)) return true;
      }
      return false;
    };
    cache_of const paged(r, all, lengths, page, needed);

    std::vector<float> q_memory(static_cast<std::size_t>(2 * few * 4 * 32)),
        out_memory(q_memory.size(), poison<float>());
    std::vector<float> lse_memory(static_cast<std::size_t>(2 * 4 * few), poison<float>());
    heads_view<float> const q(q_memory.data(), {2, few, 4, 32}), out(out_memory.data(), {2, few, 4, 32});
    lse_view const lse(lse_memory.data(), {2, 4, few});
    for (int b = 0; b < 2; ++b)
      for (int i = 0; i < few; ++i)
        for (int h = 0; h < 4; ++h)
          for (int d = 0; d < 32; ++d) q(b, i, h, d) = all.q(b, lengths[static_cast<std::size_t>(b)] - few + i, h, d);

    options o;
    o.dense_decode = dense;
    attention<M, fixed_router, cpu> const attend{mode};
    attend.decode(heads_view<float const>(q), paged.cache, out, lse, assignment, {}, o);
    problem const p = make_problem<float>(q, paged.cache, o);
    CHECK(misjudged<float>(as, p, q, paged.cache, out, lse, assignment) == "");

    // The oracle over the cache equals the oracle's prefill of each sequence, in its last rows.
    for (int b = 0; b < 2; ++b) {
      std::int64_t const n = lengths[static_cast<std::size_t>(b)];
      auto const cut = [&](heads_view<float const> t) {
        t.data += b * t.strides[0];
        t.extents[0] = 1;
        t.extents[1] = n;
        return t;
      };
      problem const whole = make_problem<float>(cut(all.q), cut(all.k));
      const_assignment_view row = assignment;
      row.data += 4 * b;
      row.extents[0] = 1;
      double worst = 0;
      reference_rows<double>(as, whole, cut(all.q), plain_keys<float>{cut(all.k), cut(all.v)}, row,
                             [&](int, int h, int i, double const* expected, double) {
                               if (int const j = i - static_cast<int>(n) + few; j >= 0)
                                 for (int d = 0; d < 32; ++d)
                                   worst = maximum(worst, std::abs(expected[d] - double(out(b, j, h, d))));
                             });
      CHECK(worst < 1e-5);
    }
  }
}

}  // namespace

TEST_CASE("decode over a paged cache continues the prefill") {
  std::vector<std::int32_t> const routes{0, 0, 1, 1, 1, 1, 0, 1};
  float const logits[] = {0.5f, -1.f, 2.f, 0.f};
  hand_lists const lists({{0}, {0}});
  for (int page : {128, 64, 16, 100}) {
    check_decode(full{}, full{}, std::vector<std::int32_t>(8, 0), false, page);
    hybrid const by_token{full{}, streaming{10, 40, granularity::token}};
    check_decode(by_token, by_token, routes, false, page);
    hybrid const by_block{full{}, streaming{1, 1}};
    check_decode(by_block, by_block, routes, false, page);
    check_decode(by_block, full{}, routes, true, page);
    // Heads with lists attend to the whole cache.
    hybrid const listed{sliding_window{30}, lists.mode(128, 128)};
    check_decode(listed, hybrid{sliding_window{30}, full{}}, routes, false, page);
    // Hooks and sink logits stay, dense or not.
    sink_logits const hooked{scored<hybrid<full, sliding_window>, soft_cap>{{full{}, {30}}, {2.f}}, logits};
    check_decode(hooked, hooked, routes, false, page);
    check_decode(hooked, sink_logits{scored<full, soft_cap>{{}, {2.f}}, logits}, routes, true, page);
  }
}
