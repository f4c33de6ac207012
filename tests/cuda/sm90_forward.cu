// The Hopper kernel beside the portable one, on problems larger than the random ones: many items for each CTA, items of
// one tile and of none, packed sequences with NaN around them, blocks of 64, chunks. Both must give the same to within
// the rounding of 16-bit results, and the Hopper kernel the same bits twice.
#include <elastic/cuda/launch.cuh>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "support/cuda_memory.hpp"
#include "support/modes.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

struct lengths {
  int batch, q_len, k_len, query_heads, kv_heads;
  bool causal = true;
  std::vector<std::int32_t> starts_q = {}, starts_k = {};  // packed
  int q_begin = 0;
  int poisoned = -1;  // a packed sequence whose keys and values are NaN: its own output is not looked at
};

/// (batch, seq, heads, head_dim) in memory that is NaN outside the rows of the problem.
template <class T, int HeadDim>
struct tensor {
  std::array<std::int64_t, 4> shape;
  std::vector<T> host;
  device_buffer<T> memory;
  tensor(dice& r, int batch, int rows, int heads, int padding)
      : shape{batch, rows, heads, HeadDim},
        host(std::size_t(batch) * std::size_t(rows + padding) * std::size_t(heads) * HeadDim),
        memory(host.size()) {
    T const nan = std::is_same_v<T, half> ? T::from_bits(0x7e5a) : T::from_bits(0x7fda);
    std::size_t const row = std::size_t(heads) * HeadDim, slab = std::size_t(rows + padding) * row;
    for (std::size_t i = 0; i < host.size(); ++i) host[i] = i % slab / row < std::size_t(rows) ? T(r.normal()) : nan;
    memory.write(host);
  }
  template <class U>
  heads_view<U> view() const {
    std::int64_t const row = shape[2] * shape[3];
    std::int64_t const slab = static_cast<std::int64_t>(host.size()) / shape[0];
    return {memory.data(), shape, {slab, row, shape[3], 1}};
  }
};

