#include <elastic/io/safetensors_header.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <string_view>

#include <support/safetensors.hpp>

using namespace elastic;
using namespace elastic::testing;

TEST_CASE("headers that are no JSON, or no object") {
  check_contains(refusal(""), {"f: header", "a JSON object"});
  check_contains(refusal("[]"), {"\"[]\"", "a JSON object"});
  check_contains(refusal("null"), {"a JSON object"});
  check_contains(refusal(" {}"), {"a JSON object"});
  check_contains(refusal("\xEF\xBB\xBF{}"), {"a JSON object"});
  check_contains(refusal("{"), {"no JSON at byte", "JSON in UTF-8"});
  check_contains(refusal("{} {}"), {"no JSON at byte"});
  check_contains(refusal("{\"a\":}"), {"no JSON at byte 6"});
  check_contains(refusal("{,}"), {"no JSON at byte"});
  check_contains(refusal("{/**/}"), {"no JSON at byte"});
  check_contains(refusal(std::string_view("{}\0\0", 4)), {"a NUL at byte 2"});  // padding is spaces
  check_contains(refusal(R"({"a":1e999})"), {"no JSON at byte"});
}

TEST_CASE("invalid UTF-8, and lone surrogates") {
  for (std::string_view const bad :
       {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\\ud800", "\\udc00x"}) {
    check_contains(refusal("{\"" + std::string(bad) + "\":{}}"), {"no JSON at byte", "JSON in UTF-8"});
    check_contains(refusal("{\"__metadata__\":{\"k\":\"" + std::string(bad) + "\"}}"), {"no JSON at byte"});
  }
}

TEST_CASE("duplicate keys, also where they are spelled differently") {
  std::string const a = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  check_contains(refusal("{" + a + "," + a + "}"), {"f: header", "\"a\" twice", "unique keys"});
  check_contains(refusal("{" + a + R"(,"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"), {"\"a\" twice"});
  check_contains(refusal(R"({"__metadata__":{},"__metadata__":{}})"), {"\"__metadata__\" twice"});
  check_contains(refusal(R"({"__metadata__":{"k":"1","k":"1"}})"), {"__metadata__", "\"k\" twice"});
  check_contains(refusal(R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
                 {"tensor \"a\"", "\"dtype\" twice", "once each"});
}

TEST_CASE("tensor entries of a wrong form") {
  check_contains(refusal(R"({"a":[]})"), {"tensor \"a\": got an array, expected an object"});
  check_contains(refusal(R"({"a":null})"), {"tensor \"a\": got null"});
  check_contains(refusal(R"({"a":"x"})"), {"tensor \"a\": got string \"x\""});
  check_contains(refusal(R"({"a":{}})"), {"tensor \"a\"", "without all three"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":[0]}})"), {"without all three"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}})"), {"key \"more\""});
  check_contains(refusal(R"({"a":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]}})"),
                 {"tensor \"a\", dtype: got dtype \"F8_E4M3\", expected one of BOOL, U8, I8"});
  check_contains(refusal(R"({"a":{"dtype":"f32","shape":[0],"data_offsets":[0,0]}})"), {"dtype \"f32\""});
  check_contains(refusal(R"({"a":{"dtype":7,"shape":[0],"data_offsets":[0,0]}})"), {"dtype: got 7"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":3,"data_offsets":[0,0]}})"), {"shape: got 3", "an array"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":{},"data_offsets":[0,0]}})"), {"shape: got an object"});
}

TEST_CASE("shapes that are negative, fractional or overflow") {
  auto const with = [](std::string const& shape, std::string const& offsets = "[0,0]") {
    return refusal(R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}");
  };
  check_contains(with("[-1]"), {"tensor \"a\", shape: got -1", "extents from 0 to 2^63 - 1"});
  check_contains(with("[1.0]"), {"shape: got \"1.0\""});
  check_contains(with("[1e3]"), {"shape: got \"1e3\""});
  check_contains(with("[\"1\"]"), {"shape: got string \"1\""});
  check_contains(with("[true]"), {"shape: got true"});
  check_contains(with("[null]"), {"shape: got null"});
  check_contains(with("[[1]]"), {"shape: got an array"});
  check_contains(with("[9223372036854775808]"), {"shape: got 9223372036854775808"});
  check_contains(with("[18446744073709551616]"), {"shape: got"});
  check_contains(with("[9223372036854775807]"), {"shape: got [9223372036854775807]", "below 2^63"});
  check_contains(with("[4294967296, 4294967296]"), {"below 2^63"});
  check_contains(with("[2305843009213693952]"), {"below 2^63"});     // 2^61 elements of 4 bytes
  check_contains(with("[4611686018427387904, 4]"), {"below 2^63"});  // 2^66 bytes: zero in 64 bits
  check_contains(with("[9223372036854775807, 9223372036854775807, 0]"), {"below 2^63"});
}

