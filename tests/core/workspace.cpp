#include <elastic/core/workspace.hpp>

#include <doctest/doctest.h>

#include <vector>

using namespace elastic;

namespace {

void lay_out(workspace_cursor& cursor, std::vector<std::byte*>& slices) {
  slices.push_back(reinterpret_cast<std::byte*>(cursor.take<float>(3)));
  slices.push_back(reinterpret_cast<std::byte*>(cursor.take<std::int64_t>(100)));
  slices.push_back(reinterpret_cast<std::byte*>(cursor.take<char>(0)));
  slices.push_back(reinterpret_cast<std::byte*>(cursor.take<char>(257)));
}

}  // namespace

TEST_CASE("what is counted is what is taken, in aligned slices") {
  workspace_cursor counting;
  std::vector<std::byte*> none, slices;
  lay_out(counting, none);
  for (auto const* slice : none) CHECK(slice == nullptr);
  CHECK(counting.used() == 256 + 1024 + 0 + 512);

  alignas(workspace_alignment) static std::byte memory[2048];
  workspace_cursor taking(memory);
  lay_out(taking, slices);
  CHECK(taking.used() == counting.used());
  CHECK(slices[0] == memory);
  CHECK(slices[1] == memory + 256);
  CHECK(slices[2] == memory + 1280);
  CHECK(slices[3] == memory + 1280);
}

TEST_CASE("sizes that do not fit in memory are refused, not wrapped") {
  workspace_cursor cursor;
  CHECK_THROWS_AS(cursor.take<float>(-1), error);
  CHECK_THROWS_AS(cursor.take<double>(std::numeric_limits<std::int64_t>::max()), error);
  cursor.take<char>(std::numeric_limits<std::int64_t>::max());
  cursor.take<char>(std::numeric_limits<std::int64_t>::max() - 1024);
  CHECK_THROWS_AS(cursor.take<char>(std::numeric_limits<std::int64_t>::max()), error);
}
