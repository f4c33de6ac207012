// The routes are given: per layer and head, the same for every input (DuoAttention, PruLong). Loaded
// from a file by io/routes.hpp. An empty table sends every head to route 0.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <elastic/core/error.hpp>
#include <elastic/routers/router.hpp>

namespace elastic {

class fixed_router {
 public:
  fixed_router() = default;

  /// `routes` is (layers, query_heads), row-major.
  fixed_router(std::vector<std::int32_t> routes, int query_heads)
      : routes_(std::make_shared<std::vector<std::int32_t> const>(std::move(routes))), query_heads_(query_heads) {
    require(query_heads > 0 && routes_->size() % static_cast<std::size_t>(query_heads) == 0, "fixed_router.routes",
            routes_->size(), "layers × query_heads routes");
  }

  int operator()(problem const& p, int, int query_head, int) const {
    return routes_ == nullptr ? 0
                              : (*routes_)[static_cast<std::size_t>(p.layer) * static_cast<std::size_t>(query_heads_) +
                                           static_cast<std::size_t>(query_head)];
  }

  void check(problem const& p, int modes) const {
    if (routes_ == nullptr) return;
    require(p.query_heads == query_heads_, "fixed_router.routes", query_heads_,
            "routes for the problem's " + std::to_string(p.query_heads) + " query heads");
    int const layers = static_cast<int>(routes_->size() / static_cast<std::size_t>(query_heads_));
    require(p.layer < layers, "options.layer", p.layer,
            "one of the " + std::to_string(layers) + " layers that have routes");
    for (std::int32_t route : *routes_)
      require(route >= 0 && route < modes, "fixed_router.routes", route, "0 to " + std::to_string(modes - 1));
  }

 private:
  std::shared_ptr<std::vector<std::int32_t> const> routes_;
  int query_heads_ = 0;
};

static_assert(head_router<fixed_router>);

}  // namespace elastic
