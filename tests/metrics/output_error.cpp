#include <elastic/metrics/output_error.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <elastic/core/dtype.hpp>

using namespace elastic;

TEST_CASE("per head, over its rows alone") {
  // (1, 2, 2, 2): head 0 holds (3, 4), (0, 0) against (3, 4), (0, 1); head 1 (1, 0), (0, 2) against (1, 0), (0, −2).
  std::vector<float> const out{3, 4, 1, 0, 0, 0, 0, 2}, expected{3, 4, 1, 0, 0, 1, 0, -2};
  heads_view<float const> const a(out.data(), {1, 2, 2, 2}), b(expected.data(), {1, 2, 2, 2});
  auto const errors = output_errors(a, b);
  REQUIRE(errors.size() == 2);
  CHECK(errors[0].relative_l2 == doctest::Approx(1 / std::sqrt(26.)));
  CHECK(errors[0].maximum == 1);
  CHECK(errors[0].relative_maximum == 0.25);
  CHECK(errors[1].relative_l2 == doctest::Approx(4 / std::sqrt(5.)));
  CHECK(errors[1].maximum == 4);
  CHECK(errors[1].by(error_measure::relative_maximum) == 2);
  CHECK(errors[1].by(error_measure::maximum) == 4);
  CHECK(errors[1].by(error_measure::relative_l2) == errors[1].relative_l2);
  CHECK(output_error(a, b).relative_l2 == doctest::Approx(std::sqrt(17. / 31.)));
  CHECK(output_error(a, b).maximum == 4);
  CHECK(output_error(a, b).relative_maximum == 1);
  CHECK(output_errors(a, b, {}, 0, 1)[1].maximum == 0);
  CHECK(output_errors(a, b, {}, 1, 2)[0].relative_l2 == 1);
}

TEST_CASE("packed sequences, other strides and types") {
  std::vector<float> const expected{1, 2, 3, 4, 5, 6};  // 3 rows of 1 head of 2
  std::vector<bfloat16> out;
  for (float const x : {1.f, 2.f, 3.f, 4.f, 5.f, 8.f}) out.push_back(bfloat16(x));
  std::vector<std::int32_t> const starts{0, 1, 1, 3};
  heads_view<bfloat16 const> const a(out.data(), {1, 3, 1, 2});
  heads_view<float const> const b(expected.data(), {1, 3, 1, 2});
  auto const errors = output_errors(a, b, starts);
  REQUIRE(errors.size() == 3);
  CHECK(errors[0].maximum == 0);
  CHECK(errors[1].relative_l2 == 0);
  CHECK(errors[2].maximum == 2);
  std::vector<float> const reversed{5, 6, 3, 4, 1, 2};
  heads_view<float const> const c(reversed.data() + 4, {1, 3, 1, 2}, {6, -2, 2, 1});
  CHECK(output_errors(b, c)[0].maximum == 0);
}

TEST_CASE("zeros and NaN") {
  float const zero = 0, one = 1, nan = std::numeric_limits<float>::quiet_NaN();
  auto const error_of = [](float const& a, float const& b) {
    return output_errors(heads_view<float const>(&a, {1, 1, 1, 1}), heads_view<float const>(&b, {1, 1, 1, 1}))[0];
  };
  CHECK(error_of(zero, zero).relative_l2 == 0);
  CHECK(error_of(zero, zero).relative_maximum == 0);
  CHECK(std::isinf(error_of(one, zero).relative_l2));
  CHECK(std::isnan(error_of(nan, one).relative_l2));
  CHECK(std::isnan(error_of(nan, one).maximum));
  CHECK(std::isnan(error_of(one, nan).relative_maximum));
  std::vector<float> const first{nan, 1, 2}, second{1, 1, 1};
  CHECK(std::isnan(output_errors(heads_view<float const>(first.data(), {1, 3, 1, 1}),
                                 heads_view<float const>(second.data(), {1, 3, 1, 1}))[0]
                       .maximum));
}

TEST_CASE("shapes that differ are refused") {
  std::vector<float> const memory(8);
  heads_view<float const> const a(memory.data(), {1, 2, 2, 2}), b(memory.data(), {1, 2, 1, 2});
  CHECK_THROWS_WITH_AS(output_errors(a, b), "elastic: expected: got extent 1, expected 2 as in out", error);
  std::vector<std::int32_t> const starts{0, 3};
  CHECK_THROWS_AS(output_errors(a, a, starts), error);
  CHECK_THROWS_AS(output_errors(a, a, {}, -900), error);
  CHECK_THROWS_AS(output_error(a, a, std::vector<std::int32_t>{0, 5000, 2}), error);
  heads_view<float const> const absent(nullptr, {1, 2, 2, 2}), negative(memory.data(), {1, -4, 2, 2}),
      apart(memory.data(), {1, 1, 2, 2}, {8, 8, 4, 2});
  CHECK_THROWS_WITH_AS(output_errors(a, absent), doctest::Contains("expected: got null data"), error);
  CHECK_THROWS_AS(output_errors(negative, negative), error);
  CHECK_THROWS_WITH_AS(output_error(apart, apart), doctest::Contains("out: got 2, expected a head_dim stride of 1"),
                       error);
}
