// The names of parameters: every mode lists its fields once, under the names they have in its header, and
// setting, listing and printing all go through that list.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <elastic/attention.hpp>

namespace examples {

using namespace elastic;

template <class Enum>
inline constexpr auto enumerators = nullptr;
template <>
inline constexpr std::array enumerators<granularity>{"token", "block"};
template <>
inline constexpr std::array enumerators<alignment>{"position", "query_block"};
template <>
inline constexpr std::array enumerators<selection_rule>{"greedy", "first_chunk"};
template <>
inline constexpr std::array enumerators<pooling>{"boundary", "mean"};
template <>
inline constexpr std::array enumerators<class_index>{"code", "paper"};

// fields(mode, f) calls f(name, field) for each parameter.
void fields(auto&, auto&&) {}
void fields(sliding_window& m, auto&& f) { f("window", m.window); }
void fields(streaming& m, auto&& f) {
  f("sink", m.sink), f("local", m.local), f("granularity", m.granularity), f("alignment", m.alignment);
}
void fields(triangle& m, auto&& f) {
  f("sink", m.sink), f("local", m.local), f("last", m.last), f("layer_threshold", m.layer_threshold);
}
void fields(block_mask& m, auto&& f) { f("block_rows", m.block_rows), f("block_columns", m.block_columns); }
void fields(antidiagonal& m, auto&& f) {
  f("block", m.block), f("stride", m.stride), f("threshold", m.threshold), f("rule", m.rule), f("chunk", m.chunk);
}
void fields(pooled_top_k& m, auto&& f) {
  f("block_rows", m.block_rows), f("block_columns", m.block_columns), f("k", m.k);
}
void fields(moba& m, auto&& f) { f("block", m.block), f("k", m.k); }
void fields(vertical_slash& m, auto&& f) {
  f("columns", m.columns), f("offsets", m.offsets), f("forced_columns", m.forced_columns);
  f("forced_offsets", m.forced_offsets), f("last", m.last), f("estimate_scale", m.estimate_scale);
  f("slash_block", m.slash_block);
}
void fields(top_k& m, auto&& f) { f("k", m.k); }
void fields(mlp_router& r, auto&& f) { f("pooling", r.pooling), f("class_index", r.class_index); }
template <class A, class B>
void fields(hybrid<A, B>& m, auto&& f) {
  fields(m.parts.first, f), fields(m.parts.rest.first, f);
}

/// The shortest text that reads back as the same number. (No fmt here: nvcc compiles this header too.)
template <class T>
std::string number_text(T value) {
  char text[64];
  return {text, std::to_chars(text, text + sizeof(text), value).ptr};
}

template <class T>
std::string text_of(T const& value) {
  if constexpr (std::is_enum_v<T>)
    return enumerators<T>[static_cast<std::size_t>(value)];
  else
    return number_text(value);
}

/// "sink=1 local=16 granularity=block"
template <class M>
std::string describe(M mode) {
  std::string text;
  fields(mode, [&](char const* name, auto const& value) {
    text += (text.empty() ? "" : " ") + std::string(name) + "=" + text_of(value);
  });
  return text;
}

/// The number that the whole text spells; not a NaN or an infinity.
template <class T>
  requires(std::integral<T> || std::floating_point<T>)
T parse_number(std::string const& argument, std::string_view text) {
  T value{};
  auto const [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = failure == std::errc{} && end == text.data() + text.size();
  if constexpr (std::floating_point<T>) whole = whole && std::isfinite(value);
  if (!whole)
    throw error(argument, "\"" + std::string(text) + "\"", std::integral<T> ? "an integer" : "a finite number");
  return value;
}

template <class T>
void parse_into(std::string const& argument, std::string_view text, T& value) {
  if constexpr (std::is_enum_v<T>) {
    std::string names;
    for (std::size_t i = 0; i < enumerators<T>.size(); ++i) {
      if (text == enumerators<T>[i]) return void(value = static_cast<T>(i));
      names += (i > 0 ? " or " : "") + std::string(enumerators<T>[i]);
    }
    throw error(argument, "\"" + std::string(text) + "\"", names);
  } else {
    value = parse_number<T>(argument, text);
  }
}

/// Sets fields of `parts` from "key=value" texts: every key once, and each a field of one of them.
template <class... Parts>
void set_fields(std::vector<std::string> const& texts, Parts&... parts) {
  std::set<std::string, std::less<>> seen;
  for (std::string const& text : texts) {
    std::size_t const split = text.find('=');
    if (split == text.npos) throw error("--set", "\"" + text + "\"", "key=value");
    std::string const key = text.substr(0, split);
    if (!seen.insert(key).second) throw error("--set", "\"" + key + "\" twice", "every key once");
    bool known = false;
    std::string keys;
    auto const take = [&](char const* name, auto& value) {
      keys += (keys.empty() ? "" : ", ") + std::string(name);
      if (key != name) return;
      parse_into("--set " + key, std::string_view(text).substr(split + 1), value);
      known = true;
    };
    (fields(parts, take), ...);
    if (!known)
      throw error("--set", "\"" + key + "\"", keys.empty() ? "no key: there is nothing to set" : "one of " + keys);
  }
}

}  // namespace examples
