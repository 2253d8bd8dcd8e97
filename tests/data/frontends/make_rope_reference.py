#!/usr/bin/env python3
"""Writes rope_reference.json: RoPE frequencies in double precision, by the formulas of the papers.

    python3 make_rope_reference.py > rope_reference.json

Each case has the fields of a config.json, the size of a head and the context served; the answer is what cosine and
sine are multiplied by and the radians per position of each rotating pair. Needs nothing but Python.
"""
import json
import math


def base_frequencies(theta, dims):
    return [theta ** (-2.0 * i / dims) for i in range(dims // 2)]


def linear(f, factor):
    return [x / factor for x in f], 1.0


def llama3(f, factor, low, high, original):
    """Llama 3.1: turns over the original context decide between kept, divided, and a straight line between."""
    out = []
    for x in f:
        turns = original * x / (2 * math.pi)
        keep = min(1.0, max(0.0, (turns - low) / (high - low)))
        out.append(x * (keep + (1 - keep) / factor))
    return out, 1.0


def yarn(f, theta, factor, original, fast=32.0, slow=1.0, amplitude=None, truncate=True, mscale=None, mscale_all=None):
    """arXiv 2309.00071, section 3.2 (by parts) and 3.4 (temperature)."""
    dims = 2 * len(f)

    def dimension(turns):  # solves turns = original * theta^(-2 d / dims) / (2 pi) for d
        return dims / 2 * math.log(original / (2 * math.pi * turns)) / math.log(theta)

    first, last = dimension(fast), dimension(slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dims - 1)
    out = []
    for i, x in enumerate(f):
        ramp = min(1.0, max(0.0, (i - first) / (last - first)))
        out.append(x * (1 - ramp) + x / factor * ramp)

    def magnitude(m):
        return 0.1 * m * math.log(factor) + 1 if factor > 1 else 1.0

    if amplitude is None:
        amplitude = magnitude(mscale) / magnitude(mscale_all) if mscale and mscale_all else magnitude(1)
    return out, amplitude


def longrope(f, divisors, factor, original, amplitude=None):
    if amplitude is None:
        amplitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return [x / d for x, d in zip(f, divisors)], amplitude


def cases():
    f = base_frequencies
    yield "default", dict(rope_theta=10000.0), 64, 2048, (f(1e4, 64), 1.0)
    yield "default, theta inside", dict(rope_parameters=dict(rope_type="default", rope_theta=5e5)), 128, 8192, (f(5e5, 128), 1.0)
    yield "default, theta left out", dict(), 32, 2048, (f(1e4, 32), 1.0)
    yield "partial", dict(rope_theta=1e4, partial_rotary_factor=0.75), 128, 4096, (f(1e4, 96), 1.0)
    yield "partial inside", dict(rope_parameters=dict(rope_theta=1e4, partial_rotary_factor=0.5)), 64, 4096, (f(1e4, 32), 1.0)
    yield "linear, old spelling", dict(rope_theta=1e4, rope_scaling=dict(type="linear", factor=4.0)), 64, 2048, linear(f(1e4, 64), 4)
    yield "linear, new spelling", dict(rope_parameters=dict(rope_type="linear", rope_theta=1e6, factor=8)), 64, 2048, linear(f(1e6, 64), 8)
    l3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    yield "llama3, old spelling", dict(rope_theta=5e5, max_position_embeddings=131072, rope_scaling=dict(l3, rope_type="llama3")), 128, 4096, llama3(f(5e5, 128), 8, 1, 4, 8192)
    yield "llama3, new spelling", dict(rope_parameters=dict(l3, factor=32.0, rope_type="llama3", rope_theta=5e5)), 64, 4096, llama3(f(5e5, 64), 32, 1, 4, 8192)
    y = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32768)
    yield "yarn", dict(rope_theta=1e6, rope_scaling=y), 128, 32768, yarn(f(1e6, 128), 1e6, 4, 32768)
    yield "yarn, all options", dict(rope_parameters=dict(y, rope_theta=1e4, attention_factor=0.75, beta_fast=16, beta_slow=2, truncate=False)), 64, 4096, yarn(f(1e4, 64), 1e4, 4, 32768, 16, 2, 0.75, False)
    yield "yarn, mscale", dict(rope_parameters=dict(y, rope_theta=1e4, factor=40, mscale=1.0, mscale_all_dim=0.5)), 64, 4096, yarn(f(1e4, 64), 1e4, 40, 32768, mscale=1.0, mscale_all=0.5)
    yield "yarn, factor from the contexts", dict(max_position_embeddings=131072, rope_parameters=dict(rope_type="yarn", rope_theta=1e4, original_max_position_embeddings=16384)), 64, 4096, yarn(f(1e4, 64), 1e4, 8, 16384)
    yield "yarn, short ramp", dict(rope_parameters=dict(y, rope_theta=1e4, original_max_position_embeddings=32)), 32, 40, yarn(f(1e4, 32), 1e4, 4, 32)
    short = [1.0 + 0.05 * i for i in range(16)]
    long = [1.0 + 0.4 * i for i in range(16)]
    lr = dict(short_factor=short, long_factor=long)
    lr_config = dict(rope_theta=1e4, max_position_embeddings=131072, original_max_position_embeddings=4096)
    yield "longrope, short", dict(lr_config, rope_scaling=dict(lr, type="longrope")), 32, 4096, longrope(f(1e4, 32), short, 32, 4096)
    yield "longrope, long", dict(lr_config, rope_scaling=dict(lr, type="longrope")), 32, 4097, longrope(f(1e4, 32), long, 32, 4096)
    yield "longrope, factor and amplitude given", dict(rope_parameters=dict(lr, rope_type="longrope", rope_theta=1e4, factor=16.0, attention_factor=1.5, original_max_position_embeddings=2048)), 32, 2049, longrope(f(1e4, 32), long, 16, 2048, 1.5)


print("[")
lines = []
for name, config, head_dim, context, (frequencies, amplitude) in cases():
    config.setdefault("max_position_embeddings", 65536)
    lines.append(json.dumps(dict(name=name, config=config, head_dim=head_dim, context=context, amplitude=amplitude, frequencies=frequencies)))
print(",\n".join(lines))
print("]")
