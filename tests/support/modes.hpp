// Every mode that the generic tests run. To cover a new mode, add its type to `every_mode` and say in
// `draw` how its parameters are drawn; compositions are drawn from their parts.
#pragma once

#include <memory>
#include <memory_resource>
#include <string_view>
#include <utility>
#include <vector>

#include <elastic/attention.hpp>

#include "support/dice.hpp"

namespace elastic::testing {

/// Keeps the memory that drawn modes point into, of a kind that the backend can read.
class arena {
 public:
  explicit arena(std::pmr::memory_resource* source = std::pmr::get_default_resource()) : source_(source) {}

  template <class T>
  T* keep(std::vector<T> const& values) {
    auto const kept = std::make_shared<std::pmr::vector<T>>(values.begin(), values.end(), source_);
    kept_.push_back(kept);
    return kept->data();
  }

 private:
  std::pmr::memory_resource* source_;
  std::vector<std::shared_ptr<void>> kept_;
};

/// A small or a large number of tokens, up to about the length of the sequence.
inline int draw_tokens(dice& r, problem const& p, int least) {
  return r.between(least, r.one_in(2) ? 24 : maximum(p.k_len + 8, 24));
}

template <class M>
struct draw;  // M operator()(dice&, problem const&, arena&): parameters that suit the problem

template <>
struct draw<full> {
  full operator()(dice&, problem const&, arena&) const { return {}; }
};

template <>
struct draw<sliding_window> {
  sliding_window operator()(dice& r, problem const& p, arena&) const { return {draw_tokens(r, p, 1)}; }
};

template <>
struct draw<streaming> {
  streaming operator()(dice& r, problem const& p, arena&) const {
    if (r.one_in(2)) return {draw_tokens(r, p, 0), draw_tokens(r, p, 0), granularity::token};
    return {r.below(3), r.below(4), granularity::block,
            p.causal && r.one_in(3) ? alignment::query_block : alignment::position};
  }
};

template <>
struct draw<triangle> {
  triangle operator()(dice& r, problem const& p, arena&) const {
    return {draw_tokens(r, p, 0), draw_tokens(r, p, 0), r.between(0, 150), r.one_in(4) ? p.layer + 1 : 0};
  }
};

template <>
struct draw<block_sparse> {
  block_sparse operator()(dice& r, problem const& p, arena& memory) const {
    block_sparse m;
    m.block_rows = r.pick({16, 32, 64, 64, 128, 128, 48});
    m.block_columns = r.pick({16, 32, 64, 64, 128, 128, 80});
    int const density = r.between(0, 4);
    int const first = r.one_in(2) ? p.q_begin / m.block_rows : 0;
    int const rows = maximum(ceil_div(p.q_end, m.block_rows) - first, 0) + r.below(2);
    m.first_block = first;
    std::vector<std::int32_t> entries(static_cast<std::size_t>(r.below(3)), -77);  // lists may start anywhere
    std::vector<std::int64_t> begin;
    std::vector<std::int32_t> count;
    for (int b = 0; b < p.batch; ++b)
      for (int h = 0; h < p.query_heads; ++h)
        for (int i = 0; i < rows; ++i) {
          begin.push_back(static_cast<std::int64_t>(entries.size()));
          where const w = locate(p, b, h, 0);
          for (int block = ceil_div(w.k_len, m.block_columns) - 1; block >= 0; --block)
            if (r.below(4) < density) entries.push_back(block);
          count.push_back(static_cast<std::int32_t>(static_cast<std::int64_t>(entries.size()) - begin.back()));
        }
    m.size = static_cast<std::int64_t>(entries.size());
    entries.push_back(-77);  // never null
    begin.push_back(0);
    count.push_back(0);
    m.entries = memory.keep(std::move(entries));
    m.begin = {memory.keep(std::move(begin)), {p.batch, p.query_heads, rows}};
    m.count = {memory.keep(std::move(count)), {p.batch, p.query_heads, rows}};
    return m;
  }
};

/// Lists, some heads of which are dense, or all, or none.
template <>
struct draw<dense_heads<block_sparse>> {
  dense_heads<block_sparse> operator()(dice& r, problem const& p, arena& memory) const {
    std::vector<std::int32_t> flags(static_cast<std::size_t>(p.batch * p.query_heads) + 1);
    for (auto& flag : flags) flag = r.below(2);
    dense_choice const choice = r.one_in(2)   ? dense_choice::by_flags
                                : r.one_in(2) ? dense_choice::all
                                              : dense_choice::none;
    return {draw<block_sparse>{}(r, p, memory), {memory.keep(std::move(flags)), {p.batch, p.query_heads}}, choice};
  }
};

/// A user's own rule: the keys of some residues, and another for every head.
struct striped {
  int modulus = 3;
  int residues = 2;
  ELASTIC_HOST_DEVICE bool operator()(where const& w, int q, int k) const {
    return (q + k + w.query_head + w.batch) % modulus < residues;
  }
};

template <>
struct draw<predicate<striped>> {
  predicate<striped> operator()(dice& r, problem const&, arena&) const {
    int const modulus = r.between(1, 5);
    return {{modulus, r.between(0, modulus)}};
  }
};

template <class... Ms>
struct draw<hybrid<Ms...>> {
  hybrid<Ms...> operator()(dice& r, problem const& p, arena& memory) const {
    hybrid<Ms...> m;
    m.parts = mode_pack<Ms...>{draw<Ms>{}(r, p, memory)...};
    return m;
  }
};

template <class A, class B, class Join>
struct draw<combined<A, B, Join>> {
  combined<A, B, Join> operator()(dice& r, problem const& p, arena& memory) const {
    A const a = draw<A>{}(r, p, memory);
    return {a, draw<B>{}(r, p, memory)};
  }
};

template <>
struct draw<soft_cap> {
  soft_cap operator()(dice& r, problem const&, arena&) const { return {1.f + 20 * r.uniform()}; }
};

template <>
struct draw<alibi> {
  alibi operator()(dice& r, problem const& p, arena& memory) const {
    if (r.one_in(2)) return {};
    std::vector<float> slopes(static_cast<std::size_t>(p.query_heads));
    for (float& slope : slopes) slope = r.uniform() * 0.5f;
    return {memory.keep(std::move(slopes))};
  }
};

template <class M, class Hook>
struct draw<scored<M, Hook>> {
  scored<M, Hook> operator()(dice& r, problem const& p, arena& memory) const {
    M const mode = draw<M>{}(r, p, memory);
    return {mode, draw<Hook>{}(r, p, memory)};
  }
};

template <class M>
struct draw<sink_logits<M>> {
  sink_logits<M> operator()(dice& r, problem const& p, arena& memory) const {
    std::vector<float> logits(static_cast<std::size_t>(p.query_heads));
    for (float& logit : logits) logit = 3 * r.normal();
    return {draw<M>{}(r, p, memory), memory.keep(std::move(logits))};
  }
};

template <>
struct draw<antidiagonal> {
  antidiagonal operator()(dice& r, problem const& p, arena&) const {
    antidiagonal m;
    m.block = r.pick({16, 32, 64, 64, 128});
    m.stride = r.pick({1, 4, 8, 16});
    for (int b = 0; b < p.batch; ++b)  // causal, the stride divides k_len − q_len
      while (locate(p, b, 0, 0).shift() % m.stride != 0) m.stride /= 2;
    m.threshold = r.one_in(4) ? 1.f : 0.05f + 0.9f * r.uniform();
    if (p.causal && r.one_in(3)) m.rule = selection_rule::first_chunk;
    return m;
  }
};

template <>
struct draw<pooled_top_k> {
  pooled_top_k operator()(dice& r, problem const&, arena&) const {
    return {r.pick({16, 32, 64, 128}), r.pick({16, 32, 64, 128}), r.between(1, 5)};
  }
};

template <>
struct draw<block_mask> {
  block_mask operator()(dice& r, problem const& p, arena& memory) const {
    block_mask m;
    m.block_rows = r.pick({16, 32, 64, 128});
    m.block_columns = r.pick({16, 32, 64, 128});
    int const density = r.between(0, 4);
    std::array<std::int64_t, 4> const extents{r.one_in(2) ? p.batch : 1, r.one_in(2) ? p.query_heads : 1,
                                              ceil_div(p.q_len, m.block_rows), ceil_div(p.k_len, m.block_columns)};
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(extents[0] * extents[1] * extents[2] * extents[3]) + 1);
    for (auto& bit : bits) bit = r.below(4) < density;
    m.mask = {memory.keep(std::move(bits)), extents};
    return m;
  }
};

