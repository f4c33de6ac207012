// Runs one variant on every layer of a capture: who goes where, how long it takes beside full attention, how far its
// output is from full attention's, and how much of the attention it keeps.
#pragma once

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>
#include <vector>

#include <elastic/metrics/kept_mass.hpp>
#include <elastic/metrics/output_error.hpp>

#include "variant.hpp"

namespace examples {

struct head_result {
  int route = 0;
  double error = 0;  // relative L2 against full attention
  double kept_mass = 1;
  double density = 1;
};

struct row_result {
  variant const* what = nullptr;
  double density = 1;
  double msr = 0;       // share of heads with a sparse mode: by route in a pair, all or none in one mode alone
  double esr_last = 0;  // pruned share of the keys, by the last query
  double esr_area = 0;  // and by all queries
  double route_ms = 0, select_ms = 0, attend_ms = 0, total_ms = 0;  // medians of the repetitions
  double speedup = 1, speedup_min = 1, speedup_max = 1;  // full attention's time ÷ total, within a repetition
  double error = 0;                                      // mean over heads
  std::vector<double> input_errors;                      // the same for each input
  double kept_mass = 1;                                  // mean over heads
  std::vector<std::vector<head_result>> layers;          // (batch, heads) of each layer
  std::string same_as;                                   // an earlier row that sends every head to the same mode

  std::string title() const { return what->name + (what->router.empty() ? "" : " " + what->router); }

  /// The mode of every head.
  std::vector<std::string> modes() const {
    std::vector<std::string> all;
    for (auto const& heads : layers)
      for (head_result const& head : heads) all.push_back(what->parts[static_cast<std::size_t>(head.route)]);
    return all;
  }
};

inline double milliseconds(auto&& f) {
  auto const start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  std::size_t const n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

inline double mean(std::vector<double> const& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.) / static_cast<double>(values.size());
}

/// What full attention makes of every layer: the measure of all others.
inline void attend_fully(variant const& full, std::vector<layer_run>& layers) {
  for (layer_run& layer : layers) {
    full.place(layer);
    full.attend(layer);
    full.fetch(layer);
    layer.full_out = layer.out;
    layer.full_lse = layer.lse;
  }
}

/// Times of one repetition, over all layers.
struct times {
  std::vector<double> full, route, select, attend, total, speedup;
};

/// Every repetition runs full attention and the variant in turn, so that what disturbs the machine meets both.
inline times time_beside(variant const& full, variant const& what, std::vector<layer_run>& layers, int repetitions) {
  times measured;
  for (int i = 0; i < repetitions; ++i) {
    double dense = 0, route = 0, select = 0, attend = 0;
    for (layer_run& layer : layers) {
      std::vector<std::int32_t> all_to_full(layer.routes.size(), 0);
      layer.routes.swap(all_to_full);
      full.place(layer);
      dense += milliseconds([&] { full.attend(layer); });
      layer.routes.swap(all_to_full);
      what.place(layer);
      if (what.counts_routing) route += milliseconds([&] { what.route(layer); });
      select += milliseconds([&] { what.select(layer); });
      attend += milliseconds([&] { what.attend(layer); });
    }
    double const total = route + select + attend;
    measured.full.push_back(dense);
    measured.route.push_back(route);
    measured.select.push_back(select);
    measured.attend.push_back(attend);
    measured.total.push_back(total);
    measured.speedup.push_back(dense / total);
  }
  return measured;
}

inline row_result measure(variant const& full, variant const& what, std::vector<layer_run>& layers, int repetitions) {
  row_result row;
  row.what = &what;
  std::vector<double> errors, masses, esr_last, esr_area, msr;
  std::vector<std::vector<double>> by_input(static_cast<std::size_t>(layers.front().batch()));
  head_sparsity pairs;
  for (layer_run& layer : layers) {
    what.route(layer);
    what.select(layer);
    what.attend(layer);
    what.fetch(layer);
    std::vector<head_error> const error = output_errors(layer.to_out(layer.out), layer.to_out(layer.full_out));
    std::vector<double> const mass = kept_mass(layer.to_lse(layer.lse), layer.to_lse(layer.full_lse));
    effective_sparsity const counted = what.count(layer);
    pairs += counted.total();
    esr_last.push_back(counted.last_row());
    esr_area.push_back(counted.area());
    msr.push_back(what.parts.size() > 1 ? model_sparsity(layer.assignment()) : what.name == full.name ? 0 : 1);
    std::vector<head_result>& heads = row.layers.emplace_back();
    for (std::size_t i = 0; i < error.size(); ++i) {
      heads.push_back({layer.routes[i], error[i].relative_l2, mass[i], 1 - counted.heads[i].area()});
      errors.push_back(error[i].relative_l2);
      masses.push_back(mass[i]);
      by_input[i / static_cast<std::size_t>(layer.heads())].push_back(error[i].relative_l2);
    }
  }
  row.density = pairs.visible > 0 ? static_cast<double>(pairs.kept) / static_cast<double>(pairs.visible) : 1;
  row.msr = mean(msr);
  row.esr_last = mean(esr_last);
  row.esr_area = mean(esr_area);
  row.error = mean(errors);
  row.kept_mass = mean_kept_mass(masses);
  for (auto const& input : by_input) row.input_errors.push_back(mean(input));

  times const measured = time_beside(full, what, layers, repetitions);
  row.route_ms = median(measured.route);
  row.select_ms = median(measured.select);
  row.attend_ms = median(measured.attend);
  row.total_ms = median(measured.total);
  row.speedup = median(measured.speedup);
  row.speedup_min = std::ranges::min(measured.speedup);
  row.speedup_max = std::ranges::max(measured.speedup);
  return row;
}

}  // namespace examples
