// Random problems with the hooked modes.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: hooked modes") { elastic::testing::run_random_problems(elastic::testing::hooked_modes{}); }
