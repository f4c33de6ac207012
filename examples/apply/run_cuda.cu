#include "attend_cuda.cuh"

namespace examples {

void apply_on_cuda(arguments const& given) { apply_on(cuda_for<64, 128>{}, given); }

}  // namespace examples
