#include <elastic/modes/composite.hpp>

#include <doctest/doctest.h>

#include <vector>

#include <elastic/modes/modes.hpp>

using namespace elastic;

TEST_CASE("a pack holds its parts in order and stays trivially copyable") {
  mode_pack const pack{full{}, sliding_window{3}, streaming{4, 5}};
  static_assert(std::is_trivially_copyable_v<decltype(pack)>);
  static_assert(decltype(pack)::size == 3);
  CHECK(part<1>(pack).window == 3);
  CHECK(part<2>(pack).local == 5);
}

TEST_CASE("with_part reaches each part; a number out of range takes the nearest") {
  mode_pack const pack{sliding_window{10}, sliding_window{20}, sliding_window{30}};
  auto const window = [&](int number) { return with_part(pack, number, [](auto const& mode) { return mode.window; }); };
  CHECK(window(0) == 10);
  CHECK(window(1) == 20);
  CHECK(window(2) == 30);
  CHECK(window(99) == 30);
  CHECK(window(-1) == 10);
}

TEST_CASE("map_leaves remakes the same composition around new leaves") {
  float const logit = 1;
  using nested = sink_logits<hybrid<scored<full, soft_cap>, intersection_of<sliding_window, full>>>;
  nested const mode{{{{}, {7.f}}, {{9}, {}}}, &logit};
  auto const same = map_leaves(mode, [](auto const& leaf) { return leaf; });
  static_assert(std::is_same_v<decltype(same), nested const>);
  CHECK(same.logits == &logit);
  CHECK(part<0>(part<0>(same)).hook.cap == 7.f);
  auto const replaced = map_leaves(mode, [](auto const& leaf) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(leaf)>, full>)
      return streaming{1, 2};
    else
      return leaf;
  });
  static_assert(
      std::is_same_v<std::remove_cvref_t<decltype(replaced)>,
                     sink_logits<hybrid<scored<streaming, soft_cap>, intersection_of<sliding_window, streaming>>>>);
  CHECK(part<0>(part<1>(part<0>(replaced))).window == 9);
}

TEST_CASE("zip_leaves tells the route whose heads come to a leaf") {
  hybrid<full, union_of<sliding_window, streaming>> const mode{};
  std::vector<int> routes_seen;
  zip_leaves(mode, mode, [&](auto const&, auto const&, int route) { routes_seen.push_back(route); });
  CHECK(routes_seen == std::vector<int>{0, 1, 1});
  routes_seen.clear();
  zip_leaves(full{}, full{}, [&](auto const&, auto const&, int route) { routes_seen.push_back(route); });
  CHECK(routes_seen == std::vector<int>{every_route});
}

TEST_CASE("check_parts checks each") {
  CHECK_THROWS_WITH_AS(check_parts(mode_pack{full{}, full{}, sliding_window{0}}, {}),
                       doctest::Contains("sliding_window.window"), error);
}
