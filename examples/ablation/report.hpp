// What the ablation prints and writes: a table, row by row as they come, ablation.csv with the same columns, and
// ablation.json with every head of every input besides.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "measure.hpp"

namespace examples {

/// What the whole ablation was run with.
struct setting {
  std::string input, model, backend, router_file;
  std::vector<std::string> tasks;  // a name for each input of the batch
  std::vector<int> layers;
  int batch = 0, q_len = 0, k_len = 0, query_heads = 0, kv_heads = 0, head_dim = 0;
  float softmax_scale = 0;
  int threads = 0, repetitions = 0;
  std::uint64_t seed = 0;
  bool paper_defaults = false;
};

/// Says on stderr what is running: on a terminal in one line that comes and goes, else line by line.
class progress {
 public:
  explicit progress(std::size_t rows) : rows_(rows) {}
  void begin(variant const& what) {
    ++row_;
    say(fmt::format("{}[{}/{}] {} {}{}", terminal_ ? "\r\033[K" : "", row_, rows_, what.name, what.router,
                    terminal_ ? "" : "\n"));
  }
  void clear() const {
    if (terminal_) say("\r\033[K");
  }

 private:
  static void say(std::string const& text) { std::fputs(text.c_str(), stderr); }  // who cannot read it misses nothing

  bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::size_t rows_, row_ = 0;
};

inline bool is_untrained(setting const& s, row_result const& r) {
  return r.what->router == "MLP" && s.router_file.empty();
}

/// What a reader of the row has to know.
inline std::string note(setting const& s, row_result const& r) {
  std::string text;
  if (is_untrained(s, r)) text = fmt::format("untrained, seed {}", s.seed);
  std::string same;
  if (r.what->name == "FA")
    same = "its speedup is over itself: the noise";
  else if (r.density >= 1)
    same = "density 1: the same as FA";
  else if (!r.same_as.empty())
    same = "the same as " + r.same_as;
  return text + (text.empty() || same.empty() ? "" : "; ") + same;
}

class table {
 public:
  explicit table(setting const& s) : setting_(s) {}

  void print_head() const {
    std::string errors;
    for (std::string const& name : setting_.tasks) errors += fmt::format(" {:>8}", "~" + name.substr(0, 7));
    fmt::print("{:<15}{:<12}{:>8}{:>6}{:>9}{:>9}{:>9}{:>10}{:>10}{:>10}{:>9}{:>12}{:>8}{}{:>8}\n", "variant", "router",
               "density", "MSR", "ESR last", "ESR area", "route ms", "select ms", "attend ms", "total ms", "speedup",
               "min-max", "error", errors, "mass");
  }

  void print(row_result const& r) const {
    std::string errors;
    for (double const error : r.input_errors) errors += fmt::format(" {:>8.4f}", error);
    std::string const text = note(setting_, r);
    std::string const route = r.what->counts_routing ? fmt::format("{:.2f}", r.route_ms) : "-";
    fmt::print(
        "{:<15}{:<12}{:>8.3f}{:>6.2f}{:>9.3f}{:>9.3f}{:>9}{:>10.2f}{:>10.2f}{:>10.2f}{:>8.2f}x{:>12}{:>8.4f}{}{:>8.4f}{"
        "}"
        "\n",
        r.what->name, r.what->router.empty() ? "-" : r.what->router, r.density, r.msr, r.esr_last, r.esr_area, route,
        r.select_ms, r.attend_ms, r.total_ms, r.speedup, fmt::format("{:.2f}-{:.2f}", r.speedup_min, r.speedup_max),
        r.error, errors, r.kept_mass, text.empty() ? "" : "  (" + text + ")");
    std::fflush(stdout);
  }

 private:
  setting const& setting_;
};

/// A field of a CSV file: in quotes where it has to be.
inline std::string csv_field(std::string text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  for (std::size_t at = 0; (at = text.find('"', at)) != text.npos; at += 2) text.insert(at, 1, '"');
  return '"' + text + '"';
}

inline std::string to_csv(setting const& s, std::vector<row_result> const& rows) {
  std::string text =
      "variant,router,density,msr,esr_last_row,esr_area,route_ms,select_ms,attend_ms,total_ms,speedup,speedup_min,"
      "speedup_max,error";
  for (std::string const& name : s.tasks) text += "," + csv_field("error_" + name);
  text += ",kept_mass,parameters,note\n";
  for (row_result const& r : rows) {
    text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{}", csv_field(r.what->name), csv_field(r.what->router),
                        r.density, r.msr, r.esr_last, r.esr_area, r.route_ms, r.select_ms, r.attend_ms, r.total_ms,
                        r.speedup, r.speedup_min, r.speedup_max, r.error);
    for (double const error : r.input_errors) text += fmt::format(",{}", error);
    text += fmt::format(",{},{},{}\n", r.kept_mass, csv_field(r.what->parameters), csv_field(note(s, r)));
  }
  return text;
}