template <>
struct draw<moba> {
  moba operator()(dice& r, problem const&, arena&) const { return {r.pick({16, 32, 50, 64, 128}), r.between(1, 5)}; }
};

template <>
struct draw<vertical_slash> {
  vertical_slash operator()(dice& r, problem const&, arena&) const {
    vertical_slash m;
    m.columns = r.between(0, 60);
    m.offsets = r.between(0, 80);
    m.forced_columns = r.between(0, 20);
    m.forced_offsets = r.between(0, 30);
    m.last = r.pick({1, 5, 64});
    m.slash_block = r.pick({1, 16, 64});
    return m;
  }
};

template <>
struct draw<top_k> {
  top_k operator()(dice& r, problem const& p, arena&) const { return {draw_tokens(r, p, 1)}; }
};

template <class M>
struct draw<planned<M>> {
  planned<M> operator()(dice& r, problem const& p, arena& memory) const { return {draw<M>{}(r, p, memory)}; }
};

/// Costs at which either decision is made, before selection and after it.
template <class S>
struct draw<auto_dense<S>> {
  auto_dense<S> operator()(dice& r, problem const& p, arena& memory) const {
    auto_dense<S> m{draw<S>{}(r, p, memory), {}, {}};
    m.costs.listed = 0.3f + 2 * r.uniform();
    m.costs.partial = m.costs.listed * (1 + r.uniform());
    m.costs.attend_row = r.one_in(2) ? 0 : 40 * r.uniform();
    m.costs.select = r.one_in(2) ? 0 : r.uniform();
    m.costs.select_row = r.one_in(2) ? 0 : 40 * r.uniform();
    if (r.one_in(2)) m.density = r.uniform();
    return m;
  }
};

