// Writes a safetensors file. Tensors are copied when they are added; the file appears under its name
// complete or not at all. Tensors are laid out by falling element size, and the header is padded to
// 64 bytes, so that every tensor is aligned for its type in a mapped file as well.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <ranges>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <elastic/core/error.hpp>
#include <elastic/io/output_file.hpp>
#include <elastic/io/safetensors_convert.hpp>
#include <elastic/io/safetensors_header.hpp>

namespace elastic {

class safetensors_writer {
 public:
  /// Adds a copy of a tensor.
  /// @param name   UTF-8, not yet added, not "__metadata__"
  /// @param shape  extents, row-major; empty for a scalar
  /// @param values as many elements as the shape has: a vector, span or array of an element type
  /// @throws error, and adds nothing, where one of these does not hold
  template <std::ranges::contiguous_range Range>
    requires safetensors_element<std::ranges::range_value_t<Range>>
  safetensors_writer& add(std::string name, std::vector<std::int64_t> shape, Range const& values) {
    using T = std::ranges::range_value_t<Range>;
    return add_bytes(std::move(name), detail::dtype_of<T>(), std::move(shape),
                     std::as_bytes(std::span<T const>(std::ranges::data(values), std::ranges::size(values))));
  }

  /// The same from bytes that are laid out as in a file.
  safetensors_writer& add_bytes(std::string name, safetensors_dtype dtype, std::vector<std::int64_t> shape,
                                std::span<std::byte const> bytes) {
    std::string const tensor = "tensor " + detail::in_quotes(name);
    require_utf8("tensor name", name);
    require_enumerator((tensor + " dtype").c_str(), dtype, safetensors_dtype::f64);
    require(name != "__metadata__", "tensor name", "\"__metadata__\"", "any other name");
    require(!names_.contains(name), "tensor name", detail::in_quotes(name) + " twice", "unique names");
    auto const expected = detail::byte_count(shape, dtype);
    if (!expected) {
      throw error(tensor, "shape " + detail::shape_text(shape), "extents >= 0 and a size in bytes below 2^63");
    }
    std::uint64_t const size = detail::type_of(dtype).bytes;
    if (bytes.size() != *expected) {
      throw error(tensor, std::to_string(bytes.size() / size) + " elements",
                  std::to_string(*expected / size) + " for shape " + detail::shape_text(shape));
    }
    names_.insert(name);
    tensors_.push_back({std::move(name), dtype, std::move(shape), {bytes.begin(), bytes.end()}});
    return *this;
  }

  /// Sets a string of the file's metadata. @throws error unless both are UTF-8
  safetensors_writer& metadata(std::string key, std::string value) {
    require_utf8("metadata key", key);
    require_utf8("metadata value", value);
    metadata_[std::move(key)] = std::move(value);
    return *this;
  }

  /// The file's contents.
  std::vector<std::byte> to_bytes() const {
    std::vector<std::byte> all;
    emit([&](void const* data, std::size_t count) {
      auto const* first = static_cast<std::byte const*>(data);
      all.insert(all.end(), first, first + count);
    });
    return all;
  }

  /// Writes the file through a temporary one in the same folder, which is then renamed; a reader sees
  /// the old file or the new one, never a part. It is not synchronised to the disk.
  /// A link is followed, and its target written; what is there and is no regular file is refused.
  /// @throws error if anything fails; a file that was there stays as it was, and no temporary remains
  void write(std::filesystem::path const& path) const {
    output_file file("path", path);
    emit([&](void const* data, std::size_t count) { file.append(data, count); });
    file.rename();
  }

 private:
  struct tensor_data {
    std::string name;
    safetensors_dtype dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };

  static void require_utf8(char const* argument, std::string const& text) {
    try {
      static_cast<void>(nlohmann::json(text).dump());
    } catch (nlohmann::json::type_error const&) {
      throw error(argument, detail::in_quotes(text), "valid UTF-8");
    }
  }

  template <class Sink>
  void emit(Sink&& sink) const {
    std::vector<tensor_data const*> order;
    for (auto const& tensor : tensors_) order.push_back(&tensor);
    std::ranges::stable_sort(order, std::ranges::greater{},
                             [](auto const* tensor) { return detail::type_of(tensor->dtype).bytes; });

    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata_.empty()) header["__metadata__"] = metadata_;
    std::uint64_t offset = 0;
    for (auto const* tensor : order) {
      std::uint64_t const end = offset + tensor->bytes.size();
      // push_back, because finding a key in an ordered_json takes linear time.
      header.get_ref<nlohmann::ordered_json::object_t&>().push_back({tensor->name,
                                                                     {{"dtype", detail::type_of(tensor->dtype).name},
                                                                      {"shape", tensor->shape},
                                                                      {"data_offsets", {offset, end}}}});
      offset = end;
    }
    std::string text = header.dump();
    text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
    std::uint64_t const length = text.size();
    require(length <= detail::safetensors_header_limit, "header", std::to_string(length) + " bytes",
            std::to_string(detail::safetensors_header_limit) + " at most");
    sink(&length, sizeof length);
    sink(text.data(), text.size());
    for (auto const* tensor : order) sink(tensor->bytes.data(), tensor->bytes.size());
  }

  std::vector<tensor_data> tensors_;
  std::set<std::string> names_;
  safetensors_metadata metadata_;
};

}  // namespace elastic
