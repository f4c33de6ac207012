#include "run.hpp"

namespace examples {

void apply_on_cpu(arguments const& given) { apply_on(cpu{}, given); }

}  // namespace examples
