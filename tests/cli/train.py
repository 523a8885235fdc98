"""examples/train, built outside of the project: it learns; its gradients and losses are those of the model written here in NumPy, in float64, with derivatives
of its own; and the number of threads changes no bit."""

import os
import pathlib
import re
import time
import unittest

import numpy as np
from harness import ROOT
from installed import InstalledTest

EXAMPLE = ROOT / "examples" / "train"
LAG, RATE = 6, 0.01
# Gradients: the largest difference over the largest entry. Each entry is a sum in f32 of up to 1024 products of numbers that are such sums themselves; errors
# of 2^-24 at random leave 1e-6.
GRADIENT_TOLERANCE = 1e-5
# Losses from the same parameters: means of 1000 logarithms of numbers that are right to about 1e-6, where the loss is not small.
LOSS_TOLERANCE = 1e-6
# Losses of two trainings: errors of the gradients grow from step to step as the loss falls, since Adam divides by their size. 60 steps leave 2e-5.
CURVE_STEPS, CURVE_TOLERANCE = 60, 2e-4


def bucket(distance, buckets=32, farthest=128):
    """T5's, for distances >= 0."""
    exact = buckets // 2
    if distance < exact:
        return distance
    return min(exact + int(np.log(distance / exact) / np.log(farthest / exact) * (buckets - exact) + 1e-4), buckets - 1)


