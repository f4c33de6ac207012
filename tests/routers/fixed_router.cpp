#include <elastic/routers/fixed_router.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <elastic/attention.hpp>

using namespace elastic;
using mode_type = hybrid<full, streaming>;

TEST_CASE("every sequence gets the layer's routes") {
  fixed_router const router({0, 1, 1, 0, 1, 0, 0, 1}, 4);
  attention const attend(mode_type{}, router);
  for (int layer : {0, 1}) {
    std::vector<std::int32_t> routes(3 * 4, -1);
    attend.route(route_inputs<float>{}, assignment_view(routes.data(), {3, 4}), {}, {.layer = layer});
    for (int b = 0; b < 3; ++b)
      for (int h = 0; h < 4; ++h)
        CHECK(routes[static_cast<std::size_t>(b * 4 + h)] == (layer == 0 ? h == 1 || h == 2 : h == 0 || h == 3));
  }
}

TEST_CASE("an empty table sends every head to route 0") {
  std::vector<std::int32_t> routes(6, -1);
  attention<mode_type>{}.route(route_inputs<float>{}, assignment_view(routes.data(), {2, 3}), {});
  CHECK(routes == std::vector<std::int32_t>(6, 0));
}

TEST_CASE("tables that do not fit are refused") {
  CHECK_THROWS_WITH_AS(fixed_router({0, 1, 1}, 2),
                       "elastic: fixed_router.routes: got 3, expected layers × query_heads routes", error);
  CHECK_THROWS_AS(fixed_router({0}, 0), error);
  std::vector<std::int32_t> routes(4, -1);
  assignment_view const assignment(routes.data(), {1, 4});
  auto const route = [&](fixed_router router, options const& o = {}) {
    attention(mode_type{}, router).route(route_inputs<float>{}, assignment, {}, o);
  };
  CHECK_THROWS_WITH_AS(route(fixed_router({0, 1}, 2)),
                       "elastic: fixed_router.routes: got 2, expected routes for the problem's 4 query heads", error);
  CHECK_THROWS_WITH_AS(route(fixed_router({0, 1, 2, 0}, 4)), "elastic: fixed_router.routes: got 2, expected 0 to 1",
                       error);
  CHECK_THROWS_AS(route(fixed_router({0, 1, -1, 0}, 4)), error);
  CHECK_THROWS_WITH_AS(route(fixed_router({0, 1, 1, 0}, 4), {.layer = 1}),
                       "elastic: options.layer: got 1, expected one of the 1 layers that have routes", error);
  CHECK(routes == std::vector<std::int32_t>(4, -1));
}

TEST_CASE("a lambda is a router") {
  std::vector<std::int32_t> routes(4, 77);
  assignment_view const assignment(routes.data(), {1, 4});
  int const dense = 2;
  auto const by_head = [dense](problem const&, int, int query_head, int modes) {
    return query_head < dense ? 0 : modes - 1;
  };
  static_assert(head_router<decltype(by_head)> && router<decltype(by_head)> && !checked_router<decltype(by_head)>);
  attention(hybrid<full, streaming>{}, by_head).route(route_inputs<float>{}, assignment, {});
  CHECK(routes == std::vector<std::int32_t>{0, 0, 1, 1});
  auto const yes_or_no = [](problem const&, int, int query_head, int) { return query_head == 1; };
  attention(hybrid<full, streaming>{}, yes_or_no).route(route_inputs<float>{}, assignment, {});
  CHECK(routes == std::vector<std::int32_t>{0, 1, 0, 0});
  // A route that there is not is refused before any is written.
  for (std::int64_t const bad : {std::int64_t{2}, std::int64_t{-1}, std::int64_t{1} << 32}) {
    auto const wrong = [bad](problem const&, int, int query_head, int) { return query_head == 3 ? bad : 1; };
    CHECK_THROWS_WITH_AS((attention(hybrid<full, streaming>{}, wrong).route(route_inputs<float>{}, assignment, {})),
                         doctest::Contains("expected routes 0 to 1"), error);
    CHECK(routes == std::vector<std::int32_t>{0, 1, 0, 0});
  }
}