template <int HeadDim, class T, class M>
std::string differs(M const& mode, lengths const& n, float scale = 0) {
  dice r(5);
  bool const packed = !n.starts_q.empty();
  int const slabs = packed ? 1 : n.batch;
  int const rows_q = packed ? n.starts_q.back() : n.q_len, rows_k = packed ? n.starts_k.back() : n.k_len;
  tensor<T, HeadDim> q(r, slabs, rows_q, n.query_heads, 5), k(r, slabs, rows_k, n.kv_heads, 3),
      v(r, slabs, rows_k, n.kv_heads, 7), out(r, slabs, rows_q, n.query_heads, 0),
      expected(r, slabs, rows_q, n.query_heads, 0);
  bool const poisons = n.poisoned >= 0;
  std::size_t const at = poisons ? std::size_t(n.poisoned) : 0;
  auto const inside = [&](std::vector<std::int32_t> const& starts, std::size_t row) {
    return poisons && row >= std::size_t(starts[at]) && row < std::size_t(starts[at + 1]);
  };
  for (tensor<T, HeadDim>* const x : {&k, &v}) {
    for (std::size_t i = 0; i < x->host.size(); ++i)
      if (inside(n.starts_k, i / (std::size_t(n.kv_heads) * HeadDim))) x->host[i] = T(NAN);
    x->memory.write(x->host);
  }
  std::size_t const lse_size = std::size_t(slabs) * std::size_t(n.query_heads) * std::size_t(rows_q);
  device_buffer<float> lse(lse_size), expected_lse(lse_size);
  device_buffer<std::int32_t> const starts_q{std::span<std::int32_t const>(n.starts_q)},
      starts_k{std::span<std::int32_t const>(n.starts_k)};
  std::vector<std::int32_t> routes(std::size_t(n.batch * n.query_heads));
  for (std::int32_t& route : routes) route = r.below(elastic::routes<M>);
  device_buffer<std::int32_t> const route_memory{std::span<std::int32_t const>(routes)};

  problem p;
  p.batch = n.batch;
  p.q_len = n.q_len;
  p.k_len = n.k_len;
  p.query_heads = n.query_heads;
  p.kv_heads = n.kv_heads;
  p.head_dim = HeadDim;
  p.causal = n.causal;
  p.softmax_scale = scale != 0 ? scale : 1 / std::sqrt(float(HeadDim));
  if (packed) p.cu_seqlens_q = starts_q.data(), p.cu_seqlens_k = starts_k.data();
  p.q_begin = n.q_begin;
  p.q_end = n.q_len;
  device_buffer<std::byte> const space(elastic::detail::portable_scratch_bytes(p));
  workspace const scratch{space.data(), space.size()};
  const_assignment_view const assignment(route_memory.data(), {n.batch, n.query_heads});
  plain_keys<T> const source{k.template view<T const>(), v.template view<T const>()};
  auto const lse_of = [&](device_buffer<float> const& of) {
    return lse_view(of.data(), {slabs, n.query_heads, rows_q});
  };

  auto const device = elastic::detail::current_device();
  elastic::detail::portable_launch<HeadDim>(mode, p, q.template view<T const>(), source, expected.template view<T>(),
                                            lse_of(expected_lse), assignment, scratch, device.number);
  auto const run = [&] {
    out.memory.write(out.host);
    std::vector<float> const nothing(lse_size, -1234.f);
    lse.write(nothing);
    bool const served =
        elastic::detail::sm90_launch<HeadDim>(mode, p, q.template view<T const>(), source, out.template view<T>(),
                                              lse_of(lse), assignment, scratch, device.number, device.capability);
    cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return served;
  };
  if (!run()) return "not served";
  auto const first = out.memory.read();
  auto const first_lse = lse.read();
  run();
  auto const given = out.memory.read();
  auto const wanted = expected.memory.read();
  auto const given_lse = lse.read(), wanted_lse = expected_lse.read();
  if (std::memcmp(first.data(), given.data(), first.size() * sizeof(T)) != 0 ||
      std::memcmp(first_lse.data(), given_lse.data(), first_lse.size() * sizeof(float)) != 0)
    return "a second run gave other bits";
  double error = 0, norm = 0, worst = 0, worst_lse = 0;
  std::size_t touched = 0, row = std::size_t(n.query_heads) * HeadDim, slab = std::size_t(rows_q) * row;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (!packed && i % slab / row < std::size_t(n.q_begin)) {
      touched += std::memcmp(&given[i], &out.host[i], sizeof(T)) != 0;
      continue;
    }
    if (inside(n.starts_q, i / row)) continue;
    double const x = float(given[i]), y = float(wanted[i]);
    if (std::isnan(x)) return "out has a NaN at element " + std::to_string(i);
    error += (x - y) * (x - y);
    norm += y * y;
    worst = std::fmax(worst, std::fabs(x - y));
  }
  if (touched > 0) return "rows outside the chunk were written";
  for (std::size_t i = 0; i < given_lse.size(); ++i) {
    if (!packed && i % std::size_t(rows_q) < std::size_t(n.q_begin)) continue;
    if (inside(n.starts_q, i % std::size_t(rows_q))) continue;
    double const x = given_lse[i], y = wanted_lse[i];
    if (std::isnan(x) || (std::isinf(y) && x != y)) return "lse is wrong at " + std::to_string(i);
    if (!std::isinf(y)) worst_lse = std::fmax(worst_lse, std::fabs(x - y));
  }
  double const relative = std::sqrt(error / std::fmax(norm, 1e-30)), allowed = std::is_same_v<T, half> ? 1e-3 : 8e-3;
  if (!(relative < allowed) || !(worst_lse < 1e-4))
    return "relative error " + std::to_string(relative) + ", largest " + std::to_string(worst) + ", of lse " +
           std::to_string(worst_lse);
  return {};
}

bool no_hopper(char const* test) {
  if (device_missing(test)) return true;
  if (sm90_is_built && elastic::detail::current_device().capability == 90) return false;
  MESSAGE("skipped, no code for 9.0a or not compute capability 9.0: " << std::string(test));
  return true;
}

