// Selectors that fall back to full attention, on the CUDA backend: the reference's flags, attention through them, and
// nothing selected where the shape decides.
#include <doctest/doctest.h>

#include "support/cuda_selected_modes.cuh"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<64>;

/// Every third stripe of 40 keys, but for the first head.
struct stripes {
  ELASTIC_HOST_DEVICE bool operator()(where const& w, int q, int k) const {
    return w.query_head == 0 || (w.position(q) - k) / 40 % 3 == 0;
  }
};

using plan = planned<predicate<stripes>>;

/// In blocks of a few rows, so that a head has more lists than a CTA has threads.
struct fine_stripes : predicate<stripes> {
  ELASTIC_HOST_DEVICE tile_shape largest_tile() const { return {4, 64}; }
};

cost_model drawn_costs(dice& r) {
  return {.attend_row = 20 * r.uniform(), .listed = 0.5f + 2 * r.uniform(), .partial = 0.5f + 2 * r.uniform()};
}

}  // namespace

TEST_CASE_TEMPLATE("flags are the reference's", Plan, plan, planned<fine_stripes>) {
  if (device_missing("flags are the reference's")) return;
  int dense = 0, sparse = 0, by_shape = 0;
  for (int seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    dice r(30, static_cast<std::uint64_t>(seed));
    drawn_problem<half> const x(r, {64}, 700);
    auto_dense<Plan> const s{Plan{}, drawn_costs(r)};
    auto const exact = selected_run(reference{}, s, x.q->host(), x.k->host(), x.o);
    problem const& p = exact.shape;
    device_options const on_device(x.o);
    attention<auto_dense<Plan>, fixed_router, gpu> const attend{s};
    heads_view<half const> const q(x.q->device()), k(x.k->device());
    problem const device_problem = attend.shape(q, k, *on_device);
    device_buffer<std::byte> const space(attend.workspace_bytes(device_problem));
    cuda_call(cudaMemset(space.data(), 0xff, space.size()), "cudaMemset");
    device_buffer<std::int32_t> const routes{std::span<std::int32_t const>(all_to(p, 0))};
    const_assignment_view const assignment(routes.data(), {p.batch, p.query_heads});
    attend.select(q, k, assignment, {space.data(), space.size()}, *on_device);
    CHECK_NOTHROW(attend.validate(q, k, assignment, {space.data(), space.size()}, *on_device));
    auto const mode = attend.selected_in(device_problem, {space.data(), space.size()});
    if (s.goes_dense(device_problem)) {
      CHECK(mode.choice == dense_choice::all);
      CHECK(exact.mode().choice == dense_choice::all);
      ++by_shape;
      continue;
    }
    auto const flags = readable_on(attend.backend(), mode.flags, nullptr);
    auto const expected = exact.mode().flags;
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h) {
        CHECK(flags.view(b, h) == expected(b, h));
        ++(expected(b, h) != 0 ? dense : sparse);
      }
  }
  CHECK(dense > 20);
  CHECK(sparse > 20);
  CHECK(by_shape < 30);
}

TEST_CASE_TEMPLATE("attention in a hybrid", T, half, bfloat16) {
  if (device_missing("attention in a hybrid")) return;
  for (int seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    dice r(31, static_cast<std::uint64_t>(seed));
    auto_dense<plan> by_plan{plan{predicate{stripes{}}}, drawn_costs(r)};
    auto_dense<pooled_top_k> by_blocks{{.k = r.between(1, 6)}, drawn_costs(r)};
    if (r.one_in(3)) by_plan.density = by_blocks.density = r.uniform();
    CHECK(misjudged_attention<T>(gpu{}, by_plan, r, {64}) == "");
    CHECK(misjudged_attention<T>(gpu{}, by_blocks, r, {64}) == "");
  }
}

TEST_CASE("nonsense in device memory is clamped") {
  if (device_missing("nonsense in device memory is clamped")) return;
  select_from_wild_memory(gpu{}, auto_dense{pooled_top_k{.k = 2}, cost_model{.listed = 1.2f}});
  select_from_wild_memory(gpu{}, auto_dense{plan{predicate{stripes{}}}, cost_model{.listed = 1, .partial = 1.5f}});
}

TEST_CASE("where the shape decides, nothing is selected") {
  if (device_missing("where the shape decides, nothing is selected")) return;
  dice r(32);
  device_heads<half> const q(r, {1, 300, 2, 64}, 1.f), k(r, {1, 300, 1, 64}, 1.f);
  for (std::optional<float> const density : {std::optional(.5f), std::optional<float>()}) {
    auto_dense const s{antidiagonal{}, costs_on(cuda_kernel::portable, antidiagonal{}), density};
    attention<auto_dense<antidiagonal>, fixed_router, gpu> const attend{s};
    problem const p = attend.shape(heads_view<half const>(q.device()), heads_view<half const>(k.device()));
    CHECK(s.goes_dense(p));
    attention<full, fixed_router, gpu> const dense{full{}};
    CHECK(attend.workspace_bytes(p) == dense.workspace_bytes(p));
  }
}
