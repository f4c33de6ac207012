// Block selectors on the CUDA backend: a tensor with NaN around it on host and device, a selector run in device memory
// with a guard behind its scratch, and its lists read back.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include <elastic/cuda/cuda.cuh>

#include "support/cuda_memory.hpp"
#include "support/dice.hpp"
#include "support/selection.hpp"

namespace elastic::testing {

/// Normal numbers (batch, seq, heads, head_dim) inside NaN: `gap` elements after every row, `tail` rows after every
/// sequence of the batch; heads may lie before rows. All offsets are multiples of 16 bytes.
template <element T>
class device_heads {
 public:
  device_heads(dice& r, std::array<std::int64_t, 4> shape, float deviation, bool plain = false) {
    auto const [batch, seq, heads, head_dim] = shape;
    std::int64_t const granule = 16 / sizeof(T), tail = plain ? 0 : r.pick({0, 3, 40});
    std::int64_t const row = head_dim + (plain ? 0 : r.pick({0, 0, 1, 3}) * granule);
    bool const heads_first = !plain && r.one_in(2);
    std::array<std::int64_t, 4> const strides{(seq + tail) * heads * row, heads_first ? row : heads * row,
                                              heads_first ? (seq + tail) * row : row, 1};
    values_.assign(static_cast<std::size_t>(batch * (seq + tail) * heads * row + 64),
                   T(std::numeric_limits<float>::quiet_NaN()));
    host_ = {values_.data(), shape, strides};
    if (!plain && r.one_in(4) && seq > 0) {  // rows that run backwards
      host_.data += (seq - 1) * host_.strides[1];
      host_.strides[1] = -host_.strides[1];
    }
    for (int b = 0; b < batch; ++b)
      for (int s = 0; s < seq; ++s)
        for (int h = 0; h < heads; ++h)
          for (int d = 0; d < head_dim; ++d) host_(b, s, h, d) = T(r.normal() * deviation);
    device_.emplace(std::span<T const>(values_));
  }

  heads_view<T const> host() const { return host_; }
  heads_view<T> device() const {
    heads_view<T> view = host_;
    view.data = device_->data() + (host_.data - values_.data());
    return view;
  }
  void read() { std::ranges::copy(device_->read(), values_.begin()); }

 private:
  std::vector<T> values_;
  heads_view<T> host_;
  std::optional<device_buffer<T>> device_;
};

/// A copy of options whose cu_seqlens lie on the device.
class device_options {
 public:
  explicit device_options(options const& o) : q_(o.cu_seqlens_q), k_(o.cu_seqlens_k), given_(o) {
    auto const longest = [](std::span<std::int32_t const> starts) {
      int most = 0;
      for (std::size_t i = 1; i < starts.size(); ++i) most = std::max(most, starts[i] - starts[i - 1]);
      return most;
    };
    if (o.cu_seqlens_q.empty()) return;
    given_.max_q_len = longest(o.cu_seqlens_q);
    given_.max_k_len = longest(o.cu_seqlens_k);
    given_.cu_seqlens_q = {q_.data(), q_.size()};
    given_.cu_seqlens_k = {k_.data(), k_.size()};
  }
  options const& operator*() const { return given_; }

 private:
  device_buffer<std::int32_t> q_, k_;
  options given_;
};

/// What a block selector leaves on the device. `fault` says what went wrong beside the lists.
template <class Selector, element T>
struct device_run {
  problem shape;  // as the host sees it
  std::vector<std::byte> memory;
  block_lists lists;  // in `memory`
  std::string fault;

  template <class Backend>
  device_run(Backend const& backend, Selector const& selector, device_heads<T> const& q, device_heads<T> const& k,
             options const& o, std::vector<std::int32_t> const& routes = {}, int route = every_route)
      : shape(make_problem<T>(q.host(), k.host(), o)) {
    constexpr std::size_t guard = 4096;
    device_options const on_device(o);
    problem p = make_problem<T>(heads_view<T const>(q.device()), heads_view<T const>(k.device()), *on_device, false);
    selector.check(p);
    workspace_cursor sizes;
    selector.bind(p, sizes);
    std::size_t scratch = 0;
    if constexpr (requires { scratch_bytes_on(backend, selector, p); })
      scratch = scratch_bytes_on(backend, selector, p);
    device_buffer<std::byte> const space(sizes.used() + scratch + guard);
    device_buffer<std::int32_t> const assignment{
        std::span<std::int32_t const>(routes.empty() ? all_to(shape, 0) : routes)};
    workspace_cursor cursor(space.data());
    auto const storage = selector.bind(p, cursor);
    select_inputs<T> const in{q.device(), k.device(), p,
                              const_assignment_view(assignment.data(), {p.batch, p.query_heads}), route};
    auto const run = [&] {
      cuda_call(cudaMemset(space.data(), 0xff, space.size()), "cudaMemset");
      select_on(backend, selector, storage, in, {space.data() + cursor.used(), scratch});
      cuda_call(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      return space.read();
    };
    memory = run();
    auto const again = run();
    if (!std::equal(memory.begin(), memory.begin() + static_cast<std::ptrdiff_t>(sizes.used()), again.begin()))
      fault = "a second run gave other lists";
    for (std::size_t i = memory.size() - guard; i < memory.size(); ++i)
      if (memory[i] != std::byte{0xff}) fault = "the scratch was left";
    workspace_cursor host_cursor(memory.data());
    if constexpr (requires { selector.bind(p, host_cursor).lists; })
      lists = selector.bind(p, host_cursor).lists;
    else
      lists = selector.bind(p, host_cursor);
    for (std::int64_t i = 0; i < lists.rows(); ++i)  // lists of padding and of other heads too
      if (lists.begin[i] != i * lists.capacity || lists.count[i] < 0 || lists.count[i] > lists.capacity)
        fault = "a list that was not written";
  }

  selection selected() const {
    selection result;
    add_lists(lists.selected(), shape, result);
    return result;
  }
};

}  // namespace elastic::testing