/// Block lists of a random density, some empty, in device memory.
struct random_lists {
  struct drawn {
    std::vector<std::int32_t> entries, count;
    std::vector<std::int64_t> begin;
  };
  device_buffer<std::int32_t> entries, count;
  device_buffer<std::int64_t> begin;
  block_sparse mode;

  static drawn draw_lists(int rows, int blocks, bool partial) {
    dice r(3);
    drawn d;
    for (int i = 0; i < rows; ++i) {
      d.begin.push_back(std::int64_t(d.entries.size()));
      bool const empty = r.one_in(8);
      for (int block = blocks - 1; !empty && block >= 0; --block)
        if (r.one_in(3)) d.entries.push_back(partial && r.one_in(2) ? ~block : block);
      d.count.push_back(std::int32_t(std::int64_t(d.entries.size()) - d.begin.back()));
    }
    d.entries.push_back(0);
    return d;
  }
  random_lists(int batch, int heads, int q_len, int k_len, int block_rows, int block_columns, bool partial)
      : random_lists(draw_lists(batch * heads * ceil_div(q_len, block_rows), ceil_div(k_len, block_columns), partial)) {
    std::array<std::int64_t, 3> const shape{batch, heads, ceil_div(q_len, block_rows)};
    mode.begin = {begin.data(), shape};
    mode.count = {count.data(), shape};
    mode.block_rows = block_rows;
    mode.block_columns = block_columns;
  }

 private:
  explicit random_lists(drawn const& d)
      : entries(std::span<std::int32_t const>(d.entries)),
        count(std::span<std::int32_t const>(d.count)),
        begin(std::span<std::int64_t const>(d.begin)) {
    mode.entries = entries.data();
    mode.size = std::int64_t(d.entries.size()) - 1;
  }
};

}  // namespace

TEST_CASE("full attention: lengths, heads, both 16-bit types") {
  if (no_hopper("full attention on Hopper")) return;
  CHECK(differs<128, bfloat16>(full{}, {1, 128, 128, 1, 1}) == "");
  CHECK(differs<128, bfloat16>(full{}, {1, 1024, 1024, 4, 2}) == "");
  CHECK(differs<128, bfloat16>(full{}, {2, 333, 333, 4, 1}) == "");
  CHECK(differs<128, half>(full{}, {2, 777, 1300, 24, 8, false}) == "");
  CHECK(differs<128, bfloat16>(full{}, {1, 500, 277, 6, 3}) == "");
  CHECK(differs<128, bfloat16>(full{}, {3, 1, 1, 2, 2}) == "");
  CHECK(differs<128, bfloat16>(full{}, {40, 130, 200, 16, 4}) == "");
  CHECK(differs<128, bfloat16>(full{}, {1, 1500, 1500, 4, 2, true, {}, {}, 256}) == "");
  CHECK(differs<64, half>(full{}, {2, 1111, 2048, 12, 4}) == "");
  CHECK(differs<64, bfloat16>(full{}, {2, 1111, 999, 12, 4, false}) == "");
  CHECK(differs<192, half>(full{}, {2, 1111, 1500, 6, 2}) == "");
  CHECK(differs<192, bfloat16>(full{}, {2, 700, 999, 6, 2, false}) == "");
  CHECK(differs<96, bfloat16>(full{}, {1, 128, 128, 1, 1}) == "");
  CHECK(differs<96, half>(full{}, {2, 1111, 1500, 12, 4}) == "");
  CHECK(differs<96, bfloat16>(full{}, {2, 700, 999, 6, 2, false}) == "");
  CHECK(differs<96, bfloat16>(full{}, {1, 1500, 1500, 4, 2, true, {}, {}, 256}) == "");
}

