// Tables of (layers, heads) from files, and the fixed router that they make: routes, or DuoAttention's
// α ∈ [0, 1] per KV head, of which a head is full where α ≥ quantile(α, sparsity) (arXiv 2410.10819).
//   text         one line for each layer; numbers apart by tab, comma, semicolon or blanks; # begins a comment
//   .json        [[…], […], …]
//   .safetensors a tensor (layers, heads): the file's only one, or the one named
//
//   elastic::attention attend(mode, elastic::threshold_router(elastic::route_table::load("heads.tsv"), 0.5, 4));
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <elastic/core/error.hpp>
#include <elastic/io/safetensors_file.hpp>
#include <elastic/routers/fixed_router.hpp>

namespace elastic {

struct route_table {
  int layers = 0;
  int heads = 0;
  std::vector<double> values;  // (layers, heads), row-major

  /// Throws elastic::error naming the file and the line, unless it holds a table of finite numbers.
  static route_table load(std::filesystem::path const& path, std::string const& tensor = "") {
    if (path.extension() == ".safetensors") return from_safetensors(safetensors_file::open(path), tensor);
    std::error_code failure;
    bool const regular = std::filesystem::is_regular_file(path, failure);
    std::ifstream stream;
    if (regular) stream.open(path);
    if (!stream.is_open()) throw error("path", path.string(), "a file that can be read");
    std::ostringstream text;
    text << stream.rdbuf();
    return path.extension() == ".json" ? from_json(text.str(), path.string()) : from_text(text.str(), path.string());
  }

  /// `source` is what messages call it.
  static route_table from_text(std::string_view text, std::string const& source = "text") {
    route_table table;
    for (int line = 1; !text.empty(); ++line) {
      std::size_t const end = std::min(text.find('\n'), text.size());
      table.add(parse_line(text.substr(0, end), source + " line " + std::to_string(line)),
                source + " line " + std::to_string(line));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return checked(std::move(table), source);
  }

  static route_table from_json(std::string const& text, std::string const& source = "json") {
    // The parser would take a NUL for the end of its input and ignore what follows.
    nlohmann::json const json = nlohmann::json::parse(text.find('\0') == text.npos ? text : "", nullptr, false);
    if (!json.is_array()) throw error(source, json.is_discarded() ? "no valid JSON" : json.type_name(), expected);
    route_table table;
    for (auto const& row : json) {
      std::string const where = source + " row " + std::to_string(table.layers);
      std::vector<double> numbers;
      if (!row.is_array()) throw error(where, row.type_name(), expected);
      for (auto const& number : row) {
        if (!number.is_number()) throw error(where, number.type_name(), "numbers");
        numbers.push_back(number.get<double>());
      }
      if (numbers.empty()) throw error(where, "no numbers", expected);
      table.add(numbers, where);
    }
    return checked(std::move(table), source);
  }

  static route_table from_safetensors(safetensors_file const& file, std::string const& tensor = "") {
    auto const names = file.names();
    if (tensor.empty() && names.size() != 1)
      throw error("tensor", std::to_string(names.size()) + " tensors and no name",
                  "the name of the table (layers, heads)");
    std::string const name = tensor.empty() ? names.front() : tensor;
    auto const& shape = file.shape(name);
    if (shape.size() != 2 || shape[0] > 1 << 16 || shape[1] > 1 << 16)
      throw error("tensor " + detail::in_quotes(name), "shape " + detail::shape_text(shape), "(layers, heads)");
    route_table table{static_cast<int>(shape[0]), static_cast<int>(shape[1]), {}};
    if (file.dtype(name) == safetensors_dtype::f64 || file.dtype(name) == safetensors_dtype::f32 ||
        file.dtype(name) == safetensors_dtype::f16 || file.dtype(name) == safetensors_dtype::bf16) {
      table.values = file.load<double>(name);
    } else {
      for (std::int64_t const route : file.load<std::int64_t>(name)) table.values.push_back(static_cast<double>(route));
    }
    return checked(std::move(table), "tensor " + detail::in_quotes(name));
  }

  /// Throws elastic::error unless it is a table of finite numbers.
  void check(std::string const& source = "table") const {
    if (layers <= 0 || heads <= 0) throw error(source, "an empty table", expected);
    if (values.size() != static_cast<std::size_t>(layers) * static_cast<std::size_t>(heads))
      throw error(source, std::to_string(values.size()) + " values",
                  "layers × heads: " + std::to_string(layers) + " × " + std::to_string(heads));
    for (double const value : values)
      if (!std::isfinite(value)) throw error(source, detail::show(value), "finite numbers");
  }

 private:
  static constexpr char const* expected = "a table with a row of numbers for each layer";

  static std::vector<double> parse_line(std::string_view line, std::string const& where) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = line.substr(0, line.find('#'));
    std::vector<double> numbers;
    auto const is_space = [](char c) { return c == ' ' || c == '\t'; };
    auto const is_separator = [&](char c) { return is_space(c) || c == ',' || c == ';'; };
    bool wants = false;  // a comma was last: a number has to follow
    while (!line.empty()) {
      if (is_separator(line.front())) {
        if (!is_space(line.front())) {
          if (wants || numbers.empty()) throw error(where, "an empty field", "a number");
          wants = true;
        }
        line.remove_prefix(1);
        continue;
      }
      std::size_t const end = static_cast<std::size_t>(std::ranges::find_if(line, is_separator) - line.begin());
      double number = 0;
      std::size_t const sign = line.front() == '+' ? 1 : 0;  // which from_chars does not take
      auto const [stop, failure] = std::from_chars(line.data() + sign, line.data() + end, number);
      if (failure != std::errc{} || stop != line.data() + end || line.starts_with("+-"))
        throw error(where, detail::in_quotes(std::string(line.substr(0, end))), "a number");
      numbers.push_back(number);
      wants = false;
      line.remove_prefix(end);
    }
    if (wants) throw error(where, "an empty field", "a number");
    return numbers;
  }

