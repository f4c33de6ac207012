// Selection on the CUDA backend, in chunks of query rows that fit the workspace: 32 query and 8 KV heads, head dim 128,
// bfloat16, causal, batch 1, normal inputs; heads that are not routed to the selector attend to everything. "kept" is
// the share of the causal tiles of 64 keys that the last chunk's selection visits. estimate_ms is antidiagonal's
// folded product alone, with its plan, where one chunk holds all rows; its FLOP/s count 2 · (S / stride)² / 2 · stride
// · head_dim for each head. Arguments: length, how many of the 32 heads select.
#include <typeinfo>

#include <support/device.cuh>

namespace {

using namespace bench;

/// Every so many heads select, the others attend to everything.
std::vector<std::int32_t> routes_of(std::int64_t selecting) {
  std::vector<std::int32_t> routes;
  for (int h = 0; h < query_heads; ++h) routes.push_back(h % 8 < selecting / 4);
  return routes;
}

/// Of the folded product alone.
double estimate_milliseconds(antidiagonal const& selector, device_tensors const& on, problem const& p,
                             std::byte* space) {
  workspace_cursor cursor(space);
  auto const lists = selector.bind(p, cursor);
  workspace_cursor scratch(space + cursor.used());
  auto a = elastic::detail::antidiagonal_arguments_of<bfloat16>(selector, p, scratch);
  a.lists = lists;
  a.in = {on.q(), on.k(), p, on.assignment(), 1};
  device_clock clock;
  std::vector<double> all;
  for (int i = 0; i < 9; ++i)
    all.push_back(clock.milliseconds(
        [&](cudaStream_t s) { elastic::detail::launch_logsums(a, elastic::detail::current_device(), s); }));
  return median(all);
}

/// What differs between the device's selection for a small problem and the oracle's, or nothing. Scores that tie within
/// rounding may be ordered otherwise: of the pairs 1% may differ.
template <class M>
std::string selection_fault(M const& mode, selected_t<M> const& selected, std::vector<std::int32_t> const& routes,
                            tensors<bfloat16> const& on) {
  attention<M, fixed_router, reference> const oracle{mode};
  problem const p = oracle.shape(on.q(), on.k());
  std::vector<std::byte> memory(oracle.workspace_bytes(p));
  oracle.select(on.q(), on.k(), const_assignment_view(routes.data(), {1, query_heads}), memory);
  auto const expected = oracle.selected_in(p, memory);
  std::int64_t pairs = 0, differ = 0;
  for (int h = 0; h < query_heads; ++h) {
    where const w = locate(p, 0, h, routes[static_cast<std::size_t>(h)]);
    for (int i = 0; i < p.q_len; ++i)
      for (int j = 0; j <= i; ++j, ++pairs) differ += selected.keeps(w, i, j) != expected.keeps(w, i, j);
  }
  if (differ * 100 <= pairs) return {};
  return std::to_string(differ) + " of " + std::to_string(pairs) + " pairs are selected otherwise than by the oracle";
}

template <class Selector>
void select(benchmark::State& state, Selector const& selector, Selector const& small) {
  using M = hybrid<full, Selector>;
  using attend_with = attention<M, fixed_router, gpu>;
  std::vector<std::int32_t> const routes = routes_of(state.range(1));
  M const small_mode{full{}, small};
  std::string const wrong = once(typeid(M).name() + std::to_string(state.range(1)), [&] {
    return small_problem_fault(attend_with{small_mode}, routes, [&](auto const& host, auto const& selected) {
      return selection_fault(small_mode, selected, routes, host);
    });
  });
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  int const length = static_cast<int>(state.range(0));
  device_tensors const& on = tensors_of(length);
  on.routes.write(routes);
  attend_with const attend{M{full{}, selector}};
  problem const p = attend.shape(on.q(), on.k());
  device_buffer<std::byte> const space(attend.workspace_bytes(p));
  workspace const memory(space.data(), space.size());
  int const rows = attend.chunk_rows(p);
  options last;
  replayed const run(1, [&](cudaStream_t s) {
    options o = on_stream(s);
    for (o.q_begin = 0; o.q_begin < length; o.q_begin += rows) {
      o.q_end = minimum(o.q_begin + rows, length);
      attend.select(on.q(), on.k(), on.assignment(), memory, o);
      last = o;
    }
  });
  times const ms = time_in_turn(state, false, std::cref(run));
  problem const of_last = attend.shape(on.q(), on.k(), last);
  readable_workspace const readable(attend.backend(), memory);
  auto const selected = attend.selected_in(of_last, readable);
  tile_shape const tile{minimum(128, largest_tile_of(selected).rows), 64};
  double kept = 0, all = 0;
  for (int h = 0; h < query_heads; ++h) {
    if (routes[static_cast<std::size_t>(h)] == 0) continue;
    for (int i = last.q_begin / tile.rows; i < ceil_div(last.q_end, tile.rows); ++i) {
      kept += tiles_of(selected, locate(of_last, 0, h, 1), i, tile).count;
      all += tiles_of(full{}, locate(of_last, 0, h, 0), i, tile).count;
    }
  }
  state.counters["ms"] = ms.run;
  state.counters["kept"] = kept / all;
  state.counters["chunks"] = ceil_div(length, rows);
  state.counters["workspace"] = static_cast<double>(space.size());
  if constexpr (std::is_same_v<Selector, antidiagonal>)
    if (rows >= length) {
      double const estimate = estimate_milliseconds(selector, on, p, space.data()),
                   folds = static_cast<double>(length) / selector.stride;
      state.counters["estimate_ms"] = estimate;
      state.counters["FLOP/s"] =
          folds * folds * selector.stride * head_dim * static_cast<double>(state.range(1)) / estimate * 1e3;
    }
}

int const registered = [] {
  auto const add = [](char const* name, auto const& selector, auto const& small,
                      std::vector<std::int64_t> const& lengths, std::vector<std::int64_t> const& heads) {
    by_events(name, [=](benchmark::State& s) { select(s, selector, small); })
        ->ArgNames({"S", "heads"})
        ->ArgsProduct({lengths, heads});
  };
  std::vector<std::int64_t> const short_ones{8192, 16384, 32768, 65536, 131072};
  std::vector<std::int64_t> long_ones = short_ones;
  long_ones.insert(long_ones.end(), {262144, 1048576});
  add("antidiagonal", antidiagonal{}, antidiagonal{}, long_ones, {32, 8});
  add("pooled_top_k", pooled_top_k{}, pooled_top_k{.k = 2}, short_ones, {32});
  add("moba", moba{}, moba{.block = 64, .k = 3}, short_ones, {32});
  add("vertical_slash", vertical_slash{}, vertical_slash{.columns = 40, .offsets = 120}, short_ones, {32});
  return 0;
}();

}  // namespace
