#!/usr/bin/env python3
"""Dense CPU attention beside PyTorch's scaled_dot_product_attention, in turn, in one run.

    bench/peers/cpu_sdpa.py build/bench/bench/bench_cpu_forward --threads 1 2 --lengths 2048 8192

Needs PyTorch. Prints GFLOP/s of the causal pairs (median of the rounds) and the median ratio.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128


def torch_rate(s, threads, heads, kv_heads):
    torch.set_num_threads(threads)
    q = torch.randn(1, heads, s, HEAD_DIM)
    k, v = (torch.randn(1, kv_heads, s, HEAD_DIM).repeat_interleave(heads // kv_heads, 1) for _ in range(2))
    with torch.no_grad():
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        start = time.perf_counter()
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return 2 * s * (s + 1) * HEAD_DIM * heads / (time.perf_counter() - start) / 1e9


def elastic_rate(binary, s, threads):
    name = f"^dense/float/S:{s}/threads:{threads}/"
    out = subprocess.run([binary, f"--benchmark_filter={name}", "--benchmark_format=json", "--benchmark_min_time=0.1"],
                         check=True, capture_output=True, text=True).stdout
    row = json.loads(out)["benchmarks"][0]
    return row["FLOP/s"] / 1e9, row["of_gemm"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="the built bench_cpu_forward")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"PyTorch {torch.__version__}, float, causal, head dim {HEAD_DIM}")
    print(f"{'S':>6} {'threads':>7} {'elastic':>9} {'of gemm':>8} {'PyTorch':>9} {'ratio':>6}")
    for s in args.lengths:
        heads = HEADS if s <= 4096 else 16  # as bench/cpu/forward.cpp
        for threads in args.threads:
            rounds = [(*elastic_rate(args.binary, s, threads), torch_rate(s, threads, heads, heads * KV_HEADS // HEADS))
                      for _ in range(args.rounds)]
            ours, of_gemm, theirs = (statistics.median(r[i] for r in rounds) for i in range(3))
            ratio = statistics.median(r[0] / r[2] for r in rounds)
            print(f"{s:>6} {threads:>7} {ours:>9.1f} {of_gemm:>8.2f} {theirs:>9.1f} {ratio:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
