#include <elastic/core/printable.hpp>

#include <doctest/doctest.h>

using elastic::detail::printable;

TEST_CASE("text that a terminal only shows stays as it is") {
  for (char const* text : {"", "plain text", "größer ≤ 注意力 🙂", "\u00a0\u2029"}) CHECK(printable(text) == text);
}

TEST_CASE("what a terminal obeys is escaped") {
  CHECK(printable("a\x1b[31m\n\x7f") == "a\\x1b[31m\\x0a\\x7f");
  CHECK(printable("\xc2\x9b") == "\\xc2\\x9b");                                        // U+009B, the same as ESC [
  CHECK(printable("\xe2\x80\xae|\xe2\x81\xa6") == "\\xe2\\x80\\xae|\\xe2\\x81\\xa6");  // reorder the line
}

TEST_CASE("bytes that are no UTF-8 are escaped") {
  CHECK(printable("\x9b") == "\\x9b");
  CHECK(printable("\xe2\x80") == "\\xe2\\x80");
  CHECK(printable("\xf5\x80\x80\x80") == "\\xf5\\x80\\x80\\x80");
  CHECK(printable("\xc0\x8a") == "\\xc0\\x8a");
}
