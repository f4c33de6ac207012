// Random problems with the planned modes.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: planned modes") {
  elastic::testing::run_random_problems(elastic::testing::planned_modes{});
}
