// Access to the fixtures in tests/golden: a file holds cases; a case is a group of tensors `case.*` and a JSON
// object of parameters under the case's name in the file's metadata. What each holds is in tests/golden/README.md.
//
//   elastic::testing::golden_file const fixture("attention.safetensors");
//   for (auto const& golden : fixture.cases()) {
//     int const d = golden.parameters.at("d");
//     auto const q = golden.load<float>("q");                            // values and shape
//     auto const view = q.as_heads();                                    // [B, H, S, d] as (batch, seq, heads,
//     head_dim)
//   }
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <elastic/core/error.hpp>
#include <elastic/core/view.hpp>
#include <elastic/io/safetensors.hpp>

namespace elastic::testing {

/// A tensor's values, row-major, with its shape. Views of it live as long as it does.
template <class T>
struct golden_tensor {
  std::vector<std::int64_t> shape;
  std::vector<T> values;

  template <int Rank>
  strided_view<T const, Rank> view() const& {
    require(shape.size() == Rank, "golden_tensor::view", "a rank of " + std::to_string(shape.size()),
            std::to_string(Rank));
    std::array<std::int64_t, Rank> extents{};
    std::ranges::copy(shape, extents.begin());
    return {values.data(), extents};
  }

  /// [B, H, S, d], as PyTorch orders them, seen as (batch, seq, heads, head_dim) without a copy.
  heads_view<T const> as_heads() const& {
    auto const v = view<4>();
    return {v.data,
            {v.extents[0], v.extents[2], v.extents[1], v.extents[3]},
            {v.strides[0], v.strides[2], v.strides[1], v.strides[3]}};
  }

  /// [S, H, d] seen as (1, seq, heads, head_dim): packed sequences.
  heads_view<T const> as_packed() const& {
    auto const v = view<3>();
    return {v.data, {1, v.extents[0], v.extents[1], v.extents[2]}};
  }

  template <int Rank>
  strided_view<T const, Rank> view() const&& = delete;
  heads_view<T const> as_heads() const&& = delete;
  heads_view<T const> as_packed() const&& = delete;
};

class golden_case;

class golden_file {
 public:
  /// @param file_name within tests/golden
  explicit golden_file(std::string const& file_name)
      : file_(safetensors_file::open(std::filesystem::path(ELASTIC_TEST_DATA) / file_name)) {}

  safetensors_file const& file() const& { return file_; }

  bool has(std::string_view tensor) const { return file_.contains(tensor); }

  /// A tensor by its full name, or a part of it as the metadata writes it: "a.q[:, :, 0:1500]".
  template <class T>
  golden_tensor<T> load(std::string_view expression) const {
    auto const bracket = expression.find('[');
    std::string_view const name = expression.substr(0, bracket);
    golden_tensor<T> all{file_.shape(name), file_.load<T>(name)};
    return bracket == expression.npos ? all : slice(all, expression.substr(bracket));
  }

  /// The cases: metadata that are JSON objects, ascending by name. They refer to this object.
  std::vector<golden_case> cases() const&;
  std::vector<golden_case> cases() const&& = delete;

  /// One of them.
  golden_case at(std::string const& name) const&;
  golden_case at(std::string const& name) const&& = delete;

 private:
  template <class T>
  static golden_tensor<T> slice(golden_tensor<T> const& from, std::string_view ranges) {
    std::vector<std::int64_t> begin(from.shape.size(), 0), end = from.shape;
    auto const malformed = [&] { return error("slice", std::string(ranges), "[begin:end, …] within the shape"); };
    std::string_view rest = ranges.substr(1);
    for (std::size_t axis = 0; !rest.empty(); ++axis) {
      std::string_view const range = rest.substr(0, rest.find_first_of(",]"));
      auto const colon = range.find(':');
      if (axis >= from.shape.size() || colon == range.npos) throw malformed();
      number(range.substr(0, colon), begin[axis]);
      number(range.substr(colon + 1), end[axis]);
      if (begin[axis] < 0 || begin[axis] > end[axis] || end[axis] > from.shape[axis]) throw malformed();
      rest.remove_prefix(std::min(range.size() + 1, rest.size()));
    }
    golden_tensor<T> part;
    for (std::size_t axis = 0; axis < end.size(); ++axis) part.shape.push_back(end[axis] - begin[axis]);
    gather(from, begin, end, 0, 0, part.values);
    return part;
  }

  /// Leaves `value` as it is where there are no digits: an open end.
  static void number(std::string_view text, std::int64_t& value) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    std::from_chars(text.data(), text.data() + text.size(), value);
  }

  template <class T>
  static void gather(golden_tensor<T> const& from, std::vector<std::int64_t> const& begin,
                     std::vector<std::int64_t> const& end, std::size_t axis, std::int64_t offset, std::vector<T>& to) {
    if (axis == end.size()) {
      to.push_back(from.values[static_cast<std::size_t>(offset)]);
      return;
    }
    for (std::int64_t i = begin[axis]; i < end[axis]; ++i) {
      gather(from, begin, end, axis + 1, offset * from.shape[axis] + i, to);
    }
  }

  safetensors_file file_;
};

class golden_case {
 public:
  golden_case(golden_file const& file, std::string case_name, nlohmann::json case_parameters)
      : name(std::move(case_name)), parameters(std::move(case_parameters)), file_(&file) {}

  std::string name;
  nlohmann::json parameters;

  bool has(std::string const& tensor) const { return file_->has(name + "." + tensor); }

  /// The case's own tensor: load<float>("o") reads "case00.o".
  template <class T>
  golden_tensor<T> load(std::string const& tensor) const {
    return file_->load<T>(name + "." + tensor);
  }

  /// The tensor, or part of one, that a parameter names: input<float>("q") with {"q": "a.q[:, :, 0:256]"}.
  template <class T>
  golden_tensor<T> input(char const* parameter) const {
    return file_->load<T>(parameters.at(parameter).get<std::string>());
  }

 private:
  golden_file const* file_;
};

inline std::vector<golden_case> golden_file::cases() const& {
  std::vector<golden_case> all;
  for (auto const& [name, text] : file_.metadata()) {
    if (text.starts_with('{')) all.emplace_back(*this, name, nlohmann::json::parse(text));
  }
  return all;
}

inline golden_case golden_file::at(std::string const& name) const& {
  return {*this, name, nlohmann::json::parse(file_.metadata(name))};
}

}  // namespace elastic::testing
