// Reads a safetensors file: all of it is read and checked when it is opened; then tensors are viewed
// in place or loaded with conversion. Files come from anywhere: whatever the bytes say, opening
// either gives tensors that lie within the data or throws elastic::error.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <elastic/core/error.hpp>
#include <elastic/core/view.hpp>
#include <elastic/io/safetensors_convert.hpp>
#include <elastic/io/safetensors_header.hpp>

namespace elastic {

class safetensors_file {
 public:
  /// Reads a file into memory.
  /// @throws error if it cannot be read or is malformed, naming the path and the tensor
  static safetensors_file open(std::filesystem::path const& path) {
    std::string const source = path.string();
    std::error_code failure;
    bool const regular = std::filesystem::is_regular_file(path, failure);
    std::uintmax_t const bytes = regular ? std::filesystem::file_size(path, failure) : 0;
    std::ifstream stream;
    if (regular && !failure) stream.open(path, std::ios::binary);
    require(stream.is_open(), "path", detail::in_quotes(source), "a file that can be read");
    return parse(bytes, source, [&](void* to, std::uint64_t count) {
      stream.read(static_cast<char*>(to), static_cast<std::streamsize>(count));
      if (!stream) throw error(source, "an end or a failure while reading", std::to_string(bytes) + " bytes");
    });
  }

  /// The same from memory, which is copied. `source` is what messages call it.
  static safetensors_file from_bytes(std::span<std::byte const> bytes, std::string const& source = "bytes") {
    return parse(bytes.size(), source, [&](void* to, std::uint64_t count) {
      if (count != 0) std::memcpy(to, bytes.data(), count);
      bytes = bytes.subspan(count);
    });
  }

  /// All tensors, ascending by offset.
  std::span<safetensors_entry const> entries() const& { return header_.entries; }
  std::span<safetensors_entry const> entries() const&& = delete;

  /// Their names, in the same order.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (auto const& entry : header_.entries) all.push_back(entry.name);
    return all;
  }

  bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }

  /// Type, shape and offsets of a tensor. @throws error if there is none of this name
  safetensors_entry const& entry(std::string_view name) const& {
    auto const found = index_.find(name);
    if (found == index_.end()) {
      throw error(source_, "tensor name " + detail::in_quotes(name), "one of " + some_names());
    }
    return header_.entries[found->second];
  }
  safetensors_entry const& entry(std::string_view name) const&& = delete;

  safetensors_dtype dtype(std::string_view name) const { return entry(name).dtype; }
  std::vector<std::int64_t> const& shape(std::string_view name) const& { return entry(name).shape; }
  std::vector<std::int64_t> const& shape(std::string_view name) const&& = delete;

  /// The file's `__metadata__`.
  safetensors_metadata const& metadata() const& { return header_.metadata; }
  safetensors_metadata const& metadata() const&& = delete;

  /// One of its strings. @throws error if there is none of this key
  std::string const& metadata(std::string_view key) const& {
    auto const found = header_.metadata.find(key);
    if (found == header_.metadata.end()) {
      throw error(source_, "metadata key " + detail::in_quotes(key), "a key of the file");
    }
    return found->second;
  }
  std::string const& metadata(std::string_view key) const&& = delete;

  /// A tensor's bytes, in place: dense, row-major, little-endian. They live as long as the file object
  /// and stay where they are when it is moved.
  std::span<std::byte const> bytes(std::string_view name) const& { return bytes(entry(name)); }
  std::span<std::byte const> bytes(std::string_view name) const&& = delete;

  /// A tensor in place, without a copy; it lives as long as the file object. BOOL is viewed as uint8_t.
  /// @throws error if dtype or rank differ, or if the file places the tensor at an offset that is no
  ///         multiple of alignof(T): load() it then
  template <safetensors_element T, int Rank>
    requires(Rank >= 1 && !std::same_as<T, bool>)
  strided_view<T const, Rank> view(std::string_view name) const& {
    auto const& tensor = entry(name);
    if (tensor.dtype != detail::dtype_of<T>() &&
        !(std::same_as<T, std::uint8_t> && tensor.dtype == safetensors_dtype::boolean)) {
      throw error(where(tensor), type_name(tensor.dtype), type_name(detail::dtype_of<T>()));
    }
    if (tensor.shape.size() != Rank) {
      throw error(where(tensor), "shape " + detail::shape_text(tensor.shape), std::to_string(Rank) + " dimensions");
    }
    // The data's base is aligned for every type, so the offset decides.
    if (tensor.begin % alignof(T) != 0) {
      throw error(where(tensor), "offset " + std::to_string(tensor.begin),
                  "a multiple of " + std::to_string(alignof(T)) + ", or load() instead of view()");
    }
    std::array<std::int64_t, Rank> shape{};
    std::ranges::copy(tensor.shape, shape.begin());
    return {reinterpret_cast<T const*>(bytes(tensor).data()), shape};
  }
  template <safetensors_element T, int Rank>
  strided_view<T const, Rank> view(std::string_view name) const&& = delete;

  /// A tensor's elements, row-major, converted to T. half, bfloat16, float and double convert among each
  /// other, rounding once to nearest even; integers convert to types that hold all their values.
  /// @throws error for other pairs, and for a BOOL byte other than 0 and 1
  template <safetensors_element T>
    requires(!std::same_as<T, bool>)  // std::vector<bool> has no elements to point to
  std::vector<T> load(std::string_view name) const {
    auto const& tensor = entry(name);
    return detail::with_type(tensor.dtype, [&]<class From>(std::type_identity<From>) -> std::vector<T> {
      if constexpr (detail::converts<From, T>()) {
        std::span<std::byte const> const from = bytes(tensor);
        std::vector<T> values(from.size() / sizeof(From));
        for (std::size_t i = 0; i < values.size(); ++i) {
          From value;
          std::memcpy(&value, from.data() + i * sizeof(From), sizeof(From));
          values[i] = detail::convert<T>(value);
          if constexpr (std::same_as<From, std::uint8_t>) {
            if (tensor.dtype == safetensors_dtype::boolean && value > 1) {
              throw error(where(tensor), "BOOL byte " + detail::show(value), "0 or 1");
            }
          }
        }
        return values;
      } else {
        throw error(where(tensor), type_name(tensor.dtype), "one of " + detail::names_that_convert<T>());
      }
    });
  }

 private:
  struct release {
    void operator()(std::byte* data) const { ::operator delete(data, alignment); }
  };
  static constexpr std::align_val_t alignment{64};

  safetensors_file() = default;

  template <class Read>
  static safetensors_file parse(std::uint64_t size, std::string const& source, Read&& read) {
    std::uint64_t length = 0;
    if (size < sizeof length) throw error(source, std::to_string(size) + " bytes", "8 bytes of header length");
    read(&length, sizeof length);
    std::uint64_t const rest = size - sizeof length;
    if (length > rest || length > detail::safetensors_header_limit) {
      throw error(source + ": header", "length " + std::to_string(length),
                  "at most " + std::to_string(std::min(rest, detail::safetensors_header_limit)) + " bytes");
    }
    std::string json(length, '\0');
    read(json.data(), length);

    safetensors_file file;
    file.source_ = source;
    file.header_ = detail::read_header(json, rest - length, source);
    for (std::size_t i = 0; i < file.header_.entries.size(); ++i) file.index_.emplace(file.header_.entries[i].name, i);
    file.data_.reset(static_cast<std::byte*>(::operator new(rest - length, alignment, std::nothrow)));
    if (file.data_ == nullptr)
      throw error(source, std::to_string(rest - length) + " bytes of tensors", "as many as fit in memory");
    read(file.data_.get(), rest - length);
    return file;
  }

  std::span<std::byte const> bytes(safetensors_entry const& tensor) const {
    return {data_.get() + tensor.begin, tensor.end - tensor.begin};
  }

  std::string where(safetensors_entry const& tensor) const {
    return source_ + ": tensor " + detail::in_quotes(tensor.name);
  }

  static std::string type_name(safetensors_dtype dtype) { return "dtype " + std::string(detail::type_of(dtype).name); }

  std::string some_names() const {
    std::string text;
    for (std::size_t i = 0; i < header_.entries.size() && i < 8; ++i) {
      text += (i ? ", " : "") + detail::in_quotes(header_.entries[i].name);
    }
    return text + (header_.entries.size() > 8 ? ", …" : header_.entries.empty() ? "none" : "");
  }

  std::string source_;
  safetensors_header header_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::unique_ptr<std::byte, release> data_;
};

}  // namespace elastic
