#include <elastic/cache/elastic_cache.hpp>

#include <doctest/doctest.h>

#include <algorithm>

#include "support/elastic_decode.hpp"

using namespace elastic;
using namespace elastic::testing;

using retrieval_and_streaming = hybrid<full, streaming>;

TEST_CASE("bytes follow the formula, and decode gives the same bits when pages handed back are poisoned") {
  attention<retrieval_and_streaming> const attend{{full{}, streaming{1, 3}}};
  for (int page : {64, 128})
    for (int length : {1, 100, 128, 129, 500, 512, 1023, 1024, 1025, 1600}) {
      INFO("pages of " << page << ", " << length << " keys");
      elastic_case<float> x(length, maximum(length - 37, 0), 1600, page);
      std::size_t const full_pages = x.pages_held();
      auto const before = x.decode(attend);
      handed_back const freed = attend.hand_back(x.cache, x.writable, x.assignment());
      CHECK(freed.bytes == freed.pages.size() * x.page_bytes());
      CHECK(x.pages_held() + freed.pages.size() == full_pages);
      // Whole blocks: a window of 3 blocks holds the newest key's block, of which the formula counts all.
      if (page == 128) CHECK(x.pages_held() == x.pages_by_formula(128, 3 * 128));
      if (page == 64) CHECK(x.pages_held() <= x.pages_by_formula(128, 3 * 128));
      x.poison_pages(freed.pages);
      CHECK(x.decode(attend) == before);
      CHECK(attend.hand_back(x.cache, x.writable, x.assignment()).pages.empty());
      CHECK_NOTHROW(attend.validate(x.queries(), x.cache, x.assignment()));
    }
}

TEST_CASE("windows by token: every page that holds a kept key stays, and no other") {
  attention<retrieval_and_streaming> const attend{{full{}, streaming{10, 200, granularity::token}}};
  elastic_case<float> x(1000, 999, 1600, 64);
  auto const before = x.decode(attend);
  handed_back const freed = attend.hand_back(x.cache, x.writable, x.assignment());
  for (int i = 0; i < 16; ++i) {
    CHECK(x.writable(0, 0, i) >= 0);
    CHECK((x.writable(0, 1, i) >= 0) == (i == 0 || i >= 800 / 64));  // keys 800 … 999
    CHECK((x.writable(1, 0, i) >= 0) == (i == 0 || i >= 799 / 64));
  }
  x.poison_pages(freed.pages);
  CHECK(x.decode(attend) == before);
}

TEST_CASE("the cache grows, and is handed back again") {
  attention<retrieval_and_streaming> const attend{{full{}, streaming{1, 2}}};
  elastic_case<float> kept(300, 700, 1600, 128), shrunk(300, 700, 1600, 128);
  std::size_t handed = 0;
  for (int length = 300; length <= 1600; length += 50) {
    kept.lengths[0] = shrunk.lengths[0] = length;
    CHECK(shrunk.decode(attend) == kept.decode(attend));
    handed_back const freed = attend.hand_back(shrunk.cache, shrunk.writable, shrunk.assignment());
    shrunk.poison_pages(freed.pages);
    handed += freed.pages.size();
    CHECK(shrunk.pages_held() == shrunk.pages_by_formula(128, 256));
    CHECK(shrunk.decode(attend) == kept.decode(attend));
  }
  CHECK(handed == 16);
}

TEST_CASE("queries still to come keep their keys") {
  attention<sliding_window> const attend{sliding_window{100}};
  elastic_case<float> x(1000, 1000, 1024, 16);
  std::fill(x.routes.begin(), x.routes.end(), 0);
  attend.hand_back(x.cache, x.writable, x.assignment(), {}, 64);
  CHECK(x.writable(0, 0, (1000 - 64 - 99) / 16) >= 0);
  CHECK(x.writable(0, 0, (1000 - 64 - 99) / 16 - 1) == absent_page);
}

TEST_CASE("a KV head is given up only by all its query heads, a page only by all rows that name it") {
  attention<retrieval_and_streaming> const attend{{full{}, streaming{0, 1}}};
  elastic_case<float> x(1024, 1024, 1024, 128);
  x.routes = {1, 0, 1, 1, 0, 0, 1, 1};
  x.writable(1, 1, 2) = x.writable(0, 0, 2);  // a shared prefix
  handed_back const freed = attend.hand_back(x.cache, x.writable, x.assignment());
  for (int i = 0; i < 8; ++i) {
    CHECK(x.writable(0, 0, i) >= 0);
    CHECK(x.writable(1, 0, i) >= 0);
    CHECK((x.writable(0, 1, i) >= 0) == (i == 7));
    CHECK((x.writable(1, 1, i) >= 0) == (i == 7));
  }
  CHECK(freed.pages.size() == 13);
  CHECK(std::count(freed.pages.begin(), freed.pages.end(), x.writable(0, 0, 2)) == 0);
}

TEST_CASE("dense decode and modes that cannot say keep everything") {
  elastic_case<float> x(1024, 1000, 1024, 128);
  options dense;
  dense.dense_decode = true;
  CHECK(attention<retrieval_and_streaming>{{full{}, streaming{0, 1}}}
            .hand_back(x.cache, x.writable, x.assignment(), dense)
            .pages.empty());
  CHECK(attention<hybrid<full, triangle>>{}.hand_back(x.cache, x.writable, x.assignment()).pages.empty());
  CHECK(attention<hybrid<full, moba>>{}.hand_back(x.cache, x.writable, x.assignment()).pages.empty());
}

TEST_CASE("tables that do not fit are refused") {
  attention<retrieval_and_streaming> const attend;
  elastic_case<float> x(256, 256, 256, 128);
  page_table other = x.writable;
  other.extents[2] = 1;
  CHECK_THROWS_WITH_AS(attend.hand_back(x.cache, other, x.assignment()),
                       "elastic: table: got (2, 2, 1), expected (2, 2, 2) as the cache's", error);
  CHECK_THROWS_AS(attend.hand_back(x.cache, x.writable, x.assignment(), {}, -1), error);
  x.routes[3] = 2;
  CHECK_THROWS_AS(attend.hand_back(x.cache, x.writable, x.assignment()), error);
}
