// Text that came from outside, made fit for a message: names of files, and what they hold.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <elastic/core/printable.hpp>

namespace elastic::detail {

/// Quoted, escaped, valid UTF-8 and not endless.
inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t limit = 120;
  std::string const json =
      nlohmann::json(std::string(text.substr(0, limit))).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return printable(json) + (text.size() > limit ? "…" : "");
}

}  // namespace elastic::detail
