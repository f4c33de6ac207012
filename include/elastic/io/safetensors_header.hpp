// The header of a safetensors file: the tensors it names, their types, shapes and places in the data.
// Layout: 8 bytes N, little-endian; N bytes of JSON; then the tensors' bytes, dense, row-major,
// little-endian, without holes. The JSON is read by events, not into a tree, so that its nesting,
// duplicate keys and memory are under control whatever it says.
// Source: the format section of github.com/huggingface/safetensors.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <elastic/core/dtype.hpp>
#include <elastic/core/error.hpp>
#include <elastic/io/in_quotes.hpp>

namespace elastic {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

/// Element types that a file may hold. Float8 and narrower types are refused as unknown.
enum class safetensors_dtype : std::uint8_t { boolean, u8, i8, u16, i16, f16, bf16, u32, i32, f32, u64, i64, f64 };

/// C++ types that stand for one of them; bool can be written, and is read as uint8_t.
template <class T>
concept safetensors_element =
    element<T> || std::same_as<T, double> || std::same_as<T, bool> || std::same_as<T, std::int8_t> ||
    std::same_as<T, std::uint8_t> || std::same_as<T, std::int16_t> || std::same_as<T, std::uint16_t> ||
    std::same_as<T, std::int32_t> || std::same_as<T, std::uint32_t> || std::same_as<T, std::int64_t> ||
    std::same_as<T, std::uint64_t>;

/// One tensor of a file. `begin` and `end` are byte offsets from the start of the data.
struct safetensors_entry {
  std::string name;
  safetensors_dtype dtype = safetensors_dtype::u8;
  std::vector<std::int64_t> shape;  // row-major; empty for a scalar
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

using safetensors_metadata = std::map<std::string, std::string, std::less<>>;

/// A header that was checked: entries ascend by offset and fill the data from end to end.
struct safetensors_header {
  std::vector<safetensors_entry> entries;
  safetensors_metadata metadata;
};

namespace detail {

struct safetensors_type {
  safetensors_dtype dtype;
  std::string_view name;  // as spelled in a file
  std::uint64_t bytes;
};

inline constexpr std::array<safetensors_type, 13> safetensors_types{{
    {safetensors_dtype::boolean, "BOOL", 1},
    {safetensors_dtype::u8, "U8", 1},
    {safetensors_dtype::i8, "I8", 1},
    {safetensors_dtype::u16, "U16", 2},
    {safetensors_dtype::i16, "I16", 2},
    {safetensors_dtype::f16, "F16", 2},
    {safetensors_dtype::bf16, "BF16", 2},
    {safetensors_dtype::u32, "U32", 4},
    {safetensors_dtype::i32, "I32", 4},
    {safetensors_dtype::f32, "F32", 4},
    {safetensors_dtype::u64, "U64", 8},
    {safetensors_dtype::i64, "I64", 8},
    {safetensors_dtype::f64, "F64", 8},
}};

// The limit of the reference implementation.
inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;

constexpr safetensors_type const& type_of(safetensors_dtype dtype) {
  return safetensors_types[static_cast<std::size_t>(dtype)];
}

inline std::string shape_text(std::vector<std::int64_t> const& shape) {
  constexpr std::size_t limit = 16;
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size() && i < limit; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() > limit ? ", …]" : "]");
}

/// Bytes of a tensor; nothing if a dimension is negative or the count leaves 63 bits.
inline std::optional<std::uint64_t> byte_count(std::vector<std::int64_t> const& shape, safetensors_dtype dtype) {
  constexpr std::uint64_t limit = std::numeric_limits<std::int64_t>::max();
  std::uint64_t bytes = type_of(dtype).bytes;
  for (std::int64_t const extent : shape) {
    if (extent < 0) return std::nullopt;
    auto const factor = static_cast<std::uint64_t>(extent);
    if (factor != 0 && bytes > limit / factor) return std::nullopt;
    bytes *= factor;
  }
  return bytes;
}

/// Receives the events of the JSON parser and accepts exactly the header's grammar:
/// {name: {"dtype": string, "shape": [integer…], "data_offsets": [begin, end]}…, "__metadata__": {string: string…}}.
class safetensors_header_reader {
 public:
  safetensors_header_reader(std::string const& source, safetensors_header& header) : source_(source), header_(header) {}

  bool null() { return refuse("null"); }
  bool boolean(bool value) { return refuse(show(value)); }
  bool number_integer(std::int64_t value) { return refuse(show(value)); }
  bool number_float(double, std::string const& text) { return refuse(in_quotes(text)); }
  bool binary(std::vector<std::uint8_t>&) { return refuse("binary data"); }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == place::shape && value <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
      entry_.shape.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == place::data_offsets && offsets_ < 2) {
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
    } else {
      refuse(show(value));
    }
    return true;
  }