template <class... Ms>
struct type_list {
  static constexpr int size = sizeof...(Ms);
};

template <class... Lists>
struct joined;
template <class... As>
struct joined<type_list<As...>> {
  using type = type_list<As...>;
};
template <class... As, class... Bs, class... Rest>
struct joined<type_list<As...>, type_list<Bs...>, Rest...> : joined<type_list<As..., Bs...>, Rest...> {};

// One list for each translation unit of the random problems; a new mode goes to any of them.
using single_modes =
    type_list<full, sliding_window, streaming, triangle, block_sparse, dense_heads<block_sparse>, predicate<striped>>;
using combined_modes = type_list<intersection_of<sliding_window, streaming>, union_of<streaming, sliding_window>,
                                 intersection_of<block_sparse, streaming>, union_of<predicate<striped>, sliding_window>,
                                 union_of<intersection_of<streaming, sliding_window>, full>>;
using hybrid_modes =
    type_list<hybrid<full, streaming>, hybrid<full, block_sparse>, hybrid<streaming, predicate<striped>>,
              hybrid<full, sliding_window, block_sparse, streaming>, hybrid<streaming, dense_heads<block_sparse>>>;
using hooked_modes =
    type_list<scored<full, soft_cap>, scored<hybrid<full, streaming>, alibi>,
              hybrid<scored<sliding_window, soft_cap>, block_sparse>, sink_logits<full>,
              sink_logits<hybrid<streaming, block_sparse>>, sink_logits<scored<block_sparse, soft_cap>>,
              scored<hybrid<sink_logits<streaming>, full>, soft_cap>>;

using block_selectors = type_list<antidiagonal, pooled_top_k, block_mask, hybrid<full, antidiagonal>,
                                  hybrid<antidiagonal, streaming>, scored<pooled_top_k, soft_cap>>;
using fine_selectors = type_list<moba, vertical_slash, top_k, hybrid<vertical_slash, moba, full>,
                                 sink_logits<hybrid<top_k, pooled_top_k>>>;
using planned_modes =
    type_list<planned<predicate<striped>>, planned<intersection_of<block_sparse, streaming>>,
              planned<union_of<block_sparse, sliding_window>>, hybrid<full, planned<predicate<striped>>>,
              scored<planned<scored<sliding_window, alibi>>, soft_cap>>;

using auto_dense_modes =
    type_list<auto_dense<antidiagonal>, auto_dense<moba>, hybrid<full, auto_dense<antidiagonal>>,
              hybrid<auto_dense<pooled_top_k>, streaming>, auto_dense<planned<scored<predicate<striped>, alibi>>>,
              scored<hybrid<auto_dense<block_mask>, auto_dense<vertical_slash>, sink_logits<full>>, soft_cap>>;

using every_mode = joined<single_modes, combined_modes, hybrid_modes, hooked_modes, block_selectors, fine_selectors,
                          planned_modes, auto_dense_modes>::type;

/// f.template operator()<M>(position) for the types of a list.
template <class... Ms, class F>
void for_each_type(type_list<Ms...>, F&& f) {
  int position = 0;
  (f.template operator()<Ms>(position++), ...);
}

/// Where a list's first type stands in every_mode.
template <class... Ms, class First, class... Rest>
constexpr int position_of(type_list<Ms...>, type_list<First, Rest...>) {
  int position = 0, at = 0;
  ((std::is_same_v<Ms, First> ? void(position = at) : void(), ++at), ...);
  return position;
}

/// The type's name as the compiler writes it, namespaces left out.
template <class M>
std::string name_of_mode() {
  std::string name = __PRETTY_FUNCTION__;
  name = name.substr(name.find("M = ") + 4);
  name.resize(name.find_first_of(";]"));
  for (char const* space : {"elastic::testing::", "elastic::detail::", "elastic::"})
    for (std::size_t at; (at = name.find(space)) != name.npos;) name.erase(at, std::string_view(space).size());
  return name;
}

}  // namespace elastic::testing
