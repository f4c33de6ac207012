#include <vector>

#include <elastic/attention.hpp>

int main() {
  std::vector<float> q(3 * 4 * 32, 1.0f), k(3 * 2 * 32, 1.0f), v(3 * 2 * 32, 0.5f), out(3 * 4 * 32);
  using view = elastic::heads_view<float>;
  elastic::attention attend{elastic::streaming{}};
  attend(view(q.data(), {1, 3, 4, 32}), view(k.data(), {1, 3, 2, 32}), view(v.data(), {1, 3, 2, 32}),
         view(out.data(), {1, 3, 4, 32}));
  return out.back() == 0.5f ? 0 : 1;  // the mean of equal values
}
