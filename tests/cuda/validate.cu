// validate reads device memory and refuses what the host's checks refuse, in the same words; without it
// nothing is read or written out of bounds, whatever that memory holds.
#include <elastic/cuda/cuda.cuh>

#include <doctest/doctest.h>

#include "support/cuda_memory.hpp"
#include "support/dice.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

using gpu = cuda_for<32>;
using element_type = elastic::half;
using three_kinds = hybrid<full, streaming, block_sparse>;

template <class F>
std::string refused(F&& f) {
  try {
    f();
  } catch (error const& thrown) {
    return thrown.what();
  }
  return "nothing";
}

/// Packed sequences of 2 and 4 queries, 3 and 130 keys, 2 query heads and 1 KV head; a cache of 2 × 2 pages of 64.
/// The same integers lie on the host and on the device.
struct inputs {
  std::vector<std::int32_t> starts_q{0, 2, 6}, starts_k{0, 3, 133}, routes{0, 2, 1, 2}, entries{0, 0, 1, 0, 1, 0},
      count{1, 1, 2, 2}, table{0, 1, 2, 3}, lengths{64, 128};
  std::vector<std::int64_t> begin{0, 1, 2, 4};
  std::vector<element_type> const host_tensor = std::vector<element_type>(std::size_t{1} << 16, element_type(0.25f));
  device_buffer<element_type> tensor{std::span<element_type const>(host_tensor)}, out{1 << 12};
  device_buffer<std::byte> space{std::size_t{4} << 20};
  std::vector<std::byte> host_space = std::vector<std::byte>(1 << 12);

  template <class Backend, class F>
  void with(F&& f) {
    if constexpr (Backend::on_host) {
      f(starts_q.data(), starts_k.data(), routes.data(), entries.data(), count.data(), begin.data(), table.data(),
        lengths.data(), workspace(host_space));
    } else {
      device_buffer<std::int32_t> const q{std::span<std::int32_t const>(starts_q)},
          k{std::span<std::int32_t const>(starts_k)}, r{std::span<std::int32_t const>(routes)},
          e{std::span<std::int32_t const>(entries)}, c{std::span<std::int32_t const>(count)},
          t{std::span<std::int32_t const>(table)}, l{std::span<std::int32_t const>(lengths)};
      device_buffer<std::int64_t> const b{std::span<std::int64_t const>(begin)};
      f(q.data(), k.data(), r.data(), e.data(), c.data(), b.data(), t.data(), l.data(),
        workspace(space.data(), space.size()));
      cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    }
  }

  heads_view<element_type const> q() const { return {tensor.data(), {1, 6, 2, 32}}; }
  heads_view<element_type const> k() const { return {tensor.data(), {1, 133, 1, 32}}; }
  heads_view<element_type const> q_decode() const { return {tensor.data(), {2, 2, 2, 32}}; }
  strided_view<element_type const, 3> pages() const { return {tensor.data(), {4, 64, 32}}; }

  template <class Backend>
  attention<three_kinds, fixed_router, Backend> attend(std::int32_t const* e, std::int32_t const* c,
                                                       std::int64_t const* b) const {
    block_sparse lists;
    lists.entries = e;
    lists.size = static_cast<std::int64_t>(entries.size());
    lists.begin = {b, {2, 2, 1}};
    lists.count = {c, {2, 2, 1}};
    return attention<three_kinds, fixed_router, Backend>{{full{}, streaming{}, lists}};
  }

