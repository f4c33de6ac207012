#include "grid.hpp"

namespace examples {

std::vector<variant> make_reference_grid(parameters const& p, mlp_router const& mlp, int kv_heads) {
  return make_grid(p, mlp, kv_heads, reference{});
}

}  // namespace examples
