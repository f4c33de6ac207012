// Random problems with the plain modes. The other lists of support/modes.hpp have a file of their own each.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: single modes") { elastic::testing::run_random_problems(elastic::testing::single_modes{}); }
