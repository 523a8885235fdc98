#!/usr/bin/env python3
"""Learns the bias of step 5: train.py FLEXC [STEPS]

The target is the output of the same attention with a bias that only its author knows; the loss is the mean square of the difference. Each step runs the attention
forward, and then, with the loss's derivative by o as `do`, backward: flexc gives d_bias, and NumPy makes a step of gradient descent with momentum."""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
W, H, S, D = 8, 2, 128, 16


def main():
    flexc, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal((1, H, S, D)).astype(np.float32) for name in "qkv"}
    arrays["doc"] = np.repeat(np.arange(4), S // 4).astype(np.int32)
    secret = np.stack([np.linspace(2, -2, W), np.cos(np.arange(W))], axis=1).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        given, found = pathlib.Path(folder) / "in.npz", pathlib.Path(folder) / "out.npz"

        def run(**more):
            np.savez(given, **arrays, **more)
            subprocess.run([flexc, "run", str(HERE / "5_learned.flex"), "--in", str(given), "--out", str(found)], check=True,
                           stdout=subprocess.DEVNULL)
            with np.load(found) as out:
                return dict(out)

        target = run(bias=secret)["o"]
        bias, momentum = np.zeros_like(secret), np.zeros_like(secret)
        for step in range(steps + 1):
            difference = run(bias=bias)["o"] - target
            loss = float(np.mean(difference**2))
            if step % 20 == 0:
                print(f"step {step:3}  loss {loss:.6f}")
            d_bias = run(bias=bias, do=2 * difference / difference.size)["d_bias"]
            momentum = 0.9 * momentum + d_bias
            bias = bias - 3 * momentum
    # A constant added to all of a head's biases changes nothing: compare without it.
    error = np.abs((bias - bias.mean(0)) - (secret - secret.mean(0))).max()
    print(f"largest error of the learned bias: {error:.3f}")


if __name__ == "__main__":
    main()
