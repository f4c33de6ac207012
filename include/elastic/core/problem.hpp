// What is computed (problem), how (options), and where a mode finds itself inside it (where).
// Query i of a sequence has position p = i + (k_len − q_len): causality is aligned to the bottom right.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include <elastic/core/host_device.hpp>

namespace elastic {

/// The shape of one attention call, seen from the host. Packed sequences: `batch` counts them,
/// q_len and k_len are the longest, and the cu_seqlens hold batch + 1 ascending row offsets.
struct problem {
  int batch = 1;
  int q_len = 0;
  int k_len = 0;
  int query_heads = 1;
  int kv_heads = 1;
  int head_dim = 0;
  bool causal = true;
  int layer = 0;
  float softmax_scale = 0;                     // resolved: finite in a checked problem
  std::int32_t const* cu_seqlens_q = nullptr;  // (batch + 1), or null: equal lengths
  std::int32_t const* cu_seqlens_k = nullptr;
  std::int32_t const* k_lengths = nullptr;  // (batch): keys of each sequence in a cache, or null
  int q_begin = 0;                          // the query rows worked on, of every sequence
  int q_end = 0;
  int threads = 1;         // of a CPU backend; sizes its scratch
  void* stream = nullptr;  // of a CUDA backend

  ELASTIC_HOST_DEVICE int group() const { return query_heads / kv_heads; }
  ELASTIC_HOST_DEVICE bool packed() const { return cu_seqlens_q != nullptr; }
};

/// Run-time choices of one call.
struct options {
  bool causal = true;
  std::optional<float> softmax_scale = {};          // 1/√head_dim where empty
  int layer = 0;                                    // for modes and routers that differ by layer
  bool dense_decode = false;                        // decode: every head attends to the whole cache
  int threads = 0;                                  // cpu: 0 takes every core
  void* stream = nullptr;                           // cuda: a cudaStream_t
  std::span<std::int32_t const> cu_seqlens_q = {};  // packed sequences, (sequences + 1); empty: equal lengths
  std::span<std::int32_t const> cu_seqlens_k = {};  // in the backend's memory
  int max_q_len = -1;                               // cuda, packed: bounds on the lengths, since the host
  int max_k_len = -1;                               // cannot read them; longer sequences are cut. Decode: of the cache
  int q_begin = 0;                                  // query rows [q_begin, q_end) of every sequence, in
  int q_end = -1;                                   // multiples of chunk_alignment; −1: to the end
};

/// Query rows are cut into chunks at multiples of this many rows.
inline constexpr int chunk_alignment = 128;

/// One (sequence, query head) of a problem, as a mode sees it. Filled by the backend.
struct where {
  int batch = 0;  // the sequence
  int query_head = 0;
  int kv_head = 0;
  int query_heads = 1;
  int kv_heads = 1;
  int q_len = 0;
  int k_len = 0;
  int layer = 0;
  int route = 0;  // which branch of a hybrid the router chose for this head
  bool causal = true;

  ELASTIC_HOST_DEVICE int shift() const { return k_len - q_len; }
  ELASTIC_HOST_DEVICE int position(int q) const { return q + shift(); }
  /// The library's own cut: inside the sequence and, where causal, not in the future.
  ELASTIC_HOST_DEVICE bool admits(int q, int k) const { return k < k_len && (!causal || k <= position(q)); }
};

/// `batch` names a sequence, `query_head` a head; the route is read from an assignment by the caller.
ELASTIC_HOST_DEVICE where locate(problem const& p, int batch, int query_head, int route) {
  where w;
  w.batch = batch;
  w.query_head = query_head;
  w.kv_head = query_head / p.group();
  w.query_heads = p.query_heads;
  w.kv_heads = p.kv_heads;
  w.q_len = p.packed() ? p.cu_seqlens_q[batch + 1] - p.cu_seqlens_q[batch] : p.q_len;
  w.k_len = p.k_lengths != nullptr ? p.k_lengths[batch]
            : p.packed()           ? p.cu_seqlens_k[batch + 1] - p.cu_seqlens_k[batch]
                                   : p.k_len;
  w.layer = p.layer;
  w.route = route;
  w.causal = p.causal;
  return w;
}

}  // namespace elastic
