// Each (sequence, KV head, layer) goes to the last route with a probability, else to route 0, all
// independently. The draw is a hash of (seed, layer, sequence, KV head), SplitMix64's finaliser in a
// chain, so it does not depend on any order and is the same on host and device.
#pragma once

#include <cstdint>

#include <elastic/routers/router.hpp>

namespace elastic {

struct random_router {
  std::uint64_t seed = 0;
  double probability = 0.5;  // 0 to 1

  /// Uniform in [0, 1), in steps of 2^-53.
  ELASTIC_HOST_DEVICE static double draw(std::uint64_t seed, int layer, int sequence, int kv_head) {
    std::uint64_t x = mix(seed + 0x9e3779b97f4a7c15u);
    x = mix(x ^ static_cast<std::uint32_t>(layer));
    x = mix(x ^ static_cast<std::uint32_t>(sequence));
    x = mix(x ^ static_cast<std::uint32_t>(kv_head));
    return static_cast<double>(x >> 11) * 0x1p-53;
  }

  ELASTIC_HOST_DEVICE int operator()(problem const& p, int sequence, int query_head, int modes) const {
    return draw(seed, p.layer, sequence, query_head / p.group()) < probability ? modes - 1 : 0;
  }

  void check(problem const& p, int) const {
    require(probability >= 0 && probability <= 1, "random_router.probability", probability, "0 to 1");
    detail::require_kv_heads(p);
  }

 private:
  ELASTIC_HOST_DEVICE static std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) + 0x9e3779b97f4a7c15u;
  }
};

static_assert(head_router<random_router>);

}  // namespace elastic
