// Vertical-slash selection on the CUDA backend: the reference's columns and offsets wherever rounding cannot tip a
// choice, differences and lists that follow from them, and attention through all of it.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "support/cuda_selected_modes.cuh"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<32, 64, 128>;

struct tally {
  int choices = 0, near_ties = 0, differ = 0, wrong = 0, wrong_lists = 0;
};

/// Are the set bits of a row the `count` largest sums, the forced ones first?
void judge(bit_rows const& bits, std::int64_t row, std::vector<double> const& sums, int count, int forced, tally& sum) {
  int const n = static_cast<int>(sums.size());
  double worst_kept = std::numeric_limits<double>::infinity(), best_left = -worst_kept, largest = 1e-6;
  int kept = 0, near = 0;
  auto const score = [&](int i) {
    return i < forced ? std::numeric_limits<double>::infinity() : sums[static_cast<std::size_t>(i)];
  };
  for (int i = 0; i < n; ++i) {
    bool const taken = bits.test(row, i);
    kept += taken;
    (taken ? worst_kept = std::min(worst_kept, score(i)) : best_left = std::max(best_left, score(i)));
  }
  for (int i = n; i < 32 * bits.words_per_row; ++i) sum.wrong += bits.test(row, i);
  sum.wrong += kept != count;
  double const tolerance = 1e-5 * std::max(std::isfinite(worst_kept) ? worst_kept : 0, largest);
  sum.wrong += best_left - worst_kept > tolerance;
  for (int i = 0; i < n; ++i) {
    near += std::isfinite(worst_kept) && std::abs(score(i) - worst_kept) < tolerance;
    bool const exact = bits.test(row, i) ? score(i) < best_left : score(i) > worst_kept;
    sum.differ += exact;
  }
  sum.near_ties += near > 1 ? near : 0;
  sum.choices += n;
}

template <element T>
void compare(dice& r, tally& sum, int longest) {
  vertical_slash s;
  s.columns = r.pick({0, 5, 40, 100, 1000});
  s.offsets = r.pick({0, 60, 120, 300, 6096});
  s.forced_columns = r.pick({0, 4, 30, 50});
  s.forced_offsets = r.pick({0, 10, 100});
  s.last = r.pick({1, 20, 64, 64, 100, 200});
  s.slash_block = r.pick({64, 64, 32, 100});
  if (r.one_in(3)) s.estimate_scale = 0.2f;
  drawn_problem<T> const x(r, {32, 64, 128}, longest);
  problem const p = make_problem<T>(x.q->host(), x.k->host(), x.o);
  std::vector<std::int32_t> routes(static_cast<std::size_t>(p.batch * p.query_heads));
  for (auto& route : routes) route = r.one_in(4) ? 0 : 1;
  device_run<vertical_slash, T> run(gpu{}, s, *x.q, *x.k, x.o, routes, 1);
  CHECK(run.fault == "");
  workspace_cursor cursor(run.memory.data());
  vertical_slash::storage const given = s.bind(p, cursor);

  // Differences and lists by the host from the device's columns and offsets.
  std::vector<std::byte> again = run.memory;
  workspace_cursor again_cursor(again.data());
  vertical_slash::storage const expected = s.bind(p, again_cursor);
  expected.lists.clear();
  for (int b = 0; b < p.batch; ++b)
    for (int h = 0; h < p.query_heads; ++h) {
      where const w = locate(p, b, h, 0);
      std::int64_t const row = given.selected().row(w);
      bool const comes = routes[static_cast<std::size_t>(row)] == 1;
      expected.clear_head(w);
      for (int i = 0; comes && i < w.k_len; ++i) {
        if (given.columns.test(row, i)) expected.take_column(w, i);
        if (given.offsets.test(row, i)) expected.take_offset(w, i);
      }
      for (bit_rows vertical_slash::storage::* bits :
           {&vertical_slash::storage::columns, &vertical_slash::storage::offsets,
            &vertical_slash::storage::differences})
        for (int word = 0; word < (given.*bits).words_per_row; ++word)
          sum.wrong += (given.*bits).row(row)[word] != (expected.*bits).row(row)[word];
      for (int i = p.q_begin / chunk_alignment; comes && i < ceil_div(minimum(p.q_end, w.q_len), chunk_alignment); ++i)
        expected.write_list(w, i);
    }
  selection one, other;
  add_lists(given.lists.selected(), p, one);
  add_lists(expected.lists.selected(), p, other);
  sum.wrong_lists += one != other;
  given.selected().validate(p);

  select_inputs<T> const in{x.q->host(), x.k->host(), p, const_assignment_view(routes.data(), {p.batch, p.query_heads}),
                            1};
  column_and_offset_sums_on(reference{}, s, in, [&](where const& w, auto const& columns, auto const& offsets) {
    std::int64_t const row = given.selected().row(w);
    judge(given.columns, row, columns, s.columns_of(w), s.forced_columns, sum);
    judge(given.offsets, row, offsets, s.offsets_of(w), s.forced_offsets, sum);
  });
}

}  // namespace

TEST_CASE_TEMPLATE("random problems", T, float, half, bfloat16) {
  if (device_missing("vertical-slash: random problems")) return;
  tally sum;
  auto const many = static_cast<int>(maximum<std::int64_t>(environment("ELASTIC_RANDOM_PROBLEMS", 20000) / 160, 2));
  for (int i = 0; i < many; ++i) {
    CAPTURE(i);
    dice r(31, static_cast<std::uint64_t>(i));
    compare<T>(r, sum, i % 10 == 9 ? 3000 : 500);
  }
  CHECK(sum.wrong == 0);
  CHECK(sum.wrong_lists == 0);
  MESSAGE(std::string(dtype_name<T>) << ": " << sum.choices << " choices, " << sum.near_ties
                                     << " near the cut within rounding, " << sum.differ << " chosen otherwise");
}

TEST_CASE_TEMPLATE("attention through the selection", T, half, bfloat16) {
  if (device_missing("vertical-slash: attention through the selection")) return;
  for (std::uint64_t i = 0; i < 12; ++i) {
    CAPTURE(i);
    dice r(78, i);
    vertical_slash s;
    s.columns = r.pick({30, 60});
    s.offsets = r.pick({50, 110});
    s.forced_offsets = 20;
    CHECK(misjudged_attention<T>(cuda_for<64>{}, s, r, {64}) == "");
  }
}

TEST_CASE("wild lengths and routes in device memory stay inside the tensors") {
  if (device_missing("vertical-slash: wild lengths and routes")) return;
  select_from_wild_memory(cuda_for<64>{}, vertical_slash{40, 60, 4, 10, 64});
}
