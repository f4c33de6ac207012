// Random problems with selectors that fall back to full attention.
#include <elastic/cpu/forward.hpp>

#include "support/random_problem.hpp"

TEST_CASE("random problems: selectors that fall back to full attention") {
  elastic::testing::run_random_problems(elastic::testing::auto_dense_modes{});
}
