#!/usr/bin/env python3
"""What PyTorch and Triton run beside the CUDA benchmarks, on the same shapes (32 query and 8 KV heads, head dim 128,
bfloat16, batch 1).

    bench/peers/gpu_torch.py card dense router antidiagonal

card          a copy's bandwidth and the rate of one matrix product, to tell cards apart
dense         scaled_dot_product_attention by cuDNN, causal and not
router        the MLP router's network, as PyTorch runs it and replayed from a CUDA graph
antidiagonal  the x-attention authors' estimate and selection in Triton, with https://github.com/mit-han-lab/x-attention
              on PYTHONPATH (keys repeated for the query heads, as it wants them). It falls back to PyTorch on cards that
              its list of names lacks: extend that list, or the figure is not Triton's.

Needs PyTorch with CUDA. "burst" is the median of 9 launches after a rest, by CUDA events, "busy" that of five batches of
launches back to back for about 50 ms.
"""
import argparse
import statistics
import sys
import time
import types

import torch

QUERY_HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128


def milliseconds(run, count):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(count):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / count


def report(name, run, flops=None, launches=9):
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    time.sleep(0.4)
    burst = statistics.median([milliseconds(run, 1) for _ in range(launches + 2)][2:])
    count = min(50, max(3, int(50 / burst)))
    busy = statistics.median([milliseconds(run, count) for _ in range(6)][1:])
    rates = [f" {flops / ms / 1e9:6.0f} TFLOP/s" if flops else "" for ms in (burst, busy)]
    print(f"{name:32} burst {burst:9.4f} ms{rates[0]}  busy {busy:9.4f} ms{rates[1]}", flush=True)


def normal(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def card():
    x = torch.empty(1 << 30, device="cuda")
    y = torch.empty_like(x)
    ms = statistics.median(milliseconds(lambda: y.copy_(x), 1) for _ in range(9))
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}: a copy at {8 * x.numel() / ms / 1e6:.0f} GB/s")
    a, b = normal(8192, 8192), normal(8192, 8192)
    report("product of 8192", lambda: a @ b, 2 * 8192**3)


def dense():
    attend = torch.nn.functional.scaled_dot_product_attention
    for s, causal in ((8192, True), (16384, True), (32768, True), (131072, True), (16384, False)):
        q, k, v = (normal(1, heads, s, HEAD_DIM) for heads in (QUERY_HEADS, KV_HEADS, KV_HEADS))
        pairs = QUERY_HEADS * (s * (s + 1) / 2 if causal else s * s)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.CUDNN_ATTENTION):
            report(f"cuDNN, S {s}{'' if causal else ', not causal'}",
                   lambda: attend(q, k, v, is_causal=causal, enable_gqa=True), 4 * pairs * HEAD_DIM,
                   launches=9 if s < 40000 else 3)


def router():
    d, silu, linear = HEAD_DIM, torch.nn.SiLU, torch.nn.Linear
    task = torch.nn.Sequential(linear(d, 4 * d), silu(), linear(4 * d, d))
    head = torch.nn.Sequential(linear(d, 4 * d), silu(), linear(4 * d, d), silu(), linear(d, 2))
    network = torch.nn.Sequential(task, head).to("cuda", torch.bfloat16)
    for s in (512, 8192, 131072, 1048576):
        k = normal(1, s, KV_HEADS, d)

        @torch.no_grad()
        def route():
            pooled = torch.cat((k[:, :100], k[:, -100:]), 1).float().mean(1).to(k.dtype)
            return network(pooled).argmax(-1)

        report(f"router, S {s}", route)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            route()
        report(f"router in a graph, S {s}", graph.replay)


def antidiagonal():
    sparse = types.ModuleType("block_sparse_attn")  # which the module imports and the estimate does not call
    sparse.block_sparse_attn_func = None
    sys.modules.setdefault("block_sparse_attn", sparse)
    from xattn.src.Xattention import xattn_estimate

    for s in (32768, 131072):
        q, k = normal(1, QUERY_HEADS, s, HEAD_DIM), normal(1, KV_HEADS, s, HEAD_DIM)
        keys = k.repeat_interleave(QUERY_HEADS // KV_HEADS, 1)
        chunk = max(2048, min(s, 2**28 // s))  # as its own code chooses
        report(f"x-attention, S {s}",
               lambda: xattn_estimate(q, keys, block_size=128, stride=16, norm=1, threshold=0.9, select_mode="inverse",
                                      use_triton=True, causal=True, chunk_size=chunk), launches=5)


def main():
    works = {work.__name__: work for work in (card, dense, router, antidiagonal)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="+", choices=works)
    for name in parser.parse_args().works:
        works[name]()


if __name__ == "__main__":
    main()
