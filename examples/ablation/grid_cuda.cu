#include "variant_cuda.cuh"

#include "grid.hpp"

namespace examples {

std::vector<variant> make_cuda_grid(parameters const& p, mlp_router const& mlp, int kv_heads) {
  mlp_router on_device = mlp;
  on_device.weights = upload(mlp.weights);
  return make_grid(p, on_device, kv_heads, cuda_for<64, 128>{});
}

}  // namespace examples
