// What the front door's own tests (attention_errors.cpp) do not reach: the checked problem itself.
#include <elastic/core/check.hpp>

#include <doctest/doctest.h>

#include <array>
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
