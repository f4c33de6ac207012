// Vertical-slash: the published code's columns and offsets, both backends against each other on random problems, the
// widening of slashes, and attention through what was selected.
#include <elastic/selectors/vertical_slash.hpp>

#include <doctest/doctest.h>

#include <set>

#include <support/golden.hpp>
#include <support/selected_modes.hpp>

using namespace elastic;
using namespace elastic::testing;

namespace {

float const published_scale = 1 / std::sqrt(128.f);

template <class Backend>
void check_golden(Backend const& backend) {
  golden_file const fixture("moba_vertical_slash.safetensors");
  for (char const* name : {"vs00", "vs01"}) {
    auto const golden = fixture.at(name);
    CAPTURE(name);
    auto const q = golden.load<half>("q_last"), k = golden.load<half>("k");
    auto const columns = golden.load<std::uint8_t>("columns"), offsets = golden.load<std::uint8_t>("offsets");
    vertical_slash s{.columns = golden.parameters.at("n_v"), .offsets = golden.parameters.at("n_s")};
    s.estimate_scale = published_scale;
    selected_run const run(backend, s, q.as_heads(), k.as_heads());
    vertical_slash_selected const mode = run.mode();
    for (int i = 0; i < run.shape.k_len; ++i) {
      CAPTURE(i);
      CHECK(mode.columns.test(0, i) == (columns.values[static_cast<std::size_t>(i)] != 0));
      CHECK(mode.offsets.test(0, i) == (offsets.values[static_cast<std::size_t>(i)] != 0));
    }
    check_laws(mode, run.shape);
  }
}

/// The blocks that a head's slashes pass through, pair by pair, without the mode's arithmetic. The last block counts
/// as whole, so that blocks of one difference are alike wherever the sequence ends.
std::set<std::pair<int, int>> widened(vertical_slash_selected const& mode, where const& w) {
  std::set<std::pair<int, int>> blocks;
  for (int p = 0; p < ceil_div(w.k_len, mode.slash_block) * mode.slash_block; ++p)
    for (int j = maximum(0, p - w.k_len + 1); j <= p; ++j)
      if (mode.offsets.test(mode.row(w), p - j)) blocks.insert({p / mode.slash_block, j / mode.slash_block});
  return blocks;
}

/// Gap of the sums at the cut, relative to the larger of both; 1 where nothing is to be decided.
double gap_of(std::vector<double> sums, int count, int forced) {
  int const rest = count - minimum(forced, count), from = minimum(forced, static_cast<int>(sums.size()));
  sums.erase(sums.begin(), sums.begin() + from);
  std::ranges::sort(sums, std::greater<>());
  if (rest == 0 || rest >= static_cast<int>(sums.size())) return 1;
  double const in = sums[static_cast<std::size_t>(rest) - 1], out = sums[static_cast<std::size_t>(rest)];
  return in == 0 ? 1 : (in - out) / in;  // sums that nothing reached are 0 everywhere
}

vertical_slash draw_vertical_slash(dice& r) {
  vertical_slash s{.columns = r.between(0, 60), .offsets = r.between(0, 120)};
  s.forced_columns = r.pick({0, 1, 10, 30});
  s.forced_offsets = r.pick({0, 1, 20, 100});
  s.last = r.pick({1, 16, 64, 64, 100});
  s.estimate_scale = r.pick({0, 0, 1}) == 0 ? 0.f : published_scale;
  s.slash_block = r.pick({1, 8, 16, 48, 64, 64, 128, 200});
  return s;
}

template <element T>
void check_random(std::uint64_t seed, double tolerance) {
  int heads = 0, near_ties = 0;
  for (int i = 0; i < 40; ++i) {
    CAPTURE(i);
    dice r(seed, static_cast<std::uint64_t>(i));
    random_problem<T> const drawn(r, 400);
    vertical_slash const s = draw_vertical_slash(r);
    auto const routes = drawn.random_routes(r, 2);
    selected_run const exact(reference{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
    selected_run const fast(cpu{}, s, drawn.q, drawn.k, drawn.o, routes, 1);
    select_inputs<T> const in{drawn.q, drawn.k, exact.shape,
                              const_assignment_view(routes.data(), {exact.shape.batch, exact.shape.query_heads}), 1};
    column_and_offset_sums_on(reference{}, s, in, [&](where const& w, auto const& columns, auto const& offsets) {
      auto const compare = [&](bit_rows const& a, bit_rows const& b, std::vector<double> const& sums, int count,
                               int forced) {
        ++heads;
        int kept = 0;
        for (int bit = 0; bit < w.k_len; ++bit) kept += a.test(exact.mode().row(w), bit);
        CHECK(kept == count);
        if (gap_of(sums, count, forced) < 1e-5) {
          ++near_ties;
          return;
        }
        for (int word = 0; word < a.words_per_row; ++word)
          CHECK(a.row(exact.mode().row(w))[word] == b.row(fast.mode().row(w))[word]);
      };
      compare(exact.mode().columns, fast.mode().columns, columns, s.columns_of(w), s.forced_columns);
      compare(exact.mode().offsets, fast.mode().offsets, offsets, s.offsets_of(w), s.forced_offsets);
    });

    auto const mask = mask_of(fast.mode(), fast.shape);
    CHECK(mask == mask_in_chunks(cpu{}, s, drawn, routes, 1, 128));
    for (int b = 0; b < fast.shape.batch; ++b)
      for (int h = 0; h < fast.shape.query_heads; ++h) {
        where const w = locate(fast.shape, b, h, 0);
        auto const blocks = widened(fast.mode(), w);
        bool agrees = true;
        for (int q = 0; q < w.q_len; ++q)
          for (int j = 0; j < w.k_len; ++j)
            agrees = agrees && mask(w, q, j) == (w.admits(q, j) &&
                                                 (fast.mode().columns.test(fast.mode().row(w), j) ||
                                                  blocks.contains({w.position(q) / s.slash_block, j / s.slash_block})));
        CHECK(agrees);
        if (routes[static_cast<std::size_t>(b * w.query_heads + h)] == 0) CHECK(blocks.empty());
      }
    if (i % 4 == 0) check_laws(fast.mode(), fast.shape);
    CHECK(front_door_error(cpu{}, s, drawn, routes, i % 2 == 0 ? 128 : 512) < tolerance);
    if (i % 4 == 1) CHECK(front_door_error(reference{}, s, drawn, routes, i % 2 == 0 ? 256 : 512) < tolerance);
  }
  MESSAGE(std::string(dtype_name<T>) << ": " << heads << " choices compared, " << near_ties << " near-ties");
  CHECK(heads > 100);
  CHECK(near_ties * 50 < heads);
}

}  // namespace

TEST_CASE("the reference selects what the published code selects") { check_golden(reference{}); }

TEST_CASE("the CPU selects what the published code selects") { check_golden(cpu{}); }

TEST_CASE("random problems in float") { check_random<float>(21, 2e-6); }
TEST_CASE("random problems in half") { check_random<half>(22, 1e-3); }
TEST_CASE("random problems in bfloat16") { check_random<bfloat16>(23, 8e-3); }

TEST_CASE("by hand: even weights") {
  // Queries of zero weigh all their keys alike: early columns and near offsets gather most, and ties go to the lower.
  int const rows = 500, d = 32;
  std::vector<float> zero(static_cast<std::size_t>(rows * d));
  heads_view<float const> const x(zero.data(), {1, rows, 1, d});
  vertical_slash s{.columns = 3, .offsets = 5, .forced_columns = 0, .forced_offsets = 0};
  auto const check = [&](auto const& backend) {
    selected_run const run(backend, s, x, x);
    for (int i = 0; i < rows; ++i) {
      CHECK(run.mode().columns.test(0, i) == (i < 30));  // the floors of 30 columns and 50 offsets
      CHECK(run.mode().offsets.test(0, i) == (i < 50));
    }
    // Offsets up to 49 pass through a query's own block of 64 and the one before it.
    where const w = locate(run.shape, 0, 0, 0);
    CHECK(run.mode().keeps(w, 499, 499 / 64 * 64 - 64));
    CHECK(!run.mode().keeps(w, 499, 499 / 64 * 64 - 65));
    CHECK(run.mode().keeps(w, 499, 29));
    CHECK(!run.mode().keeps(w, 499, 30));
    // Keys 0 … 127 (columns), 384 … 511 (the diagonal's), and 256 … 383 for the block before row 384.
    auto const tiles = tiles_of(run.mode(), w, 3, {128, 128});
    REQUIRE(tiles.count == 3);
    CHECK(tiles[0].index == 3);
    CHECK(tiles[0].kind == tile_kind::clipped);
    CHECK(tiles[1].index == 2);
    CHECK(tiles[1].kind == tile_kind::partial);
    CHECK(tiles[2].index == 0);
    CHECK(tiles[2].kind == tile_kind::partial);
  };
  check(reference{});
  check(cpu{});
}

TEST_CASE("parameters that make no sense are refused") {
  std::vector<float> x(64 * 32);
  heads_view<float const> const q(x.data(), {1, 64, 1, 32});
  auto const refused = [&](vertical_slash const& s, options const& o = {}) {
    try {
      attention{s}.shape(q, q, o);
    } catch (error const& e) {
      return e.argument();
    }
    return std::string();
  };
  CHECK(refused({}).empty());
  CHECK(refused({.columns = 2147483647, .offsets = 2147483647}).empty());
  CHECK(refused({.columns = -1}) == "vertical_slash.columns");
  CHECK(refused({.offsets = -1}) == "vertical_slash.offsets");
  CHECK(refused({.forced_columns = -1}) == "vertical_slash.forced_columns");
  CHECK(refused({.forced_offsets = -1}) == "vertical_slash.forced_offsets");
  CHECK(refused({.last = 0}) == "vertical_slash.last");
  CHECK(refused({.estimate_scale = std::numeric_limits<float>::infinity()}) == "vertical_slash.estimate_scale");
  CHECK(refused({.slash_block = 0}) == "vertical_slash.slash_block");
  CHECK(refused({.slash_block = 2147483647}) == "vertical_slash.slash_block");
  CHECK(refused({}, {.causal = false}) == "vertical_slash");
}
