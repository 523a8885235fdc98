"""Gradients on the command line: `do`, `dlse` and `dmax_score` in, dq, dk, dv and d_NAME out.

The oracle is the formula in NumPy, in float64, which is itself compared with central differences of the loss in a few elements of each array.
"""

import os
import re
import subprocess
import sys
import unittest

import numpy as np
from harness import FLEXC, ROOT, FlexcTest, attention, load_safetensors, save_safetensors, tensors, to_bf16

ROUND = {"f32": lambda x: x, "f16": lambda x: x.astype(np.float16).astype(np.float32), "bf16": to_bf16}
# Of the largest element and 1. f32: sums of some hundred products in f32. f16 and bf16: o, which enters through rowsum(do * o), and the result
# are rounded to the type, whose half unit is 2^-11 or 2^-8, and terms of one sum differ in sign; d_NAME sums the errors of all rows.
BOUND = {"f32": 2e-5, "f16": 8 * 2.0**-11, "bf16": 8 * 2.0**-8}


class Variant:
    """score(s, p, b, h, q, k) and mask(p, b, h, q, k) as in the source; slope(...) = d score / d s; adjoints(ds, s, p, b, h, q, k) = d loss by each
    parameter, where ds [B, H, Q, K] is that by the score."""

    def __init__(self, source, params=None, score=lambda s, *_: s, mask=None, slope=lambda s, *_: np.ones_like(s), adjoints=lambda *_: {}, **shape):
        self.source, self.params, self.score, self.mask, self.slope, self.adjoints, self.shape = source, params, score, mask, slope, adjoints, shape

    def forward(self, a):
        return attention(a, mask=self.mask and (lambda *at: self.mask(a, *at)), score=lambda s, *at: self.score(s, a, *at))

    def loss(self, a):
        o, lse = self.forward(a)
        return (o * a["do"]).sum() + np.where(np.isinf(lse), 0, lse * a["dlse"]).sum()

    def gradients(self, a):
        q, k, v = (a[name].astype(np.float64) for name in "qkv")
        B, H, Q, D = q.shape
        group = H // k.shape[1]
        kk, vv = (np.broadcast_to(np.repeat(x, group, axis=1), (B, H) + x.shape[2:]) for x in (k, v))
        at = np.ix_(np.arange(B), np.arange(H), np.arange(Q), np.arange(k.shape[2]))
        s = np.einsum("bhqd,bhkd->bhqk", q, kk) / np.sqrt(D)
        o, lse = self.forward(a)
        kept = np.broadcast_to(np.array(True) if self.mask is None else self.mask(a, *at), s.shape) & ~np.isinf(lse)[..., None]
        p = np.where(kept, np.exp(np.where(kept, self.score(s, a, *at), 0) - np.where(np.isinf(lse), 0, lse)[..., None]), 0)
        delta = (o * a["do"]).sum(-1) - a["dlse"]
        ds = p * (np.einsum("bhqc,bhkc->bhqk", a["do"], vv) - delta[..., None])
        dx = ds * self.slope(s, a, *at) / np.sqrt(D)

        def to_heads(x, like):   # GQA, and one batch for all
            x = x.reshape(B, H // group, group, *x.shape[2:]).sum(2)
            return x.sum(0, keepdims=True) if like.shape[0] == 1 else x

        return {"dq": np.einsum("bhqk,bhkd->bhqd", dx, kk), "dk": to_heads(np.einsum("bhqk,bhqd->bhkd", dx, q), k),
                "dv": to_heads(np.einsum("bhqk,bhqc->bhkc", p, a["do"]), v), **{"d_" + n: x for n, x in self.adjoints(ds, s, a, *at).items()}}


def scattered(like, index, values):
    out = np.zeros(like.shape)
    index = np.broadcast_arrays(*index, values)[:-1] if isinstance(index, tuple) else (np.broadcast_to(index, values.shape),)
    inside = np.logical_and.reduce([(i >= 0) & (i < n) for i, n in zip(index, like.shape)])
    np.add.at(out, tuple(i[inside] for i in index), np.broadcast_to(values, index[0].shape)[inside])
    return out


def read(x, i):
    return np.where((i >= 0) & (i < len(x)), x[np.clip(i, 0, len(x) - 1)], 0)


CAP = 3.0
DOC = np.repeat(np.arange(3), [20, 7, 30]).astype(np.int32)
VARIANTS = {
    "relative bias, read twice": Variant(
        "attention a(rel: grad f32[R], gain: grad f32[H]) { score = score * gain[h] + rel[q - k + 20] + rel[k]; mask = q >= k or q % 5 == 0; }",
        lambda r, s: {"rel": r.standard_normal(45), "gain": 1 + 0.3 * r.standard_normal(s["H"])},
        score=lambda s, p, b, h, q, k: s * p["gain"][h] + read(p["rel"], q - k + 20) + read(p["rel"], k),
        mask=lambda p, b, h, q, k: (q >= k) | (q % 5 == 0),
        slope=lambda s, p, b, h, q, k: np.broadcast_to(p["gain"][h], s.shape),
        adjoints=lambda ds, s, p, b, h, q, k: {"rel": scattered(p["rel"], q - k + 20, ds) + scattered(p["rel"], k, ds), "gain": (ds * s).sum((0, 2, 3))}),
    "bias of every pair": Variant(
        "attention a(bias: grad f32[B, H, Q, K]) { score = score + bias[b, h, q, k]; }",
        lambda r, s: {"bias": r.standard_normal((s["B"], s["H"], s["Q"], s["K"]))}, score=lambda s, p, *at: s + p["bias"], adjoints=lambda ds, *_: {"bias": ds}),
    "alibi with slopes": Variant(
        "import std; attention a(slope: grad f32[H]) { score = alibi_slopes(slope); mask = sliding_window(9); }",
        lambda r, s: {"slope": r.standard_normal(s["H"])}, score=lambda s, p, b, h, q, k: s + p["slope"][h] * (k - q),
        mask=lambda p, b, h, q, k: (q >= k) & (q - k <= 9), adjoints=lambda ds, s, p, b, h, q, k: {"slope": (ds * (k - q)).sum((0, 2, 3))}),
    "softcap": Variant(
        f"import std; attention a() {{ score = softcap({CAP}); mask = causal(); }}", score=lambda s, *_: CAP * np.tanh(s / CAP),
        mask=lambda p, b, h, q, k: q >= k, slope=lambda s, *_: 1 - np.tanh(s / CAP) ** 2),
    "documents, each with its temperature": Variant(
        "attention a(doc: i32[Q], t: grad f32[3, H]) { score = score * exp(t[doc[k], h]); mask = doc[q] == doc[k] and q != 3; }",
        lambda r, s: {"doc": DOC, "t": 0.3 * r.standard_normal((3, s["H"]))},
        score=lambda s, p, b, h, q, k: s * np.exp(p["t"][DOC[k], h]), mask=lambda p, b, h, q, k: (DOC[q] == DOC[k]) & (q != 3),
        slope=lambda s, p, b, h, q, k: np.broadcast_to(np.exp(p["t"][DOC[k], h]), s.shape),
        adjoints=lambda ds, s, p, b, h, q, k: {"t": scattered(p["t"], (DOC[k], h), ds * s * np.exp(p["t"][DOC[k], h]))}, Q=57, K=57),
    "rows without keys": Variant(
        "attention a(x: grad f32[K]) { score = score + x[k]; mask = k < q - 20; }", lambda r, s: {"x": r.standard_normal(s["K"])},
        score=lambda s, p, b, h, q, k: s + p["x"][k], mask=lambda p, b, h, q, k: k < q - 20, adjoints=lambda ds, s, p, *_: {"x": ds.sum((0, 1, 2))}),
}


class Gradients(FlexcTest):
    devices = ("cpu", "interp", "emulated")

    def arrays(self, variant, seed, dtype="f32"):
        shape = {"B": 2, "H": 4, "HKV": 2, "Q": 33, "K": 47, "D": 16, "DV": 24, **variant.shape}
        rng = np.random.default_rng(seed)
        a = tensors(rng, **shape)
        a["k"] = a["k"][:1]   # one K for all batches, a V for each
        a["do"] = rng.standard_normal((shape["B"], shape["H"], shape["Q"], shape["DV"])).astype(np.float32)
        a = {name: ROUND[dtype](x) for name, x in a.items()}
        a["dlse"] = rng.standard_normal(a["q"].shape[:3]).astype(np.float32)
        for name, x in (variant.params(rng, shape) if variant.params else {}).items():
            a[name] = x.astype(np.float32) if x.dtype == np.float64 else x
        return a

    def run_on(self, source, arrays, *options):
        np.savez(self.path("in.npz"), **arrays)
        self.flexc("run", source, "--in", self.path("in.npz"), "--out", self.path("out.npz"), *options)
        return dict(np.load(self.path("out.npz")))

    def compare(self, got, want, unit):
        for name, x in want.items():
            self.assertEqual(got[name].shape, x.shape, name)
            np.testing.assert_allclose(got[name].astype(np.float64), x, rtol=0, atol=unit * (1 + abs(x).max()), err_msg=name)

    def test_the_formula_is_the_derivative(self):
        rng = np.random.default_rng(1)
        for label, variant in VARIANTS.items():
            a = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in self.arrays(variant, 2).items()}
            for name, gradient in variant.gradients(a).items():
                x = a[name[2:] if name.startswith("d_") else name[1:]]
                for _ in range(6):
                    i, old, h = tuple(rng.integers(n) for n in x.shape), None, 1e-5
                    old = x[i]
                    values = []
                    for x[i] in (old + h, old - h):
                        values.append(variant.loss(a))
                    x[i] = old
                    self.assertAlmostEqual((values[0] - values[1]) / (2 * h), gradient[i], delta=1e-6 * (1 + abs(gradient).max()), msg=f"{label} {name}{i}")

    def test_each_variant_type_and_device(self):
        for seed, (label, variant) in enumerate(VARIANTS.items()):
            source = self.source(variant.source)
            for dtype in ("f32", "bf16", "f16"):
                a = self.arrays(variant, seed, dtype)
                want = variant.gradients(a)
                for device in self.devices if dtype != "f16" else ("cpu", "interp"):
                    with self.subTest(label, dtype=dtype, device=device):
                        got = self.run_on(source, a, "--dtype", dtype, "--device", device)
                        self.assertEqual(set(got), {"o", "lse"} | set(want))
                        self.assertEqual({got[name].dtype for name in ("dq", "dk", "dv")}, {np.dtype(np.float16 if dtype == "f16" else np.float32)})
                        self.assertEqual({got[name].dtype for name in got if name.startswith("d_")}, {np.dtype(np.float32)} if len(want) > 3 else set())
                        self.compare(got, want, BOUND[dtype])
                        if "empty" in label or "without keys" in label:
                            self.assertEqual(abs(got["dq"][:, :, :21]).max(), 0)

    def test_one_thread_and_several_give_the_same_bits(self):
        variant = VARIANTS["relative bias, read twice"]
        a = self.arrays(variant, 5)
        first = self.run_on(self.source(variant.source), a, "--threads", "1")
        for threads in ("2", "7"):
            for name, x in self.run_on(self.source(variant.source), a, "--threads", threads).items():
                np.testing.assert_array_equal(x, first[name], err_msg=name)

    def test_losses_of_lse_and_max_score(self):
        variant = Variant("attention a() { mask = q >= k; }", mask=lambda p, b, h, q, k: q >= k)
        a = self.arrays(variant, 6)
        zero = {**a, "do": np.zeros_like(a["do"])}
        alone = {name: x for name, x in a.items() if name != "do"}
        for device in self.devices:
            got = self.run_on(self.source(variant.source), alone, "--device", device)   # do is 0
            self.compare(got, variant.gradients(zero), BOUND["f32"])
            self.assertEqual(abs(got["dv"]).max(), 0)
            without = self.run_on(self.source(variant.source), {name: x for name, x in a.items() if name != "dlse"}, "--device", device)
            self.compare(without, variant.gradients({**a, "dlse": np.zeros_like(a["dlse"])}), BOUND["f32"])

    def test_loss_of_max_score(self):
        """The score of the key that attains the maximum, alone."""
        a = self.arrays(Variant("attention a(x: grad f32[K]) { score = score + x[k]; mask = k < q; }"), 11)
        a = {name: x for name, x in a.items() if name not in ("do", "dlse")}
        rng = np.random.default_rng(12)
        a["x"], a["dmax_score"] = rng.standard_normal(47).astype(np.float32), rng.standard_normal((2, 4, 33)).astype(np.float32)
        q, k = a["q"].astype(np.float64), np.repeat(a["k"].astype(np.float64), 2, axis=1)
        s = np.where(np.arange(47) < np.arange(33)[:, None], np.einsum("bhqd,zhkd->bhqk", q, k) / 4 + a["x"], -np.inf)
        ds = (np.arange(47) == s.argmax(-1)[..., None]) * a["dmax_score"][..., None] * (np.arange(33) > 0)[:, None]
        want = {"dq": np.einsum("bhqk,zhkd->bhqd", ds, k) / 4, "dk": (np.einsum("bhqk,bhqd->bhkd", ds, q) / 4).reshape(2, 2, 2, 47, 16).sum((0, 2))[None],
                "dv": np.zeros_like(a["v"]), "d_x": ds.sum((0, 1, 2))}
        source = self.source("attention a(x: grad f32[K]) { score = score + x[k]; mask = k < q; }")
        for device in self.devices:
            self.compare(self.run_on(source, a, "--device", device), want, BOUND["f32"])

    def test_arrays_without_elements(self):
        source = self.source("attention a(x: grad f32[H]) { score = score + x[h]; }")
        for B, Q, K in ((1, 5, 0), (1, 0, 5), (0, 3, 5)):
            rng = np.random.default_rng(0)
            a = {"q": rng.standard_normal((B, 2, Q, 8)), "k": rng.standard_normal((B, 2, K, 8)), "v": rng.standard_normal((B, 2, K, 4)), "do": rng.standard_normal((B, 2, Q, 4)),
                 "x": np.ones(2, np.float32)}
            for device in self.devices:
                got = self.run_on(source, a, "--device", device)
                for name in ("q", "k", "v"):
                    self.assertEqual(got["d" + name].shape, a[name].shape)
                    self.assertFalse(got["d" + name].any())
                self.assertFalse(got["d_x"].any())

    def test_outputs_choose(self):
        variant = VARIANTS["relative bias, read twice"]
        source, a = self.source(variant.source), self.arrays(variant, 7)
        want = variant.gradients(a)
        for device in self.devices:
            for names in (["o"], ["dk"], ["d_gain", "lse"], ["d_rel", "dq", "max_score"]):
                got = self.run_on(source, a, "--outputs", ",".join(names), "--device", device)
                self.assertEqual(set(got), set(names))
                self.compare(got, {name: x for name, x in want.items() if name in names}, BOUND["f32"])
        # A clause without a gradient is no hindrance where none is wanted.
        gate = self.source("attention a(rel: f32[R], gain: f32[H]) { output = o * gain[h]; }", "gate.flex")
        self.assertEqual(set(self.run_on(gate, a, "--device", "interp", "--outputs", "o")), {"o"})
        self.assertEqual(self.fails("run", gate, "--in", self.path("in.npz"), "--device", "interp")["code"], "E4021")
        self.assertEqual(self.fails("run", source, "--in", self.path("in.npz"), "--outputs", "d_rle")["code"], "E0028")

    def test_bf16_files_keep_their_type(self):
        variant = VARIANTS["softcap"]
        a = self.arrays(variant, 8, "bf16")
        save_safetensors(self.path("in.safetensors"), a, bf16=("q", "k", "v", "do"))
        self.flexc("run", self.source(variant.source), "--in", self.path("in.safetensors"), "--out", self.path("out.safetensors"))
        got, types = load_safetensors(self.path("out.safetensors"))
        self.assertEqual(types, {"o": "BF16", "lse": "F32", "dq": "BF16", "dk": "BF16", "dv": "BF16"})
        self.compare(got, variant.gradients(a), BOUND["bf16"])

    def test_overflow_in_f16_and_loss_scaling(self):
        """The gradients of a large loss do not fit into f16; scaled by 2^-10, or in bf16, they do."""
        variant = Variant("attention a() {}", K=7)
        a = self.arrays(variant, 9, "f16")
        a = {**a, "do": abs(a["do"]) * np.float32(2**13), "dlse": np.zeros_like(a["dlse"])}
        want = variant.gradients(a)
        self.assertGreater(abs(want["dv"]).max(), 65504)
        for device in self.devices:
            np.savez(self.path("in.npz"), **a)
            command = ["run", self.source(variant.source), "--in", self.path("in.npz"), "--out", self.path("out.npz"), "--device", device]
            report = self.flexc_json(*command, "--dtype", "f16")
            self.assertEqual([each["code"] for each in report["diagnostics"]], ["W0103"])
            self.assertIn("--dtype bf16", str(report["diagnostics"][0]["help"]))
            self.assertFalse(np.isfinite(np.load(self.path("out.npz"))["dv"]).all())
            scaled = self.run_on(self.source(variant.source), {**a, "do": a["do"] * 2.0**-10}, "--dtype", "f16", "--device", device)
            self.compare({name: x.astype(np.float64) * 2**10 for name, x in scaled.items()}, want, BOUND["f16"])
            rounded = {**a, **{name: to_bf16(a[name]) for name in ("q", "k", "v", "do")}}
            self.compare(self.run_on(self.source(variant.source), a, "--dtype", "bf16", "--device", device), variant.gradients(rounded), BOUND["bf16"])

    def test_on_gpus_dx_has_the_type_of_q(self):
        """dX beyond f16 spoils dq there, even where small keys make dq small: the CPU has dX in f32. Scaling the loss mends it."""
        variant = Variant("attention a() {}", Q=32, K=2, D=32, DV=32)
        a = self.arrays(variant, 13, "f16")
        a = {**a, "do": a["do"] * 2**13, "k": ROUND["f16"](a["k"] * 1e-3), "v": ROUND["f16"](a["v"] * 10), "dlse": np.zeros_like(a["dlse"])}
        want = {"dq": variant.gradients(a)["dq"]}
        source = self.source(variant.source)
        self.compare(self.run_on(source, a, "--dtype", "f16", "--outputs", "dq"), want, BOUND["f16"])
        np.savez(self.path("in.npz"), **a)
        report = self.flexc_json("run", source, "--in", self.path("in.npz"), "--dtype", "f16", "--device", "emulated", "--outputs", "dq")
        self.assertEqual([each["code"] for each in report["diagnostics"]], ["W0103"])
        scaled = self.run_on(source, {**a, "do": a["do"] * 2.0**-10}, "--dtype", "f16", "--device", "emulated", "--outputs", "dq")
        self.compare({"dq": scaled["dq"].astype(np.float64) * 2**10}, want, BOUND["f16"])

    def test_what_no_row_attends_to_may_be_anything(self):
        variant = VARIANTS["rows without keys"]
        a = self.arrays(variant, 10)
        want = variant.gradients(a)
        for name in ("q", "do", "dlse"):
            a[name] = a[name].copy()
            a[name][:, :, :21] = np.nan
        for device in self.devices:
            np.savez(self.path("in.npz"), **a)
            report = self.flexc_json("run", self.source(variant.source), "--in", self.path("in.npz"), "--out", self.path("out.npz"), "--device", device)
            self.assertEqual(report["diagnostics"], [])
            self.compare(dict(np.load(self.path("out.npz"))), want, BOUND["f32"])
        a["dlse"][1, 2, 30] = np.inf
        np.savez(self.path("in.npz"), **a)
        report = self.flexc_json("run", self.source(variant.source), "--in", self.path("in.npz"))
        self.assertEqual(report["diagnostics"][0]["message"], "`dlse[1, 2, 30]` is inf")

    def test_the_programs_of_the_page_on_training(self):
        text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
        (self.folder / "learned.flex").write_text(re.search(r"^```flex\n(.*?)^```", text, re.DOTALL | re.MULTILINE).group(1))
        (self.folder / "plain.flex").write_text("attention plain() {}\n")
        programs = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        self.assertEqual(len(programs), 2)
        environment = {**self.environment, "PATH": os.path.dirname(FLEXC) + os.pathsep + os.environ["PATH"]}
        for program in programs:
            result = subprocess.run([sys.executable, "-c", program], cwd=self.folder, env=environment, capture_output=True, text=True)
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_build_has_every_stage_with_derivatives(self):
        source = self.source("attention a(slope: grad f32[H]) { score = tanh(score) + slope[h] * f32(k - q); mask = q >= k; }")
        self.assertNotIn("d_score", self.flexc("build", source, "--emit=ir").stdout)
        text = self.flexc("build", source, "--emit=ir", "--grad").stdout
        self.assertIn("d_score", text)
        self.assertEqual(text.count("d_read"), 1)
        passes = self.flexc("build", source, "--emit=ir", "--grad", "--print-after-all").stdout
        self.assertLess(passes.index("# after lower"), passes.index("# after differentiate"))
        self.assertIn("d_score", self.flexc("build", source, "--emit=ir", "--grad", "--print-after", "differentiate").stdout)
        self.assertEqual(self.fails("build", source, "--emit=ir", "--print-after", "differentiate")["code"], "E0033")
        for emit in ("llvm", "asm", "obj"):
            sizes = [len(self.flexc("build", source, f"--emit={emit}", *grad, "-o", self.path("x")) and (self.folder / "x").read_bytes()) for grad in ([], ["--grad"])]
            self.assertGreater(sizes[1], sizes[0] * 1.2, emit)
        ptx = self.flexc("build", source, "--emit=ptx", "--grad", "--head-dim", "64").stdout
        self.assertIn(".target sm_80", ptx)
        self.assertNotIn("a_forward(", ptx)
        report = self.flexc_json("build", source, "--emit=ptx", "--grad", "-o", self.path("x.ptx"))
        self.assertTrue(all(f".entry {each['symbol']}(" in (self.folder / "x.ptx").read_text() for each in report["kernels"]))
        self.assertGreaterEqual(len(report["kernels"]), 3)
        self.assertFalse(report["atomic"])
        self.assertTrue(self.flexc_json("build", source, "--emit=ptx", "--grad", "--atomic", "-o", self.path("x.ptx"))["atomic"])
        self.assertIn("define", self.flexc("build", source, "--emit=llvm", "--target", "sm_80", "--grad").stdout)
        self.flexc("build", source, "--emit=ast", "--grad", code=2)
        self.flexc("build", source, "--emit=ptx", "--atomic", code=2)
        gate = self.source("attention s(x: grad f32[H]) { output = o * x[h]; }", "s.flex")
        self.assertEqual(self.fails("build", gate, "--emit=ir", "--grad")["code"], "E4021")

    def test_explain(self):
        source = self.source("attention a(slope: grad f32[H], t: grad f32[R], u: grad f32[B, H, Q, K], w: grad f32[H], z: f32[H]) {\n"
                             "  scale = w[h]; score = tanh(score) + slope[h] * f32(k - q) + t[q - k + 9] + u[b, h, q, k] + z[h]; mask = q >= k; }")
        facts = self.flexc_json("explain", source, "--shape", "B=2,H=4,Q=64,R=20")["gradients"]
        reads = {each["text"]: each for each in facts["reads"]}
        self.assertEqual(set(reads), {"slope[h]", "t[q - k + 9]", "u[b, h, q, k]", "w[h]"})
        self.assertEqual(reads["slope[h]"]["adjoint"], "f32(k - q)")
        self.assertIn("of a row", reads["slope[h]"]["cpu"])
        self.assertIn("tile", reads["slope[h]"]["gpu"])
        self.assertIn("neighbouring", reads["u[b, h, q, k]"]["cpu"])
        self.assertEqual(reads["w[h]"]["clause"], "scale")
        self.assertEqual({each["name"]: each["cpu_sums"] > 1 for each in facts["params"]}, {"slope": True, "t": True, "u": False, "w": True})
        # The workspace is the one of a launch.
        ran = self.flexc_json("run", source, "--shape", "B=2,H=4,Q=64,R=20", "--outputs", "dq,d_slope,d_t,d_u,d_w")
        self.assertEqual(facts["cpu_workspace_bytes"], ran["backward_workspace_bytes"])
        shape = ["--shape", "B=2,H=4,Q=64,R=20", "--dtype", "f16"]
        planned = self.flexc_json("explain", source, *shape)["gradients"]["gpu_workspace_bytes"]
        ran = self.flexc_json("run", source, *shape, "--outputs", "dq,d_slope,d_t,d_u,d_w", "--device", "emulated")
        self.assertEqual(planned, ran["backward"]["workspace_bytes"])
        without = self.flexc_json("explain", source, "--shape", "B=2,H=4,Q=64")["gradients"]   # R is not known
        self.assertNotIn("cpu_workspace_bytes", without)
        text = self.flexc("explain", source, "--shape", "B=2,H=4,Q=64,R=20").stdout
        self.assertIn(f"{facts['cpu_workspace_bytes']} bytes", text)
        gpu = self.flexc_json("explain", source, "--shape", "Q=64,R=20,D=64,DV=32", "--dtype", "f16")["gpu"]
        self.assertEqual((gpu["dtype"], gpu["head_dim"], gpu["v_head_dim"]), ("f16", 64, 32))
        for emit in (["forward"], ["backward", "--grad"]):   # as build says
            built = self.flexc_json("build", source, "--emit=ptx", "--dtype", "f16", "--head-dim", "64", "--v-head-dim", "32", *emit[1:], "-o", self.path("x.ptx"))
            self.assertEqual((gpu[emit[0]]["instance"], gpu[emit[0]]["tile"]), (built["instance"], built["tile"]))
        gate = self.source("attention s(x: grad f32[H]) { output = o * x[h]; }", "s.flex")
        self.assertEqual(self.flexc_json("explain", gate)["gradients"], {"lacking": ["output"]})
        sink = self.flexc_json("explain", self.source("attention s(x: grad f32[H]) { sink = 2.0 * x[h]; }", "s.flex"), "--shape", "Q=8,H=2")["gradients"]
        self.assertEqual([(read["clause"], read["text"], read["adjoint"]) for read in sink["reads"]], [("sink", "x[h]", "2.0")])
        self.assertIn("cpu_workspace_bytes", sink)
        self.assertNotIn("gpu_workspace_bytes", sink)

    def test_reports(self):
        source = self.source("attention a(slope: grad f32[H]) { score = score + slope[h] * f32(k); mask = q >= k; }")
        shape = ["--shape", "H=2,Q=64,D=16,DV=8"]
        report = self.flexc_json("run", source, *shape, "--outputs", "o,dq,d_slope")
        self.assertEqual(list(report["phases"])[-2:], ["run", "backward"])
        self.assertGreater(report["backward_ms"], 0)
        self.assertGreater(report["backward_workspace_bytes"], 0)
        self.assertEqual(report["outputs"]["d_slope"], {"type": "f32", "shape": [2]})
        self.assertNotIn("backward_ms", self.flexc_json("run", source, *shape))
        bench = self.flexc_json("bench", source, *shape, "--backward", "--repeat", "5")
        self.assertEqual(bench["pass"], "backward")
        self.assertEqual(bench["unmasked"], 2 * 64 * 65 // 2)
        self.assertAlmostEqual(bench["gflops"] * bench["median_ms"] * 1e6, bench["unmasked"] * 2 * (16 + 8) * 2.5, delta=1)
        self.assertLessEqual({"median_ms", "gflops", "fma_peak_gflops", "compile_ms", "unmasked"}, set(bench))
        gate = self.source("attention s(x: f32[H]) { output = o * x[h]; }", "s.flex")
        self.assertEqual(self.fails("bench", gate, *shape, "--backward")["code"], "E4021")
        self.assertEqual(self.flexc_json("run", source, *shape, "--atomic")["diagnostics"][0]["code"], "W0102")


if __name__ == "__main__":
    unittest.main()
