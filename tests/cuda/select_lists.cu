// Pooled top-k, explicit masks and plans on the device against the reference: the same lists, for pooled top-k except
// where scores tie within rounding, which are counted.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include "support/cuda_selection.cuh"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<64>;

/// Shapes, tensors and options of one draw.
template <element T>
struct drawn_problem {
  std::vector<std::int32_t> starts_q, starts_k, routes;
  std::optional<device_heads<T>> q, k;
  options o;
  int route;

  explicit drawn_problem(dice& r, bool causal = true) {
    int const kv_heads = r.between(1, 2), query_heads = kv_heads * r.between(1, 3);
    int const head_dim = r.pick({32, 64, 96, 128, 192, 256});
    int batch = r.between(0, 3), q_len = r.between(0, 700), k_len = r.one_in(2) ? q_len : r.between(0, 900);
    int sequences = batch;
    if (r.one_in(3)) {
      starts_q = starts_k = {0};
      q_len = k_len = 0;
      for (int b = 0; b < r.between(1, 4); ++b) {
        starts_q.push_back(q_len += r.between(0, 400));
        starts_k.push_back(k_len += r.between(0, 500));
      }
      sequences = static_cast<int>(starts_q.size()) - 1;
      batch = 1;
      o.cu_seqlens_q = starts_q;
      o.cu_seqlens_k = starts_k;
    } else if (q_len > 300 && r.one_in(2)) {
      o.q_begin = 128;
      o.q_end = r.one_in(2) ? -1 : 256;
    }
    q.emplace(r, std::array<std::int64_t, 4>{batch, q_len, query_heads, head_dim}, 1.f);
    k.emplace(r, std::array<std::int64_t, 4>{batch, k_len, kv_heads, head_dim}, 1.f);
    o.causal = causal;
    for (int i = 0; i < sequences * query_heads; ++i) routes.push_back(r.below(3));
    route = r.one_in(3) ? every_route : 1;
    if (routes.empty()) routes.push_back(0);
  }

  template <class S>
  selection on_device(S const& s) const {
    device_run<S, T> const run(gpu{}, s, *q, *k, o, routes, route);
    CHECK(run.fault == "");
    return run.selected();
  }
  template <class S>
  selection exact(S const& s) const {
    return selected_run(reference{}, s, q->host(), k->host(), o, routes, route).lists();
  }
};

/// Scores of one list of pooled top-k, by its formula.
template <element T>
std::vector<double> pooled_scores(pooled_top_k const& s, drawn_problem<T> const& x, problem const& p,
                                  std::array<int, 3> const& at) {
  where const w = locate(p, at[0], at[1], 0);
  elastic::detail::list_extent const extent(w, at[2], s.block_rows, s.block_columns);
  auto const mean = [&](heads_view<T const> const& of, std::int32_t const* starts, int head, int first, int last) {
    return elastic::detail::mean_row<T>(rows_of(of, starts, at[0], head), first, last, p.head_dim);
  };
  auto const query = mean(x.q->host(), p.cu_seqlens_q, at[1], extent.first, extent.last);
  std::vector<double> scores;
  for (int j = 0; j < extent.visible; ++j) {
    int const first = j * s.block_columns;
    auto const key = mean(x.k->host(), p.cu_seqlens_k, w.kv_head, first, minimum(first + s.block_columns, w.k_len) - 1);
    scores.push_back(0);
    for (std::size_t d = 0; d < key.size(); ++d) scores.back() += query[d] * key[d];
  }
  return scores;
}

template <element T>
void compare_pooled(int problems) {
  int lists = 0, other = 0;
  for (int seed = 0; seed < problems; ++seed) {
    CAPTURE(seed);
    dice r(20, static_cast<std::uint64_t>(seed));
    drawn_problem<T> const x(r);
    pooled_top_k const s{.block_rows = r.pick({16, 32, 64, 128, 256}),
                         .block_columns = r.pick({1, 16, 32, 64, 128, 256}),
                         .k = r.pick({1, 2, 3, 5, 100})};
    selection const given = x.on_device(s), exact = x.exact(s);
    REQUIRE(given.size() == exact.size());
    problem const p = make_problem<T>(x.q->host(), x.k->host(), x.o);
    for (auto const& [at, list] : exact) {
      lists += !list.empty();
      auto const& device_list = given.at(at);
      if (device_list == list) continue;
      ++other;
      CHECK(device_list.size() == list.size());
      auto const scores = pooled_scores(s, x, p, at);
      auto const lowest = [&](auto const& of) {
        double low = std::numeric_limits<double>::infinity();
        for (int j : of) low = std::min(low, scores[static_cast<std::size_t>(j)]);
        return low;
      };
      CHECK(std::abs(lowest(list) - lowest(device_list)) < 1e-6);
    }
  }
  MESSAGE(lists << " lists, " << other << " differ where scores tie");
  CHECK(other * 100 <= lists);
}

struct stripes {
  ELASTIC_HOST_DEVICE bool operator()(where const& w, int q, int k) const {
    return w.query_head == 1 || (w.position(q) - k) / 100 % 3 == 0;
  }
};

template <class Mode, element T>
void compare_plan(Mode const& mode, drawn_problem<T> const& x) {
  planned<Mode> const s(mode);
  CHECK(x.on_device(s) == x.exact(s));
}

}  // namespace

TEST_CASE_TEMPLATE("pooled top-k lists", T, bfloat16, half, float) {
  if (device_missing("pooled top-k lists")) return;
  compare_pooled<T>(120);
}

TEST_CASE("lists of explicit masks") {
  if (device_missing("lists of explicit masks")) return;
  for (int seed = 0; seed < 120; ++seed) {
    CAPTURE(seed);
    dice r(21, static_cast<std::uint64_t>(seed));
    drawn_problem<half> const x(r, r.one_in(2));
    problem const p = make_problem<half>(x.q->host(), x.k->host(), x.o);
    block_mask s{.block_rows = r.pick({32, 128, 256}), .block_columns = r.pick({1, 16, 64, 128, 512})};
    std::array<std::int64_t, 4> const shape{r.one_in(2) ? 1 : p.batch, r.one_in(2) ? 1 : p.query_heads,
                                            ceil_div(p.q_len, s.block_rows), ceil_div(p.k_len, s.block_columns)};
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(shape[0] * shape[1] * shape[2] * shape[3] + 1));
    int const share = r.between(0, 4);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(r.below(4) < share ? r.between(1, 255) : 0);
    device_buffer<std::uint8_t> const memory{std::span<std::uint8_t const>(bytes)};
    s.mask = {bytes.data(), shape};
    selection const exact = x.exact(s);
    s.mask.data = memory.data();
    CHECK(x.on_device(s) == exact);
  }
}

TEST_CASE("plans") {
  if (device_missing("plans")) return;
  for (int seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    dice r(22, static_cast<std::uint64_t>(seed));
    drawn_problem<half> const x(r, r.one_in(2));
    compare_plan(predicate{stripes{}}, x);
    drawn_problem<bfloat16> const y(r);
    compare_plan(sliding_window{r.between(1, 400)}, y);
    compare_plan(streaming{r.below(3), r.between(1, 3)}, y);
    using either = union_of<predicate<stripes>, sliding_window>;
    compare_plan(either{predicate{stripes{}}, sliding_window{r.between(1, 200)}}, y);
    using both = intersection_of<streaming, sliding_window>;
    compare_plan(both{streaming{1, 2}, sliding_window{r.between(100, 400)}}, y);
  }
}
