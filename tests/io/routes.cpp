#include <elastic/io/routes.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/io/safetensors.hpp>

#include <support/safetensors.hpp>
#include <support/scratch_folder.hpp>

using namespace elastic;
using elastic::testing::message_of;
using elastic::testing::put;
using elastic::testing::scratch_folder;

namespace {

bool names(std::string const& text, std::string const& part) {
  if (text.find(part) == std::string::npos) MESSAGE(text << " does not name " << part);
  return text.find(part) != std::string::npos;
}

/// The routes that a router gives to one sequence.
std::vector<std::int32_t> routes_of(fixed_router const& router, int query_heads, int layer) {
  std::vector<std::int32_t> routes(static_cast<std::size_t>(query_heads), -1);
  attention(hybrid<full, streaming>{}, router)
      .route(route_inputs<float>{}, assignment_view(routes.data(), {1, query_heads}), {}, {.layer = layer});
  return routes;
}

}  // namespace

TEST_CASE("text tables: separators, comments, blank lines, either line end") {
  std::vector<double> const expected{0, 0.5, 1, 1, 0.25, -1e-3};
  for (char const* text :
       {"0\t0.5\t1\n1\t0.25\t-1e-3\n", "0, 0.5 , 1\r\n\r\n1,0.25,-1e-3", "# alpha\n0 0.5 +1 # first\n\n 1;0.25;-0.001",
        "0.000000000000000000e+00\t5.000000000000000000e-01\t1.000000000000000000e+00\n1\t0.25\t-0.001\n\n"}) {
    CAPTURE(text);
    auto const table = route_table::from_text(text);
    CHECK(table.layers == 2);
    CHECK(table.heads == 3);
    CHECK(table.values == expected);
  }
}

TEST_CASE("the same table from every kind of file") {
  std::vector<double> const values{0, 1, 1, 0, 0, 1};
  scratch_folder const folder;
  put(folder / "routes.tsv", "0\t1\t1\n0\t0\t1\n");
  put(folder / "routes.csv", "0,1,1\n0,0,1\n");
  put(folder / "routes.json", "[[0, 1, 1], [0, 0, 1.0]]");
  safetensors_writer{}
      .add("alpha", {2, 3}, std::vector<float>(values.begin(), values.end()))
      .write(folder / "routes.safetensors");
  for (char const* name : {"routes.tsv", "routes.csv", "routes.json", "routes.safetensors"}) {
    auto const path = folder / name;
    CAPTURE(path);
    CHECK(route_table::load(path).values == values);
    CHECK(route_table::load(path).layers == 2);
    fixed_router const router = routes_router(route_table::load(path), 2);
    CHECK(routes_of(router, 6, 0) == std::vector<std::int32_t>{0, 0, 1, 1, 1, 1});
    CHECK(routes_of(router, 6, 1) == std::vector<std::int32_t>{0, 0, 0, 0, 1, 1});
  }
  CHECK(names(message_of([] { route_table::load("no/such/file.tsv"); }), "no/such/file.tsv"));
  safetensors_writer writer;
  writer.add("a", {1, 2}, std::vector<std::int32_t>{1, 0}).add("b", {2}, std::vector<std::int32_t>{1, 0});
  auto const file = safetensors_file::from_bytes(writer.to_bytes());
  CHECK(route_table::from_safetensors(file, "a").values == std::vector<double>{1, 0});
  CHECK(names(message_of([&] { route_table::from_safetensors(file); }), "2 tensors"));
  CHECK(names(message_of([&] { route_table::from_safetensors(file, "b"); }), "\"b\""));
  CHECK(names(message_of([&] { route_table::from_safetensors(file, "c"); }), "\"c\""));
}