  template <class Backend>
  std::string validated() {
    std::string text;
    with<Backend>([&](auto* sq, auto* sk, auto* r, auto* e, auto* c, auto* b, auto*, auto*, workspace memory) {
      options o;
      o.cu_seqlens_q = {sq, starts_q.size()};
      o.cu_seqlens_k = {sk, starts_k.size()};
      o.max_q_len = 4;
      o.max_k_len = 130;
      text = refused([&] { attend<Backend>(e, c, b).validate(q(), k(), const_assignment_view(r, {2, 2}), memory, o); });
    });
    return text;
  }
  template <class Backend>
  std::string validated_decode() {
    std::string text;
    with<Backend>([&](auto*, auto*, auto* r, auto* e, auto* c, auto* b, auto* t, auto* l, workspace) {
      paged_cache<element_type> const cache{pages(), pages(), {t, {2, 1, 2}}, {l, {2}}};
      text = refused([&] { attend<Backend>(e, c, b).validate(q_decode(), cache, const_assignment_view(r, {2, 2})); });
    });
    return text;
  }
  /// Runs what was not validated.
  void run() {
    with<gpu>([&](auto* sq, auto* sk, auto* r, auto* e, auto* c, auto* b, auto* t, auto* l, workspace memory) {
      options o;
      o.cu_seqlens_q = {sq, starts_q.size()};
      o.cu_seqlens_k = {sk, starts_k.size()};
      o.max_q_len = 4;
      o.max_k_len = 130;
      auto const run = attend<gpu>(e, c, b);
      heads_view<element_type> const to(out.data(), {1, 6, 2, 32}), decoded(out.data(), {2, 2, 2, 32});
      run.forward(q(), k(), k(), to, {}, const_assignment_view(r, {2, 2}), memory, o);
      paged_cache<element_type> const cache{pages(), pages(), {t, {2, 1, 2}}, {l, {2}}};
      run.decode(q_decode(), cache, decoded, {}, const_assignment_view(r, {2, 2}), memory);
    });
  }
};

}  // namespace

TEST_CASE("validate says on the device what it says on the host") {
  if (device_missing("validate")) return;
  auto const both = [](char const* expected, bool decode, auto&& spoil) {
    inputs x;
    CHECK(x.validated<gpu>() == "nothing");
    CHECK(x.validated_decode<gpu>() == "nothing");
    spoil(x);
    std::string const on_device = decode ? x.validated_decode<gpu>() : x.validated<gpu>();
    CHECK_MESSAGE(on_device.find(expected) != on_device.npos, on_device);
    CHECK(on_device == (decode ? x.validated_decode<reference>() : x.validated<reference>()));
  };
  both("options.cu_seqlens_q: got 1 after 2", false, [](inputs& x) { x.starts_q = {0, 2, 1}; });
  both("options.cu_seqlens_q: got 1, expected offsets that start at 0", false,
       [](inputs& x) { x.starts_q = {1, 2, 6}; });
  both("options.cu_seqlens_k: got 132, expected offsets that end at", false,
       [](inputs& x) { x.starts_k = {0, 3, 132}; });
  both("assignment: got 3, expected routes 0 to 2", false, [](inputs& x) { x.routes[2] = 3; });
  both("assignment: got -1, expected routes 0 to 2", true, [](inputs& x) { x.routes[2] = -1; });
  both("block_sparse.count: got 9", false, [](inputs& x) { x.count[3] = 9; });
  both("block_sparse.begin: got 5", false, [](inputs& x) { x.begin[3] = 5; });
  both("block_sparse.entries: got 2", false, [](inputs& x) { x.entries[2] = 2; });
  both("block_sparse.entries: got 1", false, [](inputs& x) { x.entries = {0, 0, 1, 1, 1, 0}; });
  both("cache.k_lengths: got 129", true, [](inputs& x) { x.lengths[0] = 129; });
  both("cache.k_lengths: got -1", true, [](inputs& x) { x.lengths[0] = -1; });
  both("cache.table: got 4, expected a page of the cache", true, [](inputs& x) { x.table[2] = 4; });
  inputs longer;  // than the host was told; a host backend reads the lengths itself
  longer.starts_q = {0, 1, 6};
  CHECK(longer.validated<gpu>().find("options.max_q_len: got 4, expected the longest sequence's 5 rows") !=
        std::string::npos);
}

TEST_CASE("garbage in device memory stays inside the tensors") {
  if (device_missing("garbage in device memory")) return;
  dice r(9);
  auto const wild = [&] {
    return static_cast<std::int32_t>(r.one_in(2) ? r.between(-9, 140) : static_cast<int>(r.bits()));
  };
  for (int round = 0; round < 30; ++round) {
    inputs x;
    for (auto* values : {&x.starts_q, &x.starts_k, &x.routes, &x.entries, &x.count, &x.table, &x.lengths})
      for (std::int32_t& value : *values) value = wild();
    for (std::int64_t& value : x.begin) value = r.one_in(2) ? wild() : static_cast<std::int64_t>(r.bits());
    x.run();
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
  }
}
