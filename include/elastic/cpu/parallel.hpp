// Work shared out over standard-library threads: items are taken one at a time from a counter, so that
// items of unequal cost balance; put the expensive ones first.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include <elastic/core/host_device.hpp>

namespace elastic::detail {

/// body(item, thread) for item = 0 … items − 1 on at most `threads` threads, the caller's among them; on as many
/// as the system gives.
/// The first exception is rethrown when all have stopped.
template <class Body>
void parallel_for(std::int64_t items, int threads, Body&& body) {
  int const workers = static_cast<int>(minimum<std::int64_t>(threads, items));
  if (workers <= 1) {
    for (std::int64_t i = 0; i < items; ++i) body(i, 0);
    return;
  }
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  auto const work = [&](int thread) {
    try {
      for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < items;) body(i, thread);
    } catch (...) {
      next.store(items, std::memory_order_relaxed);
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    others.reserve(static_cast<std::size_t>(workers) - 1);
    try {
      for (int t = 1; t < workers; ++t) others.emplace_back(work, t);
    } catch (std::system_error const&) {  // those that there are take all items
    }
    work(0);
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace elastic::detail
