// Safetensors files for tests, byte by byte, and what is said of those that are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <elastic/io/safetensors.hpp>

namespace elastic::testing {

using bytes = std::vector<std::byte>;

/// A file from its JSON and so many bytes of data.
inline bytes file_of(std::string_view json, std::size_t data_bytes = 0) {
  std::uint64_t const length = json.size();
  bytes all(sizeof length + json.size() + data_bytes);
  std::memcpy(all.data(), &length, sizeof length);
  std::memcpy(all.data() + sizeof length, json.data(), json.size());
  return all;
}

inline std::string message_of(auto&& action) {
  try {
    action();
  } catch (error const& error) {
    return error.what();
  }
  return "nothing thrown";
}

inline std::string refusal(std::string_view json, std::size_t data_bytes = 0) {
  return message_of([&] { static_cast<void>(safetensors_file::from_bytes(file_of(json, data_bytes), "f")); });
}

inline void check_contains(std::string const& message, std::initializer_list<std::string_view> parts) {
  for (auto const part : parts) {
    INFO(message);
    INFO(std::string(part));
    CHECK(message.find(part) != std::string::npos);
  }
}

}  // namespace elastic::testing