  bool string(std::string& value) {
    if (place_ == place::metadata) {
      header_.metadata[key_] = std::move(value);
    } else if (place_ == place::tensor && key_ == "dtype") {
      for (auto const& type : safetensors_types) {
        if (type.name != value) continue;
        entry_.dtype = type.dtype;
        return true;
      }
      refuse("dtype " + in_quotes(value));
    } else {
      refuse("string " + in_quotes(value));
    }
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == place::before) {
      place_ = place::header;
    } else if (place_ == place::header && key_ == "__metadata__") {
      place_ = place::metadata;
    } else if (place_ == place::header) {
      place_ = place::tensor;
      entry_ = {.name = key_, .shape = {}};
      seen_.clear();
    } else {
      refuse("an object");
    }
    return true;
  }

  bool key(std::string& name) {
    key_ = std::move(name);
    if (place_ == place::header) {
      if (!names_.emplace(key_, 0).second)
        throw error(where("header"), "key " + in_quotes(key_) + " twice", "unique keys");
    } else if (place_ == place::metadata) {
      if (header_.metadata.contains(key_)) {
        throw error(where("__metadata__"), "key " + in_quotes(key_) + " twice", "unique keys");
      }
    } else {
      bool const known = key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
      bool const twice = std::ranges::find(seen_, key_) != seen_.end();
      if (!known || twice) {
        throw error(where("tensor " + in_quotes(entry_.name)), "key " + in_quotes(key_) + (twice ? " twice" : ""),
                    "dtype, shape and data_offsets, once each");
      }
      seen_.push_back(key_);
    }
    return true;
  }

  bool end_object() {
    if (place_ == place::tensor) {
      if (seen_.size() != 3) refuse("an object without all three");
      header_.entries.push_back(std::move(entry_));
    }
    place_ = place_ == place::header ? place::after : place::header;
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ == place::tensor && key_ == "shape") {
      place_ = place::shape;
    } else if (place_ == place::tensor && key_ == "data_offsets") {
      place_ = place::data_offsets;
      offsets_ = 0;
    } else {
      refuse("an array");
    }
    return true;
  }

  bool end_array() {
    if (place_ == place::data_offsets && offsets_ != 2) refuse("fewer than two numbers");
    place_ = place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, std::string const&, nlohmann::json::exception const& what) {
    throw error(where("header"), "no JSON at byte " + std::to_string(position) + ": " + in_quotes(what.what()),
                "JSON in UTF-8");
  }

 private:
  enum class place { before, header, metadata, tensor, shape, data_offsets, after };

  std::string where(std::string const& what) const { return source_ + ": " + what; }

  [[noreturn]] bool refuse(std::string const& given) const {
    std::string const tensor = "tensor " + in_quotes(entry_.name);
    switch (place_) {
      case place::header:
        if (key_ != "__metadata__") throw error(where("tensor " + in_quotes(key_)), given, "an object");
        throw error(where(key_), given, "an object of strings");
      case place::metadata:
        throw error(where("__metadata__, key " + in_quotes(key_)), given, "a string");
      case place::tensor:
        if (key_ == "dtype") throw error(where(tensor + ", dtype"), given, "one of " + dtype_names());
        if (key_ == "shape") throw error(where(tensor + ", shape"), given, "an array of extents");
        throw error(where(tensor), given, "dtype, shape and data_offsets, once each");
      case place::shape:
        throw error(where(tensor + ", shape"), given, "extents from 0 to 2^63 - 1");
      case place::data_offsets:
        throw error(where(tensor + ", data_offsets"), given, "two offsets [begin, end]");
      case place::before:
      case place::after:
        break;
    }
    throw error(where("header"), given, "a JSON object");
  }

  static std::string dtype_names() {
    std::string names;
    for (auto const& type : safetensors_types) names += (names.empty() ? "" : ", ") + std::string(type.name);
    return names;
  }

  std::string const& source_;
  safetensors_header& header_;
  std::map<std::string, int> names_;
  place place_ = place::before;
  std::string key_;
  safetensors_entry entry_;
  std::vector<std::string> seen_;
  int offsets_ = 0;
};

/// Reads and checks a header.
/// @param json       the JSON text
/// @param data_bytes bytes that follow it in the file
/// @param source     what messages call the file
/// @throws error     that names the tensor, what came and what was expected
inline safetensors_header read_header(std::string_view json, std::uint64_t data_bytes, std::string const& source) {
  // The format wants it, and it keeps a byte order mark out.
  if (!json.starts_with('{')) throw error(source + ": header", in_quotes(json.substr(0, 20)), "a JSON object");
  // The parser would take a NUL for the end of its input and ignore what follows.
  auto const nul = json.find('\0');
  if (nul != json.npos) throw error(source + ": header", "a NUL at byte " + std::to_string(nul), "JSON in UTF-8");
  safetensors_header header;
  safetensors_header_reader reader(source, header);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);

  auto& entries = header.entries;
  for (auto const& entry : entries) {
    auto const field = [&](char const* name) { return source + ": tensor " + in_quotes(entry.name) + ", " + name; };
    auto const bytes = byte_count(entry.shape, entry.dtype);
    if (!bytes) throw error(field("shape"), shape_text(entry.shape), "a size in bytes below 2^63");
    std::string const offsets = std::to_string(entry.begin) + " to " + std::to_string(entry.end);
    if (entry.begin > entry.end || entry.end > data_bytes) {
      throw error(field("data_offsets"), offsets, "0 <= begin <= end <= " + std::to_string(data_bytes));
    }
    if (entry.end - entry.begin != *bytes) {
      throw error(field("data_offsets"), offsets,
                  std::to_string(*bytes) + " bytes for " + std::string(type_of(entry.dtype).name) + " " +
                      shape_text(entry.shape));
    }
  }
  std::ranges::stable_sort(entries, {}, [](auto const& entry) { return std::pair(entry.begin, entry.end); });
  std::uint64_t filled = 0;
  for (auto const& entry : entries) {
    if (entry.begin != filled) {
      throw error(source + ": tensor " + in_quotes(entry.name) + ", data_offsets",
                  "begin " + std::to_string(entry.begin),
                  std::to_string(filled) + ": tensors follow one another without overlap or hole");
    }
    filled = entry.end;
  }
  if (filled != data_bytes) {
    throw error(source + ": data", std::to_string(data_bytes) + " bytes",
                std::to_string(filled) + ": as many as the tensors fill");
  }
  return header;
}

}  // namespace detail
}  // namespace elastic
