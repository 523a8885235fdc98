#!/usr/bin/env python3
"""The demo: a real model's attention, written in .flex, and two variants of it, each compared with an answer made elsewhere.

    demo.py FLEXC     exit 1 if an answer is wrong

The arrays are the first attention layer of all-MiniLM-L6-v2 on four sentences (examples/data/README.md). The first variant is compared
with what the model itself computed, the other two with the same formula written in NumPy, in float64, below.
"""

import pathlib
import shlex
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = pathlib.Path("examples/demo")
ARRAYS = pathlib.Path("examples/data/minilm_layer0.npz")

# Each output element is a mean of values of size about 1 with weights from exponentials of sums of 32 products, all in f32: a few units in
# the last place (6e-8) each. The model's own f32 answer is 5e-7 away from float64; the bound leaves a factor of four.
TOLERANCE = 2e-6


def attention(arrays, mask, bias=0.0):
    """softmax(q k^T / sqrt(D) + bias, where mask) v in float64."""
    q, k, v = (arrays[name].astype(np.float64) for name in "qkv")
    score = np.where(mask, np.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(q.shape[-1]) + bias, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True, initial=-1e300))
    total = weight.sum(-1, keepdims=True)
    return np.einsum("bhqk,bhkd->bhqd", np.divide(weight, total, out=np.zeros_like(weight), where=total > 0), v)


def run(*command):
    """Prints a command as a user would type it, and runs it; what it prints goes where the demo's own output goes."""
    print("  $ " + shlex.join(["build/release/bin/flexc", *command]), flush=True)
    result = subprocess.run([FLEXC, *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if result.returncode != 0:
        sys.exit(f"demo: flexc failed with exit code {result.returncode}")


def step(title, source, expected, against, *options):
    """Shows a variant, runs it, compares its answer, and draws its mask for the second sentence. True if the answer is right."""
    print(f"\n{title}\n")
    for line in (ROOT / HERE / source).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("# ", "import")):
            print(f"  | {line}")
    print()
    name = pathlib.Path(source).stem
    out = pathlib.Path("build/demo") / f"{name}.npz"
    run("run", str(HERE / source), "--in", str(ARRAYS), "--out", str(out), *options)
    with np.load(ROOT / out) as result:
        answer = result["o"]
    error = float(np.abs(answer - expected).max()) if answer.shape == expected.shape and np.isfinite(answer).all() else float("inf")
    right = error <= TOLERANCE
    print(f"    {answer.size} numbers, compared with {against}:")
    print(f"    largest difference {error:.1e}, allowed {TOLERANCE:.0e}: {'right' if right else 'WRONG'}\n")
    run("show", str(HERE / source), "--in", str(ARRAYS), "--b", "1", *options)
    return right


def main():
    with np.load(ROOT / ARRAYS) as file:
        arrays = dict(file)
    batch, heads, queries, _ = arrays["q"].shape
    keys = arrays["k"].shape[2]
    q, k = np.arange(queries)[:, None], np.arange(keys)[None, :]
    length = arrays["len"][:, None, None, None]
    slope = np.exp2(-8.0 * np.arange(1, heads + 1) / heads)[:, None, None]
    (ROOT / "build" / "demo").mkdir(parents=True, exist_ok=True)

    print(f"The first attention layer of all-MiniLM-L6-v2 on {batch} sentences of {', '.join(map(str, arrays['len']))} tokens,")
    print(f"padded to {queries}; {heads} heads of {arrays['q'].shape[3]} elements. Real weights, real text: examples/data/README.md.")

    right = [
        step("1. The model's own attention: no token looks at padding.", "minilm.flex", arrays["o"], "the model's own output"),
        step("2. A variant: no token looks ahead.", "minilm_causal.flex", attention(arrays, (k < length) & (q >= k)),
             "NumPy in float64"),
        step("3. Another: a window of 5 to either side, and near tokens count for more.", "minilm_window_alibi.flex",
             attention(arrays, (k < length) & (abs(q - k) <= 5), -abs(q - k) * slope), "NumPy in float64", "--set", "window=5"),
    ]
    if not all(right):
        sys.exit("\ndemo: an answer is wrong")

    print("""
What happened: flexc checked each file, compiled it to machine code for this CPU, fused it into its tiled attention
kernel, and ran that on the arrays. To compute the answers, no mask was stored; the pictures come from the same masks.

Your turn. Change a line of examples/demo/minilm_window_alibi.flex, for instance the mask to

    mask  = padding(len) and (distance <= window or k == 0);

which keeps the first token in everyone's sight, and draw it:

    build/release/bin/flexc show examples/demo/minilm_window_alibi.flex --in examples/data/minilm_layer0.npz --b 1""")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    FLEXC = str(pathlib.Path(sys.argv[1]).resolve())
    main()
