#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include <elastic/core/readable.hpp>

using namespace elastic;

namespace {

/// A backend whose memory only read() may look at.
struct elsewhere {
  static constexpr bool on_host = false;
  void read(void* to, void const* from, std::size_t bytes, void*) const { std::memcpy(to, from, bytes); }
};
struct here {
  static constexpr bool on_host = true;
};

}  // namespace

TEST_CASE("a view with any strides is read whole") {
  std::vector<int> values(60);
  for (int i = 0; i < 60; ++i) values[static_cast<std::size_t>(i)] = i;
  strided_view<int const, 2> const backwards(values.data() + 40, {3, 4}, {-20, 2});
  auto const copy = readable_on(elsewhere{}, backwards, nullptr);
  CHECK(copy.view.data != backwards.data);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) CHECK(copy.view(i, j) == backwards(i, j));
  CHECK(readable_on(here{}, backwards, nullptr).view.data == backwards.data);
  CHECK(readable_on(elsewhere{}, strided_view<int const, 2>(nullptr, {0, 4}), nullptr).memory.empty());
}

TEST_CASE("a workspace keeps its place between two multiples of the alignment") {
  std::vector<std::byte> memory(3 * workspace_alignment);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 7);
  auto const past = [](workspace w) { return reinterpret_cast<std::uintptr_t>(w.data()) % workspace_alignment; };
  for (std::size_t skipped : {0, 1, 16, 255}) {
    workspace const given(memory.data() + skipped, 300);
    readable_workspace const copy(elsewhere{}, given);
    workspace const read = copy;
    CHECK(read.data() != given.data());
    CHECK(read.size() == given.size());
    CHECK(past(read) == past(given));
    CHECK(std::memcmp(read.data(), given.data(), given.size()) == 0);
    readable_workspace const same(here{}, given);
    CHECK(workspace(same).data() == given.data());
  }
  readable_workspace const nothing(elsewhere{}, {});
  CHECK(workspace(nothing).empty());
  static_assert(!std::is_convertible_v<readable_workspace, workspace>);
  static_assert(std::is_convertible_v<readable_workspace const&, workspace>);
}
