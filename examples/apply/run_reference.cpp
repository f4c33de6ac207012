#include "run.hpp"

namespace examples {

void apply_on_reference(arguments const& given) { apply_on(reference{}, given); }

}  // namespace examples
