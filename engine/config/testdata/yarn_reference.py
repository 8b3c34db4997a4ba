"""Computes yarn_reference.json with numpy, independently of the Go code: python3 yarn_reference.py > yarn_reference.json

Formula (arXiv 2309.00071, section 3.2, and _compute_yarn_parameters of transformers):

    f_i        = theta^(2i/d)                                    i = 0 .. d/2-1
    dim(r)     = d * ln(original / (2 pi r)) / (2 ln theta)      the pair that turns r times over the original context
    low, high  = floor(dim(beta_fast)), ceil(dim(beta_slow))     not rounded where truncate is false
    low, high  = max(low, 0), min(high, d-1);  high += 0.001 where they are equal
    ramp_i     = clamp((i - low) / (high - low), 0, 1)
    inv_freq_i = ramp_i / (factor * f_i) + (1 - ramp_i) / f_i
    attention  = 0.1 ln(factor) + 1

float64 scalars; "f32" follows torch's float32 tensors, "f64" is the same in float64 throughout.
"""
import json
import math

import numpy as np

CASES = [
    dict(name="qwen3", d=128, theta=1e6, factor=4.0, original=32768, fast=32, slow=1, truncate=True),
    dict(name="qwen3 without truncation", d=128, theta=1e6, factor=4.0, original=32768, fast=32, slow=1, truncate=False),
    dict(name="factor 2, theta 5e6", d=128, theta=5e6, factor=2.0, original=32768, fast=32, slow=1, truncate=True),
    dict(name="small head, other betas", d=32, theta=1e4, factor=8.0, original=2048, fast=16, slow=2, truncate=True),
    dict(name="low clamped to 0", d=64, theta=1e6, factor=4.0, original=64, fast=32, slow=1, truncate=True),
    dict(name="low equals high", d=64, theta=1e4, factor=4.0, original=6, fast=32, slow=1, truncate=True),
]


def inv_freq(c, dtype):
    d = c["d"]
    # torch divides and raises in the tensor's dtype; the exponent is rounded first, the power is rounded once.
    exponent = np.arange(0, d, 2).astype(dtype) / dtype(d)
    pos_freqs = np.power(np.float64(c["theta"]), exponent.astype(np.float64)).astype(dtype)

    def dim(rotations):
        return d * math.log(c["original"] / (rotations * 2 * math.pi)) / (2 * math.log(c["theta"]))

    low, high = dim(c["fast"]), dim(c["slow"])
    if c["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(d // 2, dtype=dtype) - dtype(low)) / dtype(high - low), 0, 1).astype(dtype)
    keep = dtype(1) - ramp
    interpolation = dtype(1) / (dtype(c["factor"]) * pos_freqs)
    extrapolation = dtype(1) / pos_freqs
    return interpolation * (dtype(1) - keep) + extrapolation * keep, low, high


out = []
for c in CASES:
    f32, low, high = inv_freq(c, np.float32)
    f64, _, _ = inv_freq(c, np.float64)
    out.append(dict(c, low=low, high=high, attention=0.1 * math.log(c["factor"]) + 1,
                    f32=[float(v) for v in f32], f64=[float(v) for v in f64]))
print("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]")
