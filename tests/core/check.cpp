// What the front door's own tests (attention_errors.cpp) do not reach: the checked problem itself.
#include <elastic/core/check.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

using namespace elastic;

namespace {

std::vector<float> const memory(4096);

heads_view<float const> dense(std::int64_t batch, std::int64_t seq, std::int64_t heads, std::int64_t head_dim) {
  return {memory.data(), {batch, seq, heads, head_dim}};
}

}  // namespace

TEST_CASE("a problem from tensors") {
  problem const p = make_problem<float>(dense(2, 5, 4, 64), dense(2, 7, 2, 64));
  CHECK(p.batch == 2);
  CHECK(p.q_len == 5);
  CHECK(p.k_len == 7);
  CHECK(p.query_heads == 4);
  CHECK(p.kv_heads == 2);
  CHECK(p.head_dim == 64);
  CHECK(p.causal);
  CHECK(p.softmax_scale == 0.125f);
  CHECK(p.q_begin == 0);
  CHECK(p.q_end == 5);
  CHECK(p.threads >= 1);
  CHECK(!p.packed());
}

TEST_CASE("a scale of zero is a scale") {
  options o;
  o.softmax_scale = 0.f;
  CHECK(make_problem<float>(dense(1, 1, 1, 32), dense(1, 1, 1, 32), o).softmax_scale == 0.f);
  o.softmax_scale = -2.f;
  CHECK(make_problem<float>(dense(1, 1, 1, 32), dense(1, 1, 1, 32), o).softmax_scale == -2.f);
}

TEST_CASE("packed sequences: the longest counts") {
  std::vector<std::int32_t> const starts_q{0, 3, 3, 10}, starts_k{0, 0, 6, 8};
  options o;
  o.cu_seqlens_q = starts_q;
  o.cu_seqlens_k = starts_k;
  problem const p = make_problem<float>(dense(1, 10, 1, 32), dense(1, 8, 1, 32), o);
  CHECK(p.batch == 3);
  CHECK(p.q_len == 7);
  CHECK(p.k_len == 6);
  CHECK(p.packed());
}

TEST_CASE("supported head dims") {
  int supported = 0;
  for (int d = -10; d <= 1024; ++d) supported += supported_head_dim(d);
  CHECK(supported == 6);
  for (int d : {32, 64, 96, 128, 192, 256}) CHECK(supported_head_dim(d));
}

TEST_CASE("a view is refused before its size is multiplied out") {
  strided_view<float, 4> view;
  for (auto& extent : view.extents) extent = (1 << 29) - 1;
  CHECK_THROWS_WITH_AS(detail::check_view("x", view), doctest::Contains("x: got null data"), error);
  view.extents[2] = 0;
  CHECK_NOTHROW(detail::check_view("x", view));
  view.extents[2] = 1 << 29;
  CHECK_THROWS_WITH_AS(detail::check_view("x", view), doctest::Contains("extents of 0 to 2^29 - 1"), error);
}

TEST_CASE("offsets add up over the dimensions") {
  float x = 0;
  strided_view<float, 2> view;
  view.data = &x;
  view.extents[0] = view.extents[1] = 3;
  view.strides[0] = view.strides[1] = std::int64_t{1} << 58;  // each 2^59, together 2^60
  CHECK_NOTHROW(detail::check_view("x", view));
  view.strides[0] = std::int64_t{1} << 60;
  CHECK_THROWS_AS(detail::check_view("x", view), error);
  view.strides[0] = -(std::int64_t{1} << 60);
  CHECK_THROWS_AS(detail::check_view("x", view), error);
}

TEST_CASE("what is written does not overlap") {
  float x[4];
  strided_view<float, 2> view(x, {2, 2});
  CHECK_NOTHROW(detail::check_distinct("x", view));
  view.strides[0] = 0;
  CHECK_THROWS_WITH_AS(detail::check_distinct("x", view), doctest::Contains("x: got a stride of 0"), error);
  view.extents[0] = 1;
  CHECK_NOTHROW(detail::check_distinct("x", view));
}

TEST_CASE("strides that overlap without being 0") {
  std::vector<float> x(1000);
  auto const view = [&](std::array<std::int64_t, 3> extents, std::array<std::int64_t, 3> strides) {
    return strided_view<float, 3>(x.data() + 500, extents, strides);
  };
  auto const fine = [&](auto const& v) { CHECK_NOTHROW(detail::check_distinct("x", v)); };
  fine(view({2, 3, 4}, {12, 4, 1}));
  fine(view({2, 3, 4}, {100, 4, 1}));   // padded
  fine(view({2, 3, 4}, {-12, 4, -1}));  // backwards
  fine(view({2, 3, 4}, {1, 8, 2}));     // permuted
  fine(view({1, 3, 4}, {0, 4, 1}));     // one of a kind
  fine(view({1, 3, 4}, {std::numeric_limits<std::int64_t>::min(), 4, 1}));
  fine(view({0, 3, 4}, {0, 0, 0}));  // without elements
  fine(strided_view<float, 3>(x.data(), {2, 0, 4}));
  for (auto const& strides :
       std::vector<std::array<std::int64_t, 3>>{{12, 1, 1}, {4, 4, 1}, {11, 4, 1}, {12, -3, 1}, {1, 2, 1}})
    CHECK_THROWS_WITH_AS(detail::check_distinct("x", view({2, 3, 4}, strides)),
                         doctest::Contains("expected elements that do not overlap"), error);
}