TEST_CASE("one slot of queries: items of many tiles, of one and of none") {
  if (no_hopper("one slot of queries on Hopper")) return;
  CHECK(differs<256, bfloat16>(full{}, {1, 64, 64, 1, 1}) == "");
  CHECK(differs<256, bfloat16>(full{}, {1, 1024, 1024, 4, 2}) == "");
  CHECK(differs<256, half>(full{}, {2, 1111, 1500, 12, 4}) == "");
  CHECK(differs<256, bfloat16>(full{}, {2, 777, 1300, 24, 8, false}) == "");
  CHECK(differs<256, bfloat16>(full{}, {1, 500, 277, 6, 3}) == "");
  CHECK(differs<256, bfloat16>(full{}, {3, 1, 1, 2, 2}) == "");
  CHECK(differs<256, bfloat16>(full{}, {40, 130, 40, 16, 4, false}) == "");
  CHECK(differs<256, bfloat16>(full{}, {40, 130, 200, 16, 4}) == "");
  CHECK(differs<256, bfloat16>(full{}, {1, 1500, 1500, 4, 2, true, {}, {}, 256}) == "");
}

TEST_CASE("more tiles than the lanes of a loader find at once: lists, two tiles a stage, one of 64") {
  if (no_hopper("many tiles on Hopper")) return;
  for (int columns : {128, 64}) {
    random_lists const many(1, 4, 150, 13333, 128, columns, true);
    CHECK(differs<128, half>(listed<predicate<striped>>{{}, many.mode}, {1, 150, 13333, 4, 2}) == "");
    random_lists const full_blocks(1, 4, 150, 13333, 128, columns, false);
    CHECK(differs<96, half>(full_blocks.mode, {1, 150, 13333, 4, 2}) == "");
    CHECK(differs<128, bfloat16>(hybrid<full, block_sparse>{full{}, full_blocks.mode}, {1, 150, 13333, 4, 2}) == "");
  }
  CHECK(differs<192, half>(full{}, {1, 150, 5000, 4, 2}) == "");
  CHECK(differs<256, bfloat16>(full{}, {1, 150, 5000, 4, 2}) == "");
}

TEST_CASE("packed sequences: neighbours' rows are neither read nor written") {
  if (no_hopper("packed sequences on Hopper")) return;
  lengths packed{6, 700, 900, 8, 2, true, {0, 1, 130, 130, 830, 1086, 1100}, {0, 1, 200, 300, 1200, 1456, 1500}};
  CHECK(differs<128, bfloat16>(full{}, packed) == "");
  packed.causal = false;
  CHECK(differs<128, half>(full{}, packed) == "");
  CHECK(differs<64, bfloat16>(streaming{1, 2}, packed) == "");
  CHECK(differs<192, bfloat16>(full{}, packed) == "");
  CHECK(differs<96, bfloat16>(full{}, packed) == "");
  CHECK(differs<256, bfloat16>(full{}, packed) == "");
  for (int const poisoned : {0, 1, 3, 4, 5}) {
    CAPTURE(poisoned);
    packed.poisoned = poisoned;
    CHECK(differs<128, bfloat16>(full{}, packed) == "");
    CHECK(differs<192, half>(full{}, packed) == "");
    CHECK(differs<256, bfloat16>(streaming{1, 2}, packed) == "");
  }
}

TEST_CASE("hybrids: dense, streaming and listed heads in one launch") {
  if (no_hopper("hybrids on Hopper")) return;
  hybrid<full, streaming> const blocks{full{}, streaming{1, 4}};
  CHECK(differs<128, bfloat16>(blocks, {1, 2048, 2048, 16, 4}) == "");
  CHECK(differs<128, bfloat16>(blocks, {2, 1501, 1999, 8, 4}) == "");
  hybrid<full, streaming> const tokens{full{}, streaming{37, 300, granularity::token}};
  CHECK(differs<128, bfloat16>(tokens, {2, 1501, 1999, 8, 4}) == "");
  CHECK(differs<64, half>(tokens, {1, 1501, 1501, 8, 2, false}) == "");
  CHECK(differs<96, half>(tokens, {2, 1501, 1999, 8, 4}) == "");
  CHECK(differs<256, half>(tokens, {2, 1501, 1999, 8, 4}) == "");
  CHECK(differs<256, bfloat16>(blocks, {1, 2048, 2048, 16, 4}) == "");
  random_lists const lists(2, 8, 1501, 1999, 128, 128, false);
  CHECK(differs<128, bfloat16>(hybrid<full, block_sparse>{full{}, lists.mode}, {2, 1501, 1999, 8, 4}) == "");
}

