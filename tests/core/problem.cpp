#include <elastic/core/problem.hpp>

#include <doctest/doctest.h>

#include <vector>

using namespace elastic;

TEST_CASE("causality is aligned to the bottom right") {
  where w;
  w.q_len = 2;
  w.k_len = 5;
  CHECK(w.shift() == 3);
  CHECK(w.position(0) == 3);
  CHECK(w.admits(0, 3));
  CHECK(!w.admits(0, 4));
  CHECK(w.admits(1, 4));
  CHECK(!w.admits(1, 5));  // past the end
  w.causal = false;
  CHECK(w.admits(0, 4));
  CHECK(!w.admits(0, 5));
  w.causal = true;
  w.q_len = 7;  // more queries than keys: the first two are before every key
  CHECK(w.position(0) == -2);
  CHECK(!w.admits(1, 0));
  CHECK(w.admits(2, 0));
}

TEST_CASE("locate: which head reads which, and how long a sequence is") {
  problem p;
  p.batch = 2;
  p.q_len = 10;
  p.k_len = 20;
  p.query_heads = 6;
  p.kv_heads = 2;
  p.layer = 4;
  where const w = locate(p, 1, 5, 3);
  CHECK(p.group() == 3);
  CHECK(w.kv_head == 1);
  CHECK(locate(p, 0, 2, 0).kv_head == 0);
  CHECK(w.batch == 1);
  CHECK(w.query_head == 5);
  CHECK(w.route == 3);
  CHECK(w.layer == 4);
  CHECK(w.q_len == 10);
  CHECK(w.k_len == 20);

  std::vector<std::int32_t> const starts_q{0, 4, 4}, starts_k{0, 0, 9};
  p.cu_seqlens_q = starts_q.data();
  p.cu_seqlens_k = starts_k.data();
  CHECK(p.packed());
  CHECK(locate(p, 0, 0, 0).q_len == 4);
  CHECK(locate(p, 0, 0, 0).k_len == 0);
  CHECK(locate(p, 1, 0, 0).q_len == 0);
  CHECK(locate(p, 1, 0, 0).k_len == 9);

  problem cached;
  std::vector<std::int32_t> const lengths{3, 8};
  cached.batch = 2;
  cached.q_len = 1;
  cached.k_lengths = lengths.data();
  CHECK(locate(cached, 1, 0, 0).k_len == 8);
  CHECK(locate(cached, 1, 0, 0).position(0) == 7);
}