TEST_CASE("data_offsets that are reversed, out of range, of the wrong size, overlapping or with holes") {
  auto const with = [](std::string const& offsets, std::size_t data_bytes = 4) {
    return refusal(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + offsets + "}}", data_bytes);
  };
  CHECK(with("[0,4]") == "nothing thrown");
  check_contains(with("[4,0]"), {"tensor \"a\", data_offsets: got 4 to 0", "0 <= begin <= end <= 4"});
  check_contains(with("[1,5]"), {"got 1 to 5", "end <= 4"});
  check_contains(with("[18446744073709551612,18446744073709551615]"), {"end <= 4"});
  check_contains(with("[0,3]"), {"got 0 to 3", "4 bytes for U8 [4]"});
  check_contains(with("[0]"), {"data_offsets: got fewer than two"});
  check_contains(with("[0,4,4]"), {"data_offsets: got 4", "two offsets"});
  check_contains(with("[0,-4]"), {"data_offsets: got -4"});
  check_contains(with("[0,4.0]"), {"data_offsets: got \"4.0\""});
  check_contains(with("4"), {"tensor \"a\""});
  check_contains(with("[1,5]", 5), {"begin 1", "expected 0: tensors follow one another"});
  check_contains(with("[0,4]", 5), {"f: data: got 5 bytes, expected 4"});

  auto const two = [](std::string const& first, std::string const& second) {
    return refusal(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
                       R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}",
                   4);
  };
  CHECK(two("[0,2]", "[2,4]") == "nothing thrown");
  CHECK(two("[2,4]", "[0,2]") == "nothing thrown");
  check_contains(two("[0,2]", "[1,3]"), {"tensor \"b\"", "begin 1", "expected 2"});
  check_contains(two("[0,2]", "[0,2]"), {"tensor \"b\"", "begin 0", "expected 2"});
  check_contains(two("[1,3]", "[2,4]"), {"tensor \"a\"", "begin 1", "expected 0"});
}

TEST_CASE("metadata other than strings") {
  check_contains(refusal(R"({"__metadata__":[]})"), {"__metadata__: got an array", "an object of strings"});
  check_contains(refusal(R"({"__metadata__":null})"), {"__metadata__: got null"});
  check_contains(refusal(R"({"__metadata__":{"k":1}})"), {"__metadata__, key \"k\": got 1", "a string"});
  check_contains(refusal(R"({"__metadata__":{"k":-1}})"), {"got -1"});
  check_contains(refusal(R"({"__metadata__":{"k":null}})"), {"got null"});
  check_contains(refusal(R"({"__metadata__":{"k":{}}})"), {"got an object"});
  check_contains(refusal(R"({"__metadata__":{"k":["x"]}})"), {"got an array"});
}

TEST_CASE("deep nesting neither overflows the stack nor takes memory") {
  std::size_t const depth = 10'000'000;
  check_contains(refusal(R"({"a":)" + std::string(depth, '[')), {"tensor \"a\": got an array"});
  check_contains(refusal(R"({"__metadata__":{"k":)" + std::string(depth, '[')), {"got an array"});
  check_contains(refusal(R"({"a":{"dtype":"U8","shape":)" + std::string(depth, '[')), {"shape: got an array"});
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += R"({"a":)";
  check_contains(refusal(objects), {"tensor \"a\": got key \"a\""});
}

TEST_CASE("messages stay short and printable whatever the file says") {
  auto const message = refusal("{\"" + std::string(1'000'000, 'x') + "\":3}");
  CHECK(message.size() < 500);
  auto const control = refusal("{\"a\\u0000\\n\":3}");
  check_contains(control, {R"("a\u0000\n")", "an object"});
}
