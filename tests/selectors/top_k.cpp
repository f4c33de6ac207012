// Per-token top-k: both backends against sorted scores and, bit for bit, against each other; ties; and attention
// through what was selected.
#include <elastic/selectors/top_k.hpp>

#include <doctest/doctest.h>

#include <support/selected_modes.hpp>

using namespace elastic;
using namespace elastic::testing;

namespace {

template <element T>
void check_random(std::uint64_t seed, double tolerance, bool integers) {
  long rows = 0, ties = 0;
  for (int i = 0; i < 24; ++i) {
    CAPTURE(i);
    dice r(seed, static_cast<std::uint64_t>(i));
    random_problem<T> const drawn(r, 400, r.one_in(2));
    if (integers)  // few values, so that scores tie
      for (auto const* memory : {drawn.q_memory.get(), drawn.k_memory.get()}) {
        auto const view = memory->mutable_view();
        for (int b = 0; b < view.extents[0]; ++b)
          for (int s = 0; s < view.extents[1]; ++s)
            for (int h = 0; h < view.extents[2]; ++h)
              for (int d = 0; d < view.extents[3]; ++d)
                view(b, s, h, d) = T(d < 4 ? std::round(static_cast<float>(view(b, s, h, d))) : 0.f);
      }
    top_k const s{r.pick({1, 2, 5, 16, 64, 150, 2048})};
    auto const routes = drawn.random_routes(r, 2);
    selected_run const exact(reference{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
    selected_run const fast(cpu{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
    problem const& p = exact.shape;

    // The backends' cuts are the same, and what they keep are the k largest of scores summed in plain order.
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h) {
        where const w = locate(p, b, h, 0);
        bool const routed = routes[static_cast<std::size_t>(b * p.query_heads + h)] == 1;
        auto const queries = rows_of(drawn.q, p.cu_seqlens_q, b, h),
                   keys = rows_of(drawn.k, p.cu_seqlens_k, b, w.kv_head);
        for (int q = 0; q < w.q_len; ++q) {
          top_cut<double> const cut = exact.storage.cut(w, q), same = fast.storage.cut(w, q);
          if (cut.threshold != same.threshold || cut.tie != same.tie) FAIL("cuts differ");
          int kept = 0, admitted = 0;
          double lowest_in = std::numeric_limits<double>::infinity(), highest_out = -lowest_in;
          for (int j = 0; j < w.k_len; ++j) {
            if (!w.admits(q, j)) continue;
            double score = 0;
            for (int d = 0; d < p.head_dim; ++d)
              score += static_cast<double>(static_cast<float>(queries[q][d])) *
                       static_cast<double>(static_cast<float>(keys[j][d]));
            bool const keeps = exact.mode().keeps(w, q, j);
            if (keeps != fast.mode().keeps(w, q, j)) FAIL("masks differ");
            ++admitted;
            kept += keeps;
            if (integers && !keeps && score == lowest_in) ++ties;
            if (integers && keeps && score == highest_out) FAIL("a tie that went to the higher index");
            (keeps ? lowest_in : highest_out) = keeps ? std::min(lowest_in, score) : std::max(highest_out, score);
          }
          if (kept != (routed ? minimum(s.k, admitted) : 0)) FAIL("kept " << kept << " of " << admitted);
          if (kept > 0 && lowest_in < highest_out - 1e-12) FAIL("a larger score was left out");
          ++rows;
        }
      }

    CHECK(mask_of(fast.mode(), p) == mask_in_chunks(cpu{}, s, drawn, routes, 1, 128));
    if (i % 8 == 0) check_laws(fast.mode(), p);
    CHECK(front_door_error(cpu{}, s, drawn, routes, i % 2 == 0 ? 128 : 512) < tolerance);
    if (i % 4 == 1) CHECK(front_door_error(reference{}, s, drawn, routes, i % 2 == 0 ? 256 : 512) < tolerance);
  }
  CHECK(rows > 3000);
  if (integers) CHECK(ties > 1000);
}

}  // namespace

TEST_CASE("random problems in float") { check_random<float>(31, 2e-6, false); }
TEST_CASE("random problems in half") { check_random<half>(32, 1e-3, false); }
TEST_CASE("random problems in bfloat16") { check_random<bfloat16>(33, 8e-3, false); }
TEST_CASE("scores that tie go to the lower index") {
  check_random<float>(34, 2e-6, true);
  check_random<bfloat16>(35, 8e-3, true);
}

TEST_CASE("keys of very different lengths") {
  // The bound on the product's rounding follows the longest key: many keys are undecided, or all where products
  // overflow.
  for (float const length : {1e3f, 1e18f, 1e38f}) {
    CAPTURE(length);
    int const rows = 300, d = 64;
    random_heads<float> const q({1, rows, 1, d}, 1), k({1, rows, 1, d}, 2);
    for (int j = 0; j < rows; j += 7)
      for (int c = 0; c < d; ++c) k.mutable_view()(0, j, 0, c) = c % 2 == 0 ? length : -length;
    top_k const s{20};
    selected_run const exact(reference{}, s, q.view(), k.view());
    selected_run const fast(cpu{}, s, q.view(), k.view());
    CHECK(mask_of(exact.mode(), exact.shape) == mask_of(fast.mode(), fast.shape));
  }
}

TEST_CASE("by hand") {
  int const q_len = 4, k_len = 6, d = 32;
  std::vector<float> q(static_cast<std::size_t>(q_len * d)), k(static_cast<std::size_t>(k_len * d));
  float const scores[k_len] = {1, 5, 2, 5, 4, 0};
  for (int i = 0; i < q_len; ++i) q[static_cast<std::size_t>(i * d)] = i < 3 ? 1.f : -1.f;
  for (int j = 0; j < k_len; ++j) k[static_cast<std::size_t>(j * d)] = scores[j];
  heads_view<float const> const queries(q.data(), {1, q_len, 1, d}), keys(k.data(), {1, k_len, 1, d});
  auto const check = [&](auto const& backend) {
    selected_run const causal(backend, top_k{2}, queries, keys);
    CHECK(picture_differs(causal.mode(), locate(causal.shape, 0, 0, 0), {".##...", ".#.#..", ".#.#..", "#....#"}) ==
          "");
    selected_run const all(backend, top_k{1}, queries, keys, {.causal = false});
    CHECK(picture_differs(all.mode(), locate(all.shape, 0, 0, 0), {".#....", ".#....", ".#....", ".....#"}) == "");
  };
  check(reference{});
  check(cpu{});
}

TEST_CASE("parameters that make no sense are refused, and so is a workspace that was not filled") {
  std::vector<float> x(64 * 32);
  heads_view<float const> const q(x.data(), {1, 64, 1, 32});
  CHECK_THROWS_AS((attention{top_k{0}}.shape(q, q)), error);
  CHECK_THROWS_AS((attention{top_k{-1}}.shape(q, q)), error);
  attention attend{top_k{4}};
  std::vector<std::byte> memory(attend.workspace_bytes(attend.shape(q, q)), std::byte{0xff});
  std::vector<float> out(x.size());
  std::int32_t const route = 0;
  const_assignment_view const assignment(&route, {1, 1});
  CHECK_THROWS_AS(attend.forward(q, q, q, heads_view<float>(out.data(), {1, 64, 1, 32}), {}, assignment, memory),
                  error);
  static_assert(top_k::host_only && top_k_selected::host_only);
}

TEST_CASE("what was selected from other tensors is refused: the mode reads q and k again") {
  random_heads<float> const q({1, 160, 2, 32}, 1), k({1, 160, 1, 32}, 2), longer({1, 1600, 1, 32}, 3),
      other({1, 160, 1, 32}, 4);
  std::vector<float> memory_of_out(160 * 2 * 32, 7.f);
  heads_view<float> const out(memory_of_out.data(), {1, 160, 2, 32});
  std::vector<std::int32_t> const routes{0, 0};
  const_assignment_view const assignment(routes.data(), {1, 2});
  std::vector<std::int32_t> const starts{0, 70, 160}, other_starts{0, 60, 160}, packed_routes{0, 0, 0, 0};
  const_assignment_view const packed_assignment(packed_routes.data(), {2, 2});
  options const packed{.cu_seqlens_q = starts, .cu_seqlens_k = starts};
  options const otherwise{.cu_seqlens_q = other_starts, .cu_seqlens_k = other_starts};
  auto const check = [&](auto const& backend) {
    attention const attend(top_k{5}, fixed_router{}, backend);
    std::vector<std::byte> memory(1 << 22);
    auto const refused = [&](heads_view<float const> const& keys, const_assignment_view const& a, options const& o) {
      CHECK_THROWS_WITH_AS(attend.forward(q.view(), keys, keys, out, {}, a, memory, o),
                           doctest::Contains("workspace: got a top_k selection from other q or k"), error);
      CHECK_THROWS_AS(attend.validate(q.view(), keys, a, memory, o), error);
      for (float const x : memory_of_out) REQUIRE(x == 7.f);
    };
    attend.select(q.view(), k.view(), assignment, memory);
    refused(longer.view(), assignment, {});
    refused(other.view(), assignment, {});
    refused(k.view(), assignment, {.causal = false});
    refused(k.view(), assignment, {.q_end = 0});
    attend.select(q.view(), k.view(), packed_assignment, memory, packed);
    refused(k.view(), packed_assignment, otherwise);
    CHECK_NOTHROW(attend.validate(q.view(), k.view(), packed_assignment, memory, packed));
    CHECK_NOTHROW(attend.forward(q.view(), k.view(), k.view(), out, {}, packed_assignment, memory, packed));
    std::fill(memory_of_out.begin(), memory_of_out.end(), 7.f);
  };
  check(cpu{});
  check(reference{});
}
