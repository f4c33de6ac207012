// The parameters of the ablation's variants.
#pragma once

#include <cmath>

#include <elastic/attention.hpp>

namespace examples {

using namespace elastic;

struct parameters {
  streaming by_token{128, 2048, granularity::token, alignment::position};
  streaming by_block{1, 16, granularity::block, alignment::position};
  antidiagonal blocks{};
  moba gate{.block = 1024, .k = 8};
  vertical_slash lines{};
  triangle mix{};

  /// Those of the papers, for inputs of 8K tokens and more; the defaults of the library.
  static parameters of_papers() { return {}; }

  /// For 2,048 keys; other lengths scale what is counted in tokens, so that densities stay about the same.
  static parameters scaled_to(int keys) {
    double const factor = keys / 2048.;
    auto const scaled = [&](int tokens, int least) {
      return maximum(least, static_cast<int>(std::lround(tokens * factor)));
    };
    parameters p;
    p.by_token.sink = scaled(64, 16);
    p.by_token.local = scaled(256, 64);
    p.by_block.sink = 1;
    p.by_block.local = scaled(2, 1);
    p.blocks = {.stride = 16, .threshold = 0.9f};
    p.gate = {.block = scaled(128, 32), .k = 4};
    p.lines.columns = scaled(64, 32);
    p.lines.forced_columns = 30;
    p.lines.offsets = scaled(256, 64);
    p.mix = {.sink = 8, .local = scaled(256, 64), .last = 128, .layer_threshold = 0};
    return p;
  }
};

}  // namespace examples
