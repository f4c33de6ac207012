// Random problems with the hybrid modes.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: hybrid modes") { elastic::testing::run_random_problems(elastic::testing::hybrid_modes{}); }
