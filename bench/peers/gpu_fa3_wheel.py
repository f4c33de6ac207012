#!/usr/bin/env python3
"""FlashAttention-3 as the third-party wheel flash-attn3-jax ships it, on the shapes of the CUDA benchmarks (32 query and
8 KV heads, head dim 128, bfloat16, batch 1): dense, causal and not, and a window of 2048 tokens.

    pip install flash-attn3-jax==0.2.3 einops    # beside JAX with CUDA
    bench/peers/gpu_fa3_wheel.py

Prints the median of five batches of calls back to back, by the host's clock, which would count in a single call.
"""
import statistics
import time

import jax
import jax.numpy as jnp
from flash_attn3_jax import flash_mha

QUERY_HEADS, KV_HEADS, HEAD_DIM, WINDOW = 32, 8, 128, 2048


def milliseconds(run, count):
    start = time.perf_counter()
    for _ in range(count):
        result = run()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / count * 1e3


def report(name, s, pairs, **options):
    shapes = [(1, s, heads, HEAD_DIM) for heads in (QUERY_HEADS, KV_HEADS, KV_HEADS)]
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    inputs = [jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes)]
    attend = jax.jit(lambda q, k, v: flash_mha(q, k, v, **options))
    run = lambda: attend(*inputs)
    milliseconds(run, 1)
    count = min(50, max(3, int(50 / milliseconds(run, 1))))
    ms = statistics.median(milliseconds(run, count) for _ in range(5))
    rate = 4e-9 * QUERY_HEADS * pairs * HEAD_DIM / ms
    print(f"{name:12} S {s:6} busy {ms:9.4f} ms {rate:6.0f} TFLOP/s", flush=True)


def main():
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}")
    lengths = (8192, 16384, 32768, 65536, 131072)
    for s in lengths:
        report("causal", s, s * (s + 1) / 2, is_causal=True)
    report("full", 16384, 16384 * 16384)
    for s in lengths:
        pairs = WINDOW * s - WINDOW * (WINDOW - 1) / 2
        report(f"window {WINDOW}", s, pairs, is_causal=True, window_size=(WINDOW - 1, 0))


if __name__ == "__main__":
    main()
