// Pages handed back on the CUDA backend: the bytes of the formula, the same bits afterwards with those pages
// poisoned, and the same pages as on the CPU.
#include <elastic/cuda/cuda.cuh>

#include "support/cuda_memory.hpp"
#include "support/elastic_decode.hpp"

using namespace elastic;
using namespace elastic::testing;

namespace {

using retrieval_and_streaming = hybrid<full, streaming>;
using element_type = elastic::half;

/// An elastic_case on the device. Lengths are copied anew for every call.
struct device_case {
  elastic_case<element_type>& host;
  device_buffer<element_type> k{std::span<element_type const>(host.k)}, v{std::span<element_type const>(host.v)},
      q{std::span<element_type const>(host.q)}, out{host.q.size()};
  device_buffer<float> lse{8};
  device_buffer<std::int32_t> table{std::span<std::int32_t const>(host.table)}, lengths{2},
      routes{std::span<std::int32_t const>(host.routes)};
  device_buffer<std::byte> space{std::size_t{8} << 20};

  page_table writable() const {
    page_table view = host.writable;
    view.data = table.data();
    return view;
  }
  paged_cache<element_type> cache() const {
    lengths.write(host.lengths);
    paged_cache<element_type> view = host.cache;
    view.k_pages.data = k.data();
    view.v_pages.data = v.data();
    view.table.data = table.data();
    view.k_lengths.data = lengths.data();
    return view;
  }
  const_assignment_view assignment() const { return {routes.data(), {2, 4}}; }
  heads_view<element_type const> queries() const { return {q.data(), {2, 1, 4, 32}}; }

  template <class Attention>
  std::vector<char> decode(Attention const& attend) const {
    REQUIRE(attend.decode_bytes(attend.shape(queries(), cache())) <= space.size());
    attend.decode(queries(), cache(), heads_view<element_type>(out.data(), {2, 1, 4, 32}),
                  lse_view(lse.data(), {2, 4, 1}), assignment(), {space.data(), space.size()});
    auto const rows = out.read();
    auto const sums = lse.read();
    std::vector<char> bytes(rows.size() * sizeof(element_type) + sums.size() * sizeof(float));
    std::memcpy(bytes.data(), rows.data(), rows.size() * sizeof(element_type));
    std::memcpy(bytes.data() + rows.size() * sizeof(element_type), sums.data(), sums.size() * sizeof(float));
    return bytes;
  }
  void poison_pages(std::vector<std::int32_t> const& pages) {
    host.poison_pages(pages);
    k.write(host.k);
    v.write(host.v);
  }
};

}  // namespace

TEST_CASE("bytes follow the formula, and decode gives the same bits when pages handed back are poisoned") {
  if (device_missing("the elastic cache")) return;
  attention<retrieval_and_streaming, fixed_router, cuda_for<32>> const attend{{full{}, streaming{1, 3}}};
  attention<retrieval_and_streaming, fixed_router, reference> const on_host{{full{}, streaming{1, 3}}};
  for (int page : {64, 128})
    for (int length : {1, 128, 500, 1024, 1025, 1600, 6000}) {
      INFO("pages of " << page << ", " << length << " keys");
      elastic_case<element_type> x(length, maximum(length - 37, 0), 6000, page);
      device_case gpu{x};
      auto const before = gpu.decode(attend);
      handed_back const freed = attend.hand_back(gpu.cache(), gpu.writable(), gpu.assignment());
      handed_back const expected = on_host.hand_back(x.cache, x.writable, x.assignment());
      CHECK(freed.pages == expected.pages);
      CHECK(freed.bytes == expected.bytes);
      CHECK(gpu.table.read() == x.table);
      if (page == 128) CHECK(x.pages_held() == x.pages_by_formula(128, 3 * 128));
      gpu.poison_pages(freed.pages);
      CHECK(gpu.decode(attend) == before);
      CHECK(attend.hand_back(gpu.cache(), gpu.writable(), gpu.assignment()).pages.empty());
      CHECK_NOTHROW(attend.validate(gpu.queries(), gpu.cache(), gpu.assignment()));
    }
}

TEST_CASE("tables of any strides are marked") {
  if (device_missing("tables of any strides")) return;
  elastic_case<element_type> x(1024, 1024, 1024, 128);
  page_table const order[] = {
      {nullptr, {2, 2, 8}, {1, 2, 4}}, {nullptr, {2, 2, 8}, {16, 8, -1}}, {nullptr, {2, 2, 8}, {48, 24, 3}}};
  for (page_table view : order) {
    std::vector<std::int32_t> memory(96, -77);
    std::int64_t const base = view.strides[2] < 0 ? 7 : 0;
    auto const on = [&](std::int32_t* data) {
      page_table at = view;
      at.data = data + base;
      return at;
    };
    for (int b = 0; b < 2; ++b)
      for (int h = 0; h < 2; ++h)
        for (int i = 0; i < 8; ++i) on(memory.data())(b, h, i) = x.writable(b, h, i);
    device_case gpu{x};
    device_buffer<std::int32_t> const table{std::span<std::int32_t const>(memory)};
    paged_cache<element_type> cache = gpu.cache(), host = x.cache;
    cache.table = on(table.data());
    host.table = on(memory.data());
    attention<retrieval_and_streaming, fixed_router, cuda_for<32>>{{full{}, streaming{1, 3}}}.hand_back(
        cache, on(table.data()), gpu.assignment());
    attention<retrieval_and_streaming, fixed_router, reference>{{full{}, streaming{1, 3}}}.hand_back(
        host, on(memory.data()), x.assignment());
    CHECK(table.read() == memory);
  }
}
