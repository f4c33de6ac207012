// Text that came from outside, made fit for a terminal.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

namespace elastic::detail {

/// Bytes of the UTF-8 sequence at the front of a text that a terminal only shows. 0 where it might obey, or reorder the
/// line: control characters (ASCII's and U+0080 to U+009F), marks of bidirectional text, bytes that are no UTF-8.
inline std::size_t shown_size(std::string_view text) {
  auto const byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  unsigned const lead = byte(0);
  if (lead < 0x80) return lead < 0x20 || lead == 0x7f ? 0 : 1;
  std::size_t const size = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  for (std::size_t i = 1; i < size; ++i)
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  bool const controls = lead == 0xc2 && byte(1) < 0xa0;
  bool const marks = lead == 0xe2 && byte(1) == 0x80 && (byte(2) / 2 == 0x8e / 2 || (byte(2) > 0xa9 && byte(2) < 0xaf));
  bool const isolates = lead == 0xe2 && byte(1) == 0x81 && byte(2) > 0xa5 && byte(2) < 0xaa;
  return controls || marks || isolates ? 0 : size;
}

/// What a terminal does not only show as \x0d and so on: it would obey.
inline std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    std::size_t const size = shown_size(text);
    if (size == 0) {
      std::array<char, 5> escaped;
      std::snprintf(escaped.data(), escaped.size(), "\\x%02x", static_cast<unsigned char>(text.front()));
      shown += escaped.data();
    } else {
      shown += text.substr(0, size);
    }
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return shown;
}

}  // namespace elastic::detail
