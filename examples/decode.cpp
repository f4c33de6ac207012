// Decode with the elastic cache: prefill decides who goes where, hand_back gives up the pages that streaming heads will
// not look at again, and every new token is decoded along the same routes.
#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <elastic/attention.hpp>
#include <elastic/metrics/output_error.hpp>

#include "support/program.hpp"

using namespace elastic;

constexpr int heads = 8, kv_heads = 4, head_dim = 64, page = 128, prompt = 2000, tokens = 300;
constexpr int pages_each = ceil_div(prompt + tokens, page);

/// The pools of keys or values: KV head h owns the pages from h·pages_each on.
using pool = std::vector<float>;
pool empty_pool() { return pool(static_cast<std::size_t>(kv_heads * pages_each * page * head_dim)); }

/// The same memory as a tensor (1, length, kv_heads, head_dim), for prefill and to write new tokens.
heads_view<float> as_tensor(pool& values, int length) {
  return {values.data(), {1, length, kv_heads, head_dim}, {0, head_dim, pages_each * page * head_dim, 1}};
}

void run() {
  std::mt19937 random(7);
  auto const fill = [&](heads_view<float> const& x, int i) {  // row i of every head
    for (int h = 0; h < x.extents[2]; ++h)
      for (int d = 0; d < head_dim; ++d) x(0, i, h, d) = std::normal_distribution<float>{}(random);
  };
  pool k = empty_pool(), v = empty_pool();
  std::vector<float> q_values(static_cast<std::size_t>((prompt + tokens) * heads * head_dim)),
      out_values(q_values.size());
  auto const rows = [](std::vector<float>& values, int first, int count) {
    return heads_view<float>(values.data() + first * heads * head_dim, {1, count, heads, head_dim});
  };
  for (int i = 0; i < prompt; ++i) {
    fill(as_tensor(k, prompt), i);
    fill(as_tensor(v, prompt), i);
    fill(rows(q_values, 0, prompt), i);
  }

  // Prefill, over plain tensors.
  attention const attend{hybrid{full{}, streaming{.sink = 1, .local = 2}}, ratio_router{0.5}};
  std::vector<std::int32_t> const routes =
      attend(rows(q_values, 0, prompt), as_tensor(k, prompt), as_tensor(v, prompt), rows(out_values, 0, prompt));
  const_assignment_view const assignment(routes.data(), {1, heads});  // kept for decode

  // The cache is a table of pages over the pools.
  std::vector<std::int32_t> pages(kv_heads * pages_each), length{prompt};
  std::iota(pages.begin(), pages.end(), 0);
  page_table const table(pages.data(), {1, kv_heads, pages_each});
  strided_view<float const, 3> const k_pages(k.data(), {kv_heads * pages_each, page, head_dim}),
      v_pages(v.data(), {kv_heads * pages_each, page, head_dim});
  paged_cache<float> const cache{k_pages, v_pages, table, {length.data(), {1}}};
  auto const print_bytes = [&](char const* when) {
    int held = 0;
    for (int h = 0; h < kv_heads; ++h)
      for (int i = 0; i < ceil_div(length[0], page); ++i) held += table(0, h, i) != absent_page;
    fmt::print("{}: {} tokens in {} of {} pages, {} KiB\n", when, length[0], held, kv_heads * ceil_div(length[0], page),
               static_cast<std::size_t>(held * 2 * page * head_dim) * sizeof(float) / 1024);
  };
  pool whole_k = k, whole_v = v;  // only to check the outputs below
  auto const hand_back = [&] {
    for (std::int32_t const gone : attend.hand_back(cache, table, assignment).pages)  // now another sequence's
      for (pool* of : {&k, &v})
        std::fill_n(of->begin() + gone * page * head_dim, page * head_dim, std::numeric_limits<float>::quiet_NaN());
  };
  print_bytes("after prefill");
  hand_back();
  print_bytes("handed back");

  // Decode: the new token's key and value go into the cache before its query comes.
  std::vector<std::byte> memory(attend.decode_bytes(attend.shape(rows(q_values, prompt, 1), cache)));
  for (int i = prompt; i < prompt + tokens; ++i) {
    for (auto [cached, whole] : {std::pair(&k, &whole_k), {&v, &whole_v}}) {
      fill(as_tensor(*cached, i + 1), i);
      for (int h = 0; h < kv_heads; ++h)
        for (int d = 0; d < head_dim; ++d) as_tensor(*whole, i + 1)(0, i, h, d) = as_tensor(*cached, i + 1)(0, i, h, d);
    }
    length[0] = i + 1;
    fill(rows(q_values, i, 1), 0);
    attend.decode(rows(q_values, i, 1), cache, rows(out_values, i, 1), {}, assignment, memory);
    if (length[0] % page == 1) hand_back();  // as the window moves on
  }
  print_bytes("after decode");

  // One call over all keys, its queries those of the new tokens, gives the same.
  std::vector<float> expected(out_values.size());
  attention{attend.mode(), given_router{assignment}}(
      rows(q_values, prompt, tokens), as_tensor(whole_k, prompt + tokens), as_tensor(whole_v, prompt + tokens),
      rows(expected, prompt, tokens));
  double const worst = output_error(rows(out_values, prompt, tokens), rows(expected, prompt, tokens)).relative_maximum;
  fmt::print("{} new tokens differ by {:.1e} of the largest output from one call over all keys\n", tokens, worst);
  if (!(worst < 1e-4)) throw std::runtime_error("decode and prefill disagree");
}

int main(int argc, char** argv) {
  CLI::App app("Decode with the elastic cache", "decode");
  return examples::run_program(app, argc, argv, run);
}