/// What has parts of its own by the line, a list of numbers or names in one.
inline std::string in_lines(nlohmann::ordered_json const& value, std::size_t depth = 0) {
  bool const nested = std::ranges::any_of(value, [](auto const& part) { return part.is_structured(); });
  if (!value.is_structured() || value.empty() || (value.is_array() && !nested)) return value.dump();
  std::string text;
  for (auto const& [key, part] : value.items())
    text += (text.empty() ? "\n" : ",\n") + std::string(depth + 1, ' ') +
            (value.is_object() ? nlohmann::ordered_json(key).dump() + ": " : "") + in_lines(part, depth + 1);
  return (value.is_object() ? "{" : "[") + text + "\n" + std::string(depth, ' ') + (value.is_object() ? "}" : "]");
}

/// layers → inputs → heads.
inline nlohmann::ordered_json heads_of(setting const& s, row_result const& r, auto&& field) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (auto const& heads : r.layers) {
    nlohmann::ordered_json inputs = nlohmann::ordered_json::array();
    for (int b = 0; b < s.batch; ++b) {
      nlohmann::ordered_json values = nlohmann::ordered_json::array();
      for (int h = 0; h < s.query_heads; ++h)
        values.push_back(field(heads[static_cast<std::size_t>(b * s.query_heads + h)]));
      inputs.push_back(std::move(values));
    }
    layers.push_back(std::move(inputs));
  }
  return layers;
}

inline std::string to_json(setting const& s, std::vector<row_result> const& rows) {
  nlohmann::ordered_json all;
  all["elastic"] = fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
  all["input"] = {{"file", s.input},
                  {"model", s.model},
                  {"inputs", s.tasks},
                  {"layers", s.layers},
                  {"batch", s.batch},
                  {"q_len", s.q_len},
                  {"k_len", s.k_len},
                  {"query_heads", s.query_heads},
                  {"kv_heads", s.kv_heads},
                  {"head_dim", s.head_dim},
                  {"softmax_scale", s.softmax_scale}};
  all["run"] = {
      {"backend", s.backend},
      {"threads", s.threads},
      {"repetitions", s.repetitions},
      {"paper_defaults", s.paper_defaults},
      {"router", s.router_file.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(s.router_file)},
      {"seed", s.seed}};
  all["detail"] = "routes, errors, kept_mass and density: layers, inputs, query heads; a route indexes parts";
  for (row_result const& r : rows) {
    nlohmann::ordered_json row;
    row["variant"] = r.what->name;
    row["router"] = r.what->router;
    row["untrained"] = is_untrained(s, r);
    row["note"] = note(s, r);
    row["parameters"] = r.what->parameters;
    row["density"] = r.density;
    row["full"] = r.density >= 1;
    row["msr"] = r.msr;
    row["esr_last_row"] = r.esr_last;
    row["esr_area"] = r.esr_area;
    row["route_ms"] = r.route_ms;
    row["select_ms"] = r.select_ms;
    row["attend_ms"] = r.attend_ms;
    row["total_ms"] = r.total_ms;
    row["speedup"] = r.speedup;
    row["speedup_range"] = {r.speedup_min, r.speedup_max};
    row["error"] = r.error;
    row["input_errors"] = r.input_errors;
    row["kept_mass"] = r.kept_mass;
    row["parts"] = r.what->parts;
    row["heads"] = {{"routes", heads_of(s, r, [](head_result const& h) { return h.route; })},
                    {"errors", heads_of(s, r, [](head_result const& h) { return h.error; })},
                    {"kept_mass", heads_of(s, r, [](head_result const& h) { return h.kept_mass; })},
                    {"density", heads_of(s, r, [](head_result const& h) { return h.density; })}};
    all["rows"].push_back(std::move(row));
  }
  return in_lines(all) + "\n";
}

}  // namespace examples
