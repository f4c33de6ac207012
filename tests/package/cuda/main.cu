// Compiles a variant for 90a, and runs as far as there is a device.
#include <string>

#include <elastic/cuda/cuda.cuh>

int main() {
  if (!elastic::sm90_is_built) return 2;  // elastic::cuda does not say that 90a is built
  elastic::attention<elastic::streaming, elastic::fixed_router, elastic::cuda_for<64>> const attend;
  elastic::problem p;
  p.head_dim = 64;
  try {
    return std::string(name_of(attend.backend().kernel<elastic::bfloat16>(p))) != "none" ? 0 : 1;
  } catch (elastic::error const& thrown) {
    return thrown.argument() == "device" ? 0 : 1;
  }
}
