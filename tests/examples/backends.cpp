// The backends of a program that has no reference, `quickstart` and `custom_mode`: what it refuses, it names nowhere as
// expected.
#include "program.hpp"

using namespace elastic::testing;

TEST_CASE("--backend") {
  scratch_folder const here;
  CHECK(run(here, "").status == 0);
  CHECK(run(here, "--backend cpu").status == 0);
  CHECK(run(here, "--backend abacus").refused("--backend: got abacus, expected cpu"));
  CHECK(run(here, "--backend reference").refused("--backend: got reference, expected cpu"));
#ifndef ELASTIC_EXAMPLES_CUDA
  CHECK(run(here, "--backend cuda").refused("--backend: got cuda, expected cpu: this build has no CUDA"));
#endif
}
