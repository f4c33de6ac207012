// Random problems with the fine selectors.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: fine selectors") {
  elastic::testing::run_random_problems(elastic::testing::fine_selectors{});
}
