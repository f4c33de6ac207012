// What lies in a backend's memory, where the host can read it: host backends give the view as it is, others
// copy it. Copies wait for the stream; only explicit calls (validate, hand_back) and callers make them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <elastic/core/view.hpp>
#include <elastic/core/workspace.hpp>

namespace elastic {

template <class T, int Rank>
struct readable {
  using element_type = std::remove_const_t<T>;
  std::vector<element_type> memory;  // empty on host backends
  strided_view<element_type const, Rank> view;
};

/// A backend whose memory is not the host's copies from it with read(to, from, bytes, stream).
template <class Backend, class T, int Rank>
readable<T, Rank> readable_on(Backend const& backend, strided_view<T, Rank> const& of, void* stream) {
  readable<T, Rank> made;
  made.view = of;
  if constexpr (!Backend::on_host) {
    if (of.size() == 0) return made;
    std::int64_t low = 0, high = 0;  // the elements that the view spans
    for (int i = 0; i < Rank; ++i) {
      std::int64_t const reach = of.strides[i] * (of.extents[i] - 1);
      (reach < 0 ? low : high) += reach;
    }
    made.memory.resize(static_cast<std::size_t>(high - low + 1));
    backend.read(made.memory.data(), of.data + low, made.memory.size() * sizeof(T), stream);
    made.view.data = made.memory.data() - low;
  }
  return made;
}

/// A workspace where selected_in and the metrics can read it, as far from its alignment as the backend's. It holds what
/// they show, and so has to have a name:
///   readable_workspace const readable(attend.backend(), memory, o.stream);
///   auto const selected = attend.selected_in(p, readable);
class readable_workspace {
 public:
  template <class Backend>
  explicit readable_workspace(Backend const& backend, workspace of, void* stream = nullptr) : view_(of) {
    if constexpr (!Backend::on_host) {
      auto const past = [](std::byte const* at) { return reinterpret_cast<std::uintptr_t>(at) % workspace_alignment; };
      memory_.resize(of.size() + workspace_alignment);
      std::size_t const skipped = (past(of.data()) + workspace_alignment - past(memory_.data())) % workspace_alignment;
      view_ = {memory_.data() + skipped, of.size()};
      if (!of.empty()) backend.read(view_.data(), of.data(), of.size(), stream);
    }
  }
  readable_workspace(readable_workspace const&) = delete;

  operator workspace() const& { return view_; }
  operator workspace() const&& = delete;

 private:
  std::vector<std::byte> memory_;
  workspace view_;
};

}  // namespace elastic