def gradients(p, tokens, lag):
    """The loss and its derivative by every parameter, in float64."""
    batch, length = tokens.shape
    heads = p["bias"].shape[0]
    width = p["wq"].shape[0]
    split = lambda m: m.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)
    merge = lambda m: m.transpose(0, 2, 1, 3).reshape(batch * length, width)
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    buckets = np.array([bucket(d) for d in range(length)])[np.maximum(distance, 0)]
    scale = 1 / np.sqrt(width // heads)

    x = p["embedding"][tokens.ravel()]
    q, k, v = (split(x @ p[name]) for name in ("wq", "wk", "wv"))
    score = np.where(distance >= 0, scale * q @ k.transpose(0, 1, 3, 2) + p["bias"][:, buckets], -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    o = merge(weight @ v)
    y = x + o @ p["wo"]
    logits = y @ p["readout"]
    chance = np.exp(logits - logits.max(-1, keepdims=True))
    chance /= chance.sum(-1, keepdims=True)
    rows = np.flatnonzero(np.tile(np.arange(length) >= lag, batch))
    targets = tokens.ravel()[rows - lag]
    loss = -np.log(chance[rows, targets]).mean()

    d_logits = np.zeros_like(logits)
    d_logits[rows] = chance[rows]
    d_logits[rows, targets] -= 1
    d_logits /= len(rows)
    dy = d_logits @ p["readout"].T
    d_o = split(dy @ p["wo"].T)
    d_weight = d_o @ v.transpose(0, 1, 3, 2)
    d_score = weight * (d_weight - (weight * d_weight).sum(-1, keepdims=True))
    d_bias = np.zeros_like(p["bias"])
    for h in range(heads):
        np.add.at(d_bias[h], buckets, np.where(distance >= 0, d_score[:, h].sum(0), 0))
    dq, dk, dv = merge(scale * d_score @ k), merge(scale * d_score.transpose(0, 1, 3, 2) @ q), merge(weight.transpose(0, 1, 3, 2) @ d_o)
    dx = dy + dq @ p["wq"].T + dk @ p["wk"].T + dv @ p["wv"].T
    d_embedding = np.zeros_like(p["embedding"])
    np.add.at(d_embedding, tokens.ravel(), dx)
    return loss, {"embedding": d_embedding, "wq": x.T @ dq, "wk": x.T @ dk, "wv": x.T @ dv, "bias": d_bias, "wo": o.T @ dy, "readout": y.T @ d_logits}


def train(p, tokens, lag, rate):
    """The losses of training in float64 by Adam from these parameters on these tokens."""
    p = dict(p)
    mean, square = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
    losses = []
    for step, batch in enumerate(tokens, 1):
        loss, d = gradients(p, batch, lag)
        losses.append(loss)
        for name in p:
            mean[name] = 0.9 * mean[name] + 0.1 * d[name]
            square[name] = 0.999 * square[name] + 0.001 * d[name] ** 2
            p[name] = p[name] - rate * (mean[name] / (1 - 0.9**step)) / (np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8)
    return np.array(losses)


class Train(InstalledTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.build = pathlib.Path(cls._prefix.name) / "build"
        cls.step("cmake", "-G", "Ninja", "-S", EXAMPLE, "-B", cls.build, f"-DCMAKE_PREFIX_PATH={cls.prefix}", f"-DCMAKE_CXX_COMPILER={os.environ['CXX']}",
                 "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Wshadow -Werror")
        cls.step("cmake", "--build", cls.build)
        cls.program = cls.build / "train"

    def train(self, *options, name="dump"):
        """What it printed, and what it dumped."""
        folder = self.folder / name
        folder.mkdir()
        out = self.step(self.program, *options, "--dump", folder, env=self.without_gpu())
        return out, {each.stem: np.load(each) for each in folder.iterdir()}

    def test_it_learns(self):
        for options, lag in ((), 6), (("--lag", 15, "--seed", 2), 15):
            begin = time.monotonic()
            out, dump = self.train(*options, name=f"lag{lag}")
            seconds = time.monotonic() - begin
            loss = dump["loss"]
            printed = [float(each) for each in re.findall(r"^step +\d+   loss ([\d.]+)", out, re.MULTILINE)]
            np.testing.assert_allclose(printed, loss[[*range(0, len(loss), 25), len(loss) - 1]], atol=5e-7)
            self.assertLess(abs(loss[0] - np.log(16)), 0.1)
            self.assertLess(loss[-25:].max(), 0.05)
            # It has learned the distance: the bias at the lag is above all others, in the sum of the heads, and the plot shows it.
            bias = dump["bias"][-1]
            self.assertEqual(bias.sum(0).argmax(), lag)
            bars = re.findall(r"^ +(\d+)  +(-?[\d.]+) (#*) ", out, re.MULTILINE)
            self.assertEqual([int(each[0]) for each in bars], list(range(16)))
            np.testing.assert_allclose([float(each[1]) for each in bars], bias[0, :16], atol=0.03)  # one update later
            print(f"lag {lag}: loss {loss[0]:.4f} at first, {loss[50]:.4f} after 50 steps, {loss[100]:.4f} after 100, {loss[-1]:.5f} at last; {seconds:.1f} s")
        self.demand_no_compiler_in(self.program)

    def test_gradients_and_losses_are_those_of_float64(self):
        _, dump = self.train("--steps", 80)
        names = [name for name in dump if f"d_{name}" in dump]
        self.assertEqual(len(names), 7)
        exact = {name: dump[name].astype(np.float64) for name in names}
        worst = dict.fromkeys(names, 0.0)
        for step in 0, 1, 25, 50, 79:
            loss, wanted = gradients({name: exact[name][step] for name in names}, dump["tokens"][step], LAG)
            self.assertLess(abs(dump["loss"][step] / loss - 1), LOSS_TOLERANCE)
            for name in names:
                self.assertGreater(np.abs(wanted[name]).max(), 1e-5)
                error = np.abs(dump[f"d_{name}"][step] - wanted[name]).max() / np.abs(wanted[name]).max()
                self.assertLess(error, GRADIENT_TOLERANCE, f"{name} in step {step}")
                worst[name] = max(worst[name], error)
        print("largest errors of gradients: " + ", ".join(f"{name} {error:.1e}" for name, error in worst.items()))
        # Trained on from the first parameters, in float64 throughout.
        curve = train({name: exact[name][0] for name in names}, dump["tokens"][:CURVE_STEPS], LAG, RATE)
        error = np.abs(dump["loss"][:CURVE_STEPS] / curve - 1)
        self.assertLess(error.max(), CURVE_TOLERANCE)
        print(f"losses of {CURVE_STEPS} steps, from {curve[0]:.4f} to {curve[-1]:.4f}: largest relative error {error.max():.1e}")

    def test_the_own_gradients_are_right(self):
        """Of the reference, by central differences in float64."""
        rng = np.random.default_rng(3)
        shapes = {"embedding": (5, 4), "wq": (4, 4), "wk": (4, 4), "wv": (4, 4), "bias": (2, 32), "wo": (4, 4), "readout": (4, 5)}
        p = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        tokens = rng.integers(0, 5, (2, 21))
        _, d = gradients(p, tokens, 3)
        for name, shape in shapes.items():
            direction = rng.standard_normal(shape)
            up, down = (gradients({**p, name: p[name] + sign * 1e-5 * direction}, tokens, 3)[0] for sign in (1, -1))
            self.assertAlmostEqual((up - down) / 2e-5, (d[name] * direction).sum(), delta=1e-6 * max(1, abs(up)), msg=name)

    def test_threads_change_no_bit(self):
        dumps = [self.train("--steps", 40, "--threads", threads, name=f"threads{threads}")[1] for threads in (1, 2, 3)]
        for dump in dumps[1:]:
            for name, array in dumps[0].items():
                self.assertEqual(array.tobytes(), dump[name].tobytes(), name)

    def test_the_emulated_device(self):
        options = "--steps", "3"
        _, here = self.train(*options, name="here")
        (self.folder / "there").mkdir()
        out = self.step(self.program, *options, "--device", "cuda", "--dump", self.folder / "there", env=self.emulated())
        self.assertIn("emulated", out)
        worst = 0
        for name in here:
            array = np.load(self.folder / "there" / f"{name}.npy")
            if name.startswith("d_"):
                worst = max(worst, np.abs(array[0] - here[name][0]).max() / np.abs(here[name][0]).max())
        self.assertLess(worst, 2 * GRADIENT_TOLERANCE)
        np.testing.assert_allclose(np.load(self.folder / "there" / "loss.npy"), here["loss"], rtol=1e-5)
        print(f"the first step's gradients on the emulated device: {worst:.1e} from those of the CPU")

    def test_mistakes(self):
        for wrong in ["--steps", "0"], ["--lag", "16"], ["--lag", "3x"], ["--device", "gpu"], ["--steps"], ["--rat", "1"]:
            self.assertIn("usage: train", self.step(self.program, *wrong, code=2))
        self.assertIn("cannot write", self.step(self.program, "--steps", 1, "--dump", self.folder / "gone", code=1))
        self.assertIn("cannot be loaded", self.step(self.program, "--device", "cuda", code=3, env=self.without_gpu()))


if __name__ == "__main__":
    unittest.main()
