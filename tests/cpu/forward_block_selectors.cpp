// Random problems with the block selectors.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: block selectors") {
  elastic::testing::run_random_problems(elastic::testing::block_selectors{});
}
