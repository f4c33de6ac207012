// The table of modes that `apply` runs by name.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>

#include "parameters.hpp"

namespace examples {

/// f(name, mode with its defaults, what it is) for each.
void for_each_mode(auto&& f) {
  f("full", full{}, "every key");
  f("sliding_window", sliding_window{}, "the latest keys");
  f("streaming", streaming{}, "the first keys and the latest");
  f("triangle", triangle{}, "streaming, the last rows dense; full in the first layers");
  f("block_sparse", block_mask{}, "the blocks that the tensor block_mask names");
  f("antidiagonal", antidiagonal{}, "blocks by antidiagonal scores (XAttention)");
  f("pooled_top_k", pooled_top_k{}, "blocks by mean-pooled scores (MInference)");
  f("moba", moba{}, "blocks by a gate, per query (MoBA)");
  f("vertical_slash", vertical_slash{}, "columns and diagonals (MInference)");
  f("top_k", top_k{}, "keys by score, per query");
  f("fa_ssa", hybrid{full{}, streaming{}}, "full or streaming, head by head");
  f("fa_xa", hybrid{full{}, antidiagonal{}}, "full or antidiagonal, head by head");
  f("xa_ssa", hybrid{antidiagonal{}, streaming{}}, "antidiagonal or streaming, head by head");
}

/// f(mode with its defaults) for the one of that name; FA-SSA is fa_ssa.
void with_mode(std::string name, auto&& f) {
  std::string const given = name;
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::tolower(c)); });
  bool known = false;
  std::string names;
  for_each_mode([&](char const* entry, auto const& mode, char const*) {
    names += (names.empty() ? "" : ", ") + std::string(entry);
    if (known || name != entry) return;
    known = true;
    f(mode);
  });
  if (!known) throw error("--mode", "\"" + given + "\"", "one of " + names);
}

}  // namespace examples
