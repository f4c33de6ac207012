// A hook whose signature does not fit is none: the backends would leave it out without a word, and a mode that names
// its spans would be asked tile by tile. Here such a mode does not compile. A member function counts as a hook where
// its name stands for one function whose constraints hold, so that wrappers may have hooks that are there only
// sometimes; overloads are let through.
#pragma once

#include <type_traits>

#include <elastic/modes/composite.hpp>
#include <elastic/modes/forgets.hpp>
#include <elastic/modes/tiles.hpp>

namespace elastic {

namespace detail {

template <class P>
inline constexpr bool is_function_pointer =
    std::is_member_function_pointer_v<P> || std::is_function_v<std::remove_pointer_t<P>>;

template <class M>
concept says_spans = requires { requires is_function_pointer<decltype(&M::spans)>; } ||
                     requires { requires(0 < M::spans_max && M::spans_max <= span_limit); };
template <class M>
concept says_list = requires { requires is_function_pointer<decltype(&M::list)>; };
template <class M>
concept says_kept_bits = requires { requires is_function_pointer<decltype(&M::kept_bits)>; };
template <class M>
concept says_score = requires { requires is_function_pointer<decltype(&M::score)>; } ||
                     (!requires { &M::score; } && requires { &M::template score<float>; });
template <class M>
concept says_sink_logit = requires { requires is_function_pointer<decltype(&M::sink_logit)>; };

template <class M>
concept says_check = requires { requires is_function_pointer<decltype(&M::check)>; };
template <class M>
concept says_largest_tile = requires { requires is_function_pointer<decltype(&M::largest_tile)>; };
template <class M>
concept says_forgets = requires { requires is_function_pointer<decltype(&M::forgets)>; };

template <class M>
consteval bool hooks_fit();

template <class... Ms>
consteval bool hooks_of_parts_fit(mode_pack<Ms...> const*) {
  return (hooks_fit<Ms>() && ...);
}

/// Fails to compile where a hook of the mode, or of a mode inside it, does not fit.
template <class M>
consteval bool hooks_fit() {
  static_assert(
      !says_spans<M> || span_mode<M>,
      "elastic: spans of a Mode must be span_array<spans_max> spans(where, int q_tile, tile_shape) const, and "
      "spans_max a static constexpr int");
  static_assert(!says_list<M> || list_mode<M>,
                "elastic: list of a Mode must be block_list list(where, int q_tile, tile_shape) const");
  static_assert(
      !says_kept_bits<M> || bits_mode<M>,
      "elastic: kept_bits of a Mode must be std::uint64_t kept_bits(where, int q, int first, int count) const");
  static_assert(!says_score<M> || scoring_mode<M>,
                "elastic: score of a Mode must be Real score(where, Real s, int q, int k) const, for float and double");
  static_assert(!says_sink_logit<M> || sink_logit_mode<M>,
                "elastic: sink_logit of a Mode must be float sink_logit(where) const");
  static_assert(
      !says_check<M> || requires(M const& mode, problem const& p) { mode.check(p); },
      "elastic: check of a Mode must be void check(problem) const");
  static_assert(
      !says_largest_tile<M> || requires(M const& mode) { tile_shape{mode.largest_tile()}; },
      "elastic: largest_tile of a Mode must be tile_shape largest_tile() const");
  static_assert(!says_forgets<M> || forgetful_mode<M>,
                "elastic: forgets of a Mode must be key_range forgets(where, int position) const");
  if constexpr (composite_mode<M>)
    return hooks_of_parts_fit(static_cast<decltype(M::parts) const*>(nullptr));
  else if constexpr (requires { requires attention_mode<decltype(M::inner)>; })
    return hooks_fit<decltype(M::inner)>();
  else
    return true;
}

}  // namespace detail

}  // namespace elastic
