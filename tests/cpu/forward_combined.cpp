// Random problems with the combined modes.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: combined modes") {
  elastic::testing::run_random_problems(elastic::testing::combined_modes{});
}
