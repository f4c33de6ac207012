// Memory for what takes a workspace apart from the front door, which hands on aligned memory alone.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include <elastic/core/workspace.hpp>

namespace elastic::testing {

/// All its bytes begin as 0xff: what is read and was not written is seen.
class aligned_memory {
 public:
  explicit aligned_memory(std::size_t size)
      : units_((size + workspace_alignment - 1) / workspace_alignment), size_(size) {
    if (size > 0) std::memset(units_.data(), 0xff, units_.size() * sizeof(unit));
  }

  workspace all() { return {reinterpret_cast<std::byte*>(units_.data()), size_}; }
  workspace_cursor cursor() { return workspace_cursor(all().data()); }

 private:
  struct alignas(workspace_alignment) unit {
    std::byte bytes[workspace_alignment];
  };
  std::vector<unit> units_;
  std::size_t size_;
};

}  // namespace elastic::testing