TEST_CASE("malformed tables are refused, naming the line") {
  auto const text = [](char const* t) { return message_of([&] { route_table::from_text(t, "heads.tsv"); }); };
  CHECK(names(text("1 0\n1 x\n"), "heads.tsv line 2"));
  CHECK(names(text("1 0\n1\n"), "heads.tsv line 2: got 1 numbers, expected 2"));
  CHECK(names(text("1,,0\n"), "heads.tsv line 1: got an empty field"));
  CHECK(names(text("1,0,\n"), "an empty field"));
  CHECK(names(text(",1\n"), "an empty field"));
  CHECK(names(text("1 nan\n"), "finite"));
  CHECK(names(text("1 1e999\n"), "line 1"));
  CHECK(names(text("1.5.2"), "1.5.2"));
  CHECK(names(text("0 1\r1 0\r"), "line 1"));  // line ends of no system that is left
  CHECK(names(text(""), "empty table"));
  CHECK(names(text("# nothing\n\n"), "empty table"));
  auto const json = [](char const* t) { return message_of([&] { route_table::from_json(t, "heads.json"); }); };
  CHECK(names(json("[[1, 0], [1]]"), "heads.json row 1"));
  CHECK(names(json("[1, 0]"), "row 0: got number"));
  CHECK(names(json("[[1, \"x\"]]"), "got string"));
  CHECK(names(json("{}"), "got object"));
  CHECK(names(json("[[1, 0"), "no valid JSON"));
  CHECK(names(json("[]"), "empty table"));
  CHECK(names(message_of([] { route_table::from_json(std::string("[[1, 0]]\0 [", 11), "heads.json"); }),
              "no valid JSON"));
  CHECK(names(json("[[], []]"), "no numbers"));
  CHECK(names(message_of([] { routes_router(route_table::from_text("0.5 1")); }), "whole numbers"));
  CHECK(names(message_of([] { routes_router(route_table::from_text("-1 1")); }), "whole numbers"));
  CHECK(names(message_of([] { routes_router(route_table::from_text("0 1"), 0); }), "group"));
  CHECK(names(message_of([] { threshold_router(route_table::from_text("0 1"), 1.5); }), "sparsity"));
  CHECK(names(message_of([] { route_table::from_text("+-1", "heads.tsv"); }), "heads.tsv line 1: got \"+-1\""));
  route_table const wide{1, 1 << 16, std::vector<double>(1 << 16)};
  CHECK(names(message_of([&] { routes_router(wide, 2); }), "group"));
  CHECK_NOTHROW(routes_router(wide));
  double const nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(names(message_of([&] { threshold_router(route_table{1, 2, {nan, 1}}, 0.5); }), "table: got nan"));
  CHECK(names(message_of([&] { threshold_router(route_table{5, 5, {1}}, 0.5); }), "table: got 1 values"));
  CHECK(names(message_of([] { threshold_router(route_table{}, 0.5); }), "empty table"));
}

TEST_CASE("thresholds at a quantile, as numpy.quantile has it") {
  auto const table = route_table::from_text("0.9 0.1 0.4 0.7\n0.2 0.8 0.3 1.2\n");
  // Sorted: .1 .2 .3 .4 .7 .8 .9 1. Rank 0.5·7 = 3.5: threshold 0.55.
  CHECK(routes_of(threshold_router(table, 0.5, 2), 8, 0) == std::vector<std::int32_t>{0, 0, 1, 1, 1, 1, 0, 0});
  CHECK(routes_of(threshold_router(table, 0.5, 2), 8, 1) == std::vector<std::int32_t>{1, 1, 0, 0, 1, 1, 0, 0});
  CHECK(routes_of(threshold_router(table, 0), 4, 0) == std::vector<std::int32_t>(4, 0));
  CHECK(routes_of(threshold_router(table, 1), 4, 1) == std::vector<std::int32_t>(4, 1));
  // Rank 0.7·7 = 4.9: threshold 0.79.
  CHECK(routes_of(threshold_router(table, 0.7), 4, 0) == std::vector<std::int32_t>{0, 1, 1, 1});
  CHECK(routes_of(threshold_router(table, 0.7), 4, 1) == std::vector<std::int32_t>{1, 0, 1, 0});
  // A value at the threshold is full; equal values go together.
  auto const tied = route_table::from_text("0.5 0.5 0.5 0.5 1");
  CHECK(routes_of(threshold_router(tied, 0.4), 5, 0) == std::vector<std::int32_t>(5, 0));
  CHECK(detail::quantile({3, 1, 2}, 0.25) == 1.5);
  CHECK(detail::quantile({5}, 0.25) == 5);
}