  /// A row; empty ones count for nothing.
  void add(std::vector<double> const& row, std::string const& where) {
    if (row.empty()) return;
    if (layers == 0) heads = static_cast<int>(row.size());
    if (static_cast<int>(row.size()) != heads)
      throw error(where, std::to_string(row.size()) + " numbers", std::to_string(heads) + " as in the first row");
    values.insert(values.end(), row.begin(), row.end());
    ++layers;
  }

  static route_table checked(route_table table, std::string const& source) {
    table.check(source);
    return table;
  }
};

namespace detail {

/// Each entry for the `group` query heads of its KV head.
template <class Route>
fixed_router repeat_routes(route_table const& table, int group, Route&& route) {
  table.check();
  require(group >= 1 && group <= (1 << 16) / table.heads, "group", group,
          "a query head or more for each KV head, 65536 in a layer at most");
  std::vector<std::int32_t> routes;
  for (double const value : table.values) routes.insert(routes.end(), static_cast<std::size_t>(group), route(value));
  return fixed_router(std::move(routes), table.heads * group);
}

/// As NumPy's default: linear between the two nearest ranks.
inline double quantile(std::vector<double> values, double fraction) {
  std::ranges::sort(values);
  double const rank = fraction * static_cast<double>(values.size() - 1);
  std::size_t const below = static_cast<std::size_t>(rank);
  std::size_t const above = std::min(below + 1, values.size() - 1);
  return values[below] + (rank - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace detail

/// The table holds routes, whole numbers: per query head, or per KV head with `group` query heads each.
inline fixed_router routes_router(route_table const& table, int group = 1) {
  return detail::repeat_routes(table, group, [](double value) {
    require(value >= 0 && value < 1 << 16 && value == std::floor(value), "table", value, "whole numbers from 0 on");
    return static_cast<std::int32_t>(value);
  });
}

/// The table holds α per KV head, clamped to [0, 1]. A head is full (route 0) where α ≥ quantile(α, sparsity) over
/// the whole table, else it takes `sparse_route`; sparsity 1 makes all sparse. Equal α share their fate: DuoAttention
/// breaks ties by random noise, which this does not.
inline fixed_router threshold_router(route_table const& table, double sparsity, int group = 1, int sparse_route = 1) {
  require(sparsity >= 0 && sparsity <= 1, "sparsity", sparsity, "0 to 1");
  require(sparse_route >= 0, "sparse_route", sparse_route, "0 or more");
  table.check();
  route_table clamped = table;
  for (double& value : clamped.values) value = std::clamp(value, 0., 1.);
  double const threshold = sparsity >= 1 ? 2. : detail::quantile(clamped.values, sparsity);
  return detail::repeat_routes(clamped, group, [&](double value) { return value >= threshold ? 0 : sparse_route; });
}

}  // namespace elastic