TEST_CASE("lists: blocks of 128 and 64, partial entries, empty rows") {
  if (no_hopper("lists on Hopper")) return;
  lengths const n{2, 1501, 1999, 8, 4};
  for (int rows : {128, 64, 256})
    for (int columns : {128, 64, 192}) {
      random_lists const lists(2, 8, 1501, 1999, rows, columns, false);
      INFO("blocks of " << rows << " x " << columns);
      CHECK(differs<128, bfloat16>(lists.mode, n) == "");
    }
  random_lists const partial(2, 8, 1501, 1999, 128, 64, true);
  listed<predicate<striped>> const asked{{}, partial.mode};
  CHECK(differs<128, half>(asked, n) == "");
  random_lists const narrow(2, 8, 1501, 1999, 128, 64, false);
  CHECK(differs<192, half>(narrow.mode, n) == "");
  CHECK(differs<96, half>(narrow.mode, n) == "");
  random_lists const small(2, 8, 1501, 1999, 64, 64, false);
  for (auto const* lists : {&narrow, &small}) CHECK(differs<256, half>(lists->mode, n) == "");
}

TEST_CASE("hooks and sink logits") {
  if (no_hopper("hooks on Hopper")) return;
  using capped = scored<hybrid<full, streaming>, soft_cap>;
  capped const mode{hybrid<full, streaming>{full{}, streaming{1, 2}}, soft_cap{5}};
  CHECK(differs<128, bfloat16>(mode, {1, 900, 900, 8, 2}) == "");
  CHECK(differs<128, bfloat16>(mode, {1, 900, 900, 8, 2}, -0.1f) == "");
  CHECK(differs<256, half>(mode, {1, 900, 900, 8, 2}) == "");
  std::vector<float> const sinks(8, 0.5f);
  device_buffer<float> const logits{std::span<float const>(sinks)};
  CHECK(differs<128, bfloat16>(sink_logits<full>{full{}, logits.data()}, {1, 500, 277, 8, 2}) == "");
}

TEST_CASE("what it cannot serve is left to the portable kernel") {
  alignas(16) static bfloat16 memory[8];
  auto const serves = [](std::array<std::int64_t, 4> const& strides, float scale, auto const& mode) {
    heads_view<bfloat16 const> const q(memory, {2, 300, 4, 128}, strides);
    heads_view<bfloat16> const out(memory, {2, 300, 4, 128});
    problem p;
    p.softmax_scale = scale;
    return elastic::detail::sm90_serves<128>(mode, p, q, plain_keys<bfloat16>{q, q}, out);
  };
  CHECK(serves({153600, 512, 128, 1}, 0.1f, full{}));
  CHECK(serves({153600, 128, 38400, 1}, 0.1f, full{}));
  CHECK(!serves({153600, 512, 0, 1}, 0.1f, full{}));
  CHECK(!serves({153600, -512, 128, 1}, 0.1f, full{}));
  CHECK(!serves({153600, 512, 128, 1}, -0.1f, full{}));
  CHECK(!serves({153600, 512, 128, 1}, 0.f, full{}));
  CHECK(serves({153600, 512, 128, 1}, -0.1f, scored<full, soft_cap>{}));
  block_sparse lists;
  CHECK(serves({153600, 512, 128, 1}, 0.1f, lists));
  lists.block_columns = 64;
  lists.block_rows = 64;
  CHECK(serves({153600, 512, 128, 1}, 0.1f, lists));
  lists.block_columns = 32;
  CHECK(!serves({153600, 512, 128, 1}, 0.1f, lists));
}
