#!/usr/bin/env python3
"""Writes the arrays of the tutorial's last steps: documents.py OUT.npz

q, k, v [1, 4, 512, 64] f32, random; slope [4]; doc [512]: eight documents of different lengths, packed one after the other."""

import sys

import numpy as np

rng = np.random.default_rng(0)
H, S, D = 4, 512, 64
lengths = [130, 20, 75, 3, 100, 64, 57, 63]
assert sum(lengths) == S
arrays = {name: rng.standard_normal((1, H, S, D)).astype(np.float32) for name in "qkv"}
arrays["slope"] = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
arrays["doc"] = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
np.savez(sys.argv[1], **arrays)