TEST_CASE("data that is not aligned for its elements is refused, where there are any") {
  std::vector<float> const x(10);
  auto const* const bytes = reinterpret_cast<std::byte const*>(x.data());
  auto const at = [&]<class T>(T const&, int offset, std::int64_t extent) {
    detail::check_view("x", strided_view<T const, 1>(reinterpret_cast<T const*>(bytes + offset), {extent}));
  };
  CHECK_THROWS_WITH_AS(at(1.f, 2, 4),
                       "elastic: x: got data 2 bytes past an aligned address, expected data aligned to 4 bytes", error);
  CHECK_THROWS_WITH_AS(at(half{}, 1, 4), doctest::Contains("data aligned to 2 bytes"), error);
  CHECK_THROWS_WITH_AS(at(std::int32_t{}, 3, 4), doctest::Contains("x: got data 3 bytes"), error);
  CHECK_NOTHROW(at(half{}, 2, 4));
  CHECK_NOTHROW(at(1.f, 2, 0));
}

TEST_CASE("what is written is apart from what is read, where both fill their memory") {
  std::vector<float> x(100);
  auto const dense = [&](int at) { return strided_view<float, 2>(x.data() + at, {2, 10}); };
  auto const apart = [](auto const& a, auto const& b) { detail::check_apart("out", a, "q", b); };
  CHECK_NOTHROW(apart(dense(0), dense(20)));
  CHECK_NOTHROW(apart(dense(20), dense(0)));
  for (int const at : {0, 1, 19})
    CHECK_THROWS_WITH_AS(apart(dense(at), dense(0)), "elastic: out: got memory of q, expected memory of its own",
                         error);
  // Interleaved as in a packed projection: their ranges overlap, their elements do not.
  strided_view<float, 2> const q(x.data(), {4, 5}, {10, 1}), out(x.data() + 5, {4, 5}, {10, 1});
  CHECK_NOTHROW(apart(out, q));
  CHECK_NOTHROW(apart(strided_view<float, 2>(x.data() + 1, {1, 2}), strided_view<float, 2>(x.data(), {2, 2}, {0, 3})));
  CHECK_NOTHROW(apart(strided_view<float, 2>(x.data(), {0, 2}), dense(0)));
  strided_view<float, 2> const backwards(x.data() + 19, {2, 10}, {-10, -1});
  CHECK_THROWS_AS(apart(backwards, dense(0)), error);
}

TEST_CASE("views whose size leaves 64 bits are refused by a stride") {
  std::int64_t const many = std::int64_t{1} << 28;
  CHECK_THROWS_AS(detail::check_view("x", dense(2, many, many, 256)), error);
}

TEST_CASE("offsets of packed sequences that the host cannot read are counted, and aligned") {
  heads_view<float const> const q(nullptr, {1, 0, 1, 32});
  std::vector<std::int32_t> const starts(3);
  auto const problem_of = [&](std::int32_t const* data, std::size_t size) {
    options o;
    o.cu_seqlens_q = o.cu_seqlens_k = {data, size};
    o.max_q_len = o.max_k_len = 0;
    return make_problem<float>(q, q, o, false);
  };
  CHECK(problem_of(starts.data(), 3).batch == 2);
  CHECK_THROWS_WITH_AS(problem_of(starts.data(), (std::size_t{1} << 32) + 2),
                       doctest::Contains("options.cu_seqlens_q: got (4294967298)"), error);
  auto const* const past = reinterpret_cast<std::int32_t const*>(reinterpret_cast<std::uintptr_t>(starts.data()) + 1);
  CHECK_THROWS_WITH_AS(problem_of(past, 2), doctest::Contains("1 bytes past an aligned address"), error);
}

TEST_CASE("heads of all sequences fit an int") {
  heads_view<float const> const q(nullptr, {100000, 0, 30000, 32});
  CHECK_THROWS_WITH_AS(make_problem<float>(q, q), doctest::Contains("q heads: got 100000 sequences of 30000"), error);
}

TEST_CASE("ranges of rows") {
  std::vector<std::int32_t> const starts{0, 3, 8};
  detail::row_ranges const packed("x", 1, 8, starts, 1, 4);
  CHECK(packed.sequences == 2);
  CHECK(packed.end(0) == 3);
  CHECK(packed.end(1) == 4);
  detail::row_ranges const equal("x", 2, 8, {}, 0, -1);
  CHECK(equal.sequences == 2);
  CHECK(equal.end(1) == 8);
  for (auto [begin, end] : {std::pair{-1, -1}, {5, 2}, {0, -2}})
    CHECK_THROWS_AS(detail::row_ranges("x", 1, 8, {}, begin, end), error);
  CHECK_THROWS_WITH_AS(detail::row_ranges("x", 2, 8, starts, 0, -1), doctest::Contains("x batch: got 2"), error);
  for (std::vector<std::int32_t> const& bad : {std::vector<std::int32_t>{0}, {-4, 8}, {0, 50, 8}, {0, 9}, {0, 7}})
    CHECK_THROWS_WITH_AS(detail::row_ranges("x", 1, 8, bad, 0, -1), doctest::Contains("cu_seqlens_q"), error);
}
