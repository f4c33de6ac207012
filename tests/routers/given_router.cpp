#include <elastic/routers/given_router.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <elastic/attention.hpp>

using namespace elastic;
using mode_type = hybrid<full, streaming>;

TEST_CASE("the routes are the given ones, through any strides") {
  std::vector<std::int32_t> const given{0, 1, 1, 0, 0, 1};
  std::vector<std::int32_t> routes(6, -1);
  assignment_view const assignment(routes.data(), {2, 3});
  attention(mode_type{}, given_router{const_assignment_view(given.data(), {2, 3}, {1, 2})})
      .route(route_inputs<float>{}, assignment, {});
  CHECK(routes == std::vector<std::int32_t>{0, 1, 0, 1, 0, 1});
  std::int32_t const one = 1;
  attention(mode_type{}, given_router{const_assignment_view(&one, {2, 3}, {0, 0})})
      .route(route_inputs<float>{}, assignment, {});
  CHECK(routes == std::vector<std::int32_t>(6, 1));
}

TEST_CASE("an assignment of another shape, or of routes that do not exist, is refused") {
  std::vector<std::int32_t> const given{0, 1, 1, 0, 0, 2};
  std::vector<std::int32_t> routes(6, -1);
  assignment_view const assignment(routes.data(), {2, 3});
  auto const route = [&](const_assignment_view const& view) {
    attention(mode_type{}, given_router{view}).route(route_inputs<float>{}, assignment, {});
  };
  CHECK_THROWS_WITH_AS(route(const_assignment_view(given.data(), {1, 3})),
                       "elastic: given_router.assignment: got 1 × 3 routes, expected 2 × 3", error);
  CHECK_THROWS_WITH_AS(route({}), "elastic: given_router.assignment: got 0 × 0 routes, expected 2 × 3", error);
  CHECK_THROWS_WITH_AS(route(const_assignment_view(given.data(), {2, 3})),
                       "elastic: given_router.assignment: got 2, expected 0 to 1", error);
  CHECK_THROWS_WITH_AS(route(const_assignment_view(given.data(), {2, 3}, {1, std::int64_t{1} << 62})),
                       doctest::Contains("given_router.assignment: got strides whose offsets overflow"), error);
  CHECK(routes == std::vector<std::int32_t>(6, -1));
}

TEST_CASE("of no sequences, an assignment without data will do") {
  attention const attend(mode_type{}, given_router{const_assignment_view(nullptr, {0, 3})});
  CHECK_NOTHROW(attend.route(route_inputs<float>{}, assignment_view(nullptr, {0, 3}), {}));
}
