#include <elastic/cpu/parallel.hpp>

#include <doctest/doctest.h>

#include <pthread.h>

#include <atomic>
#include <stdexcept>
#include <vector>

using elastic::detail::parallel_for;

TEST_CASE("every item is taken once, whatever the threads") {
  for (int threads : {1, 2, 3, 8})
    for (int items : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> taken(static_cast<std::size_t>(items));
      std::atomic<bool> outside = false;
      parallel_for(items, threads, [&](std::int64_t item, int thread) {
        ++taken[static_cast<std::size_t>(item)];
        if (thread < 0 || thread >= threads) outside = true;
      });
      for (auto const& times : taken) REQUIRE(times == 1);
      CHECK(!outside);
    }
}

TEST_CASE("the first exception comes back to the caller, and the rest is left") {
  for (int threads : {1, 3}) {
    std::atomic<int> taken = 0;
    CHECK_THROWS_WITH_AS(parallel_for(100000, threads,
                                      [&](std::int64_t item, int) {
                                        ++taken;
                                        if (item == 5) throw std::runtime_error("item 5");
                                      }),
                         "item 5", std::runtime_error);
    CHECK(taken < 100000);
  }
}

#ifdef __GLIBC__
TEST_CASE("where the system gives no thread the caller's own does the work") {
  pthread_attr_t usual, endless;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  pthread_attr_init(&endless);
  pthread_attr_setstacksize(&endless, std::size_t{1} << 60);
  REQUIRE(pthread_setattr_default_np(&endless) == 0);
  std::vector<int> taken(1000);
  CHECK_NOTHROW(parallel_for(1000, 8, [&](std::int64_t item, int) { ++taken[static_cast<std::size_t>(item)]; }));
  pthread_setattr_default_np(&usual);
  for (int const times : taken) REQUIRE(times == 1);
}
#endif
