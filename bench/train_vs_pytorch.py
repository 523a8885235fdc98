#!/usr/bin/env python3
"""Trains the model of examples/train again in PyTorch, in float64, from the same weights on the same tokens, and compares.

    cmake -S examples/train -B build/train ... && cmake --build build/train    # examples/train/README.md
    python3 bench/train_vs_pytorch.py [--program build/train/train] [--steps 100] [--lag 6]

Compared are the gradient of every parameter, at the weights that the program had in each step, with what autograd finds; and the losses of both trainings
with Adam. PyTorch is installed from PyPI into bench/.venv on first use. Prints a table; exit code 1 if something differs by more than f32 explains.
"""
import argparse
import math
import pathlib
import subprocess
import sys
import tempfile

from cpu_vs_pytorch import ROOT, in_venv

# The largest difference over the largest entry. Gradients: sums in f32 of up to 1024 products of such sums. Losses: Adam divides gradients by their
# size, so their errors add up over the steps.
GRADIENT_TOLERANCE, LOSS_TOLERANCE = 1e-5, 1e-3
LEAST_LOSS = 0.05  # below it the derivatives by the logits are differences p - 1 of nearly equal numbers, and f32 holds fewer of their digits
NAMES = ("embedding", "wq", "wk", "wv", "bias", "wo", "readout")


def buckets(torch, length, count, farthest=128):
    """The T5 bucket of q - k, as transformers.models.t5 has it for decoders."""
    distance = (torch.arange(length)[:, None] - torch.arange(length)[None, :]).clamp(min=0)
    exact = count // 2
    far = exact + (torch.log(distance.double().clamp(min=1) / exact) / math.log(farthest / exact) * (count - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=count - 1))


def loss_of(torch, p, tokens, lag):
    batch, length = tokens.shape
    heads, width = p["bias"].shape[0], p["wq"].shape[0]
    x = p["embedding"][tokens]
    q, k, v = ((x @ p[name]).view(batch, length, heads, -1).transpose(1, 2) for name in ("wq", "wk", "wv"))
    score = q @ k.transpose(-1, -2) / math.sqrt(width // heads) + p["bias"][:, buckets(torch, length, p["bias"].shape[1])]
    score = score.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
    o = (score.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
    logits = (x + o @ p["wo"]) @ p["readout"]
    return torch.nn.functional.cross_entropy(logits[:, lag:].reshape(-1, logits.shape[-1]), tokens[:, : length - lag].reshape(-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "train" / "train")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lag", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0.01)
    options = parser.parse_args()
    if not options.program.is_file():
        sys.exit(f"{options.program} does not exist: build it as examples/train/README.md says")
    in_venv()
    import numpy as np
    import torch

    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        command = [options.program, "--steps", options.steps, "--lag", options.lag, "--rate", options.rate, "--dump", folder]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        dump = {each.stem: np.load(each) for each in pathlib.Path(folder).iterdir()}
    tokens = torch.from_numpy(dump["tokens"]).long()
    at = lambda step: {name: torch.from_numpy(dump[name][step]).double().requires_grad_() for name in NAMES}

    worst = {name: (0.0, 0) for name in NAMES}
    for step in range(options.steps):
        p = at(step)
        loss = loss_of(torch, p, tokens[step], options.lag)
        if loss.item() < LEAST_LOSS:
            continue
        loss.backward()
        for name in NAMES:
            wanted = p[name].grad.numpy()
            error = float(np.abs(dump[f"d_{name}"][step] - wanted).max() / np.abs(wanted).max())
            worst[name] = max(worst[name], (error, step))

    p = at(0)
    adam = torch.optim.Adam(p.values(), lr=options.rate)
    curve = []
    for step in range(options.steps):
        adam.zero_grad()
        loss = loss_of(torch, p, tokens[step], options.lag)
        loss.backward()
        adam.step()
        curve.append(loss.item())
    apart = np.abs(dump["loss"] / np.array(curve) - 1)

    print(f"# Training: flexc on the CPU in float32 against PyTorch {torch.__version__} in float64\n\nMade by bench/train_vs_pytorch.py: examples/train, "
          f"copying the token {options.lag} back, {options.steps} steps of Adam at rate {options.rate}.\n")
    print("| gradient of | largest error / largest entry | in step |\n|---|---|---|")
    for name, (error, step) in worst.items():
        print(f"| {name} | {error:.1e} | {step} |")
    print("\n| step | loss, flexc f32 | loss, PyTorch f64 | largest relative difference so far |\n|---|---|---|---|")
    for step in sorted({*range(0, options.steps, max(options.steps // 10, 1)), options.steps - 1}):
        print(f"| {step} | {dump['loss'][step]:.6f} | {curve[step]:.6f} | {apart[: step + 1].max():.1e} |")
    return 0 if max(worst.values())[0] <= GRADIENT_TOLERANCE and apart.max() <= LOSS_TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
