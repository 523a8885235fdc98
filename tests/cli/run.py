"""flexc run: values against NumPy in float64, for each element type, device, level and file format."""

import os
import signal
import subprocess
import time
import unittest

import numpy as np
from harness import FLEXC, GALLERY, TOLERANCE, FlexcTest, attention, load_safetensors, save_safetensors, tensors, to_bf16

CAUSAL = "attention causal() { mask = q >= k; }\n"
SLOPES = "attention slopes(slope: f32[H], window: i32 = 1000) { score = score + slope[h] * f32(k - q); mask = abs(q - k) <= window; }\n"
ROUND = {"f32": lambda x: x, "f16": lambda x: x.astype(np.float16).astype(np.float32), "bf16": to_bf16}


class Run(FlexcTest):
    def run_on(self, source, arrays, *options, **save):
        np.savez(self.path("in.npz"), **arrays)
        self.flexc("run", source, "--in", self.path("in.npz"), "--out", self.path("out.npz"), *options)
        return dict(np.load(self.path("out.npz")))

    def compare(self, got, want, tolerance):
        o, lse = want
        np.testing.assert_allclose(got["o"].astype(np.float64), o, rtol=0, atol=tolerance)
        np.testing.assert_allclose(got["lse"], lse, rtol=1e-5, atol=1e-4)

    def test_each_type_and_device(self):
        rng = np.random.default_rng(1)
        source = self.source(SLOPES)
        arrays = tensors(rng, B=2, H=4, HKV=2, Q=70, K=131, D=32, DV=24, kv_batch=1)
        slope = rng.random(4).astype(np.float32)
        for dtype in ("f32", "f16", "bf16"):
            rounded = {name: ROUND[dtype](x) for name, x in arrays.items()}
            want = attention(rounded, mask=lambda b, h, q, k: abs(q - k) <= 50, score=lambda s, b, h, q, k: s + slope.astype(np.float64)[h] * (k - q))
            for device in ("cpu", "interp"):
                with self.subTest(dtype=dtype, device=device):
                    got = self.run_on(source, {**arrays, "slope": slope, "window": np.int32(50)}, "--dtype", dtype, "--device", device)
                    self.assertEqual(got["o"].dtype, np.float16 if dtype == "f16" else np.float32)
                    self.assertEqual(got["lse"].dtype, np.float32)
                    self.compare(got, want, TOLERANCE[dtype])

    def test_each_level(self):
        arrays = tensors(np.random.default_rng(2), H=2, Q=65, K=65, D=48)
        want = attention(arrays, mask=lambda b, h, q, k: q >= k)
        ran = []
        for level in ("generic", "avx2", "avx512", "avx512-bf16"):
            np.savez(self.path("in.npz"), **arrays)
            command = ["run", self.source(CAUSAL), "--in", self.path("in.npz"), "--out", self.path("out.npz"), "--level", level]
            result = subprocess.run([FLEXC, *command], capture_output=True, text=True, env=self.environment)
            if result.returncode == 3:
                self.assertIn("this machine cannot execute the level", result.stderr)
                continue
            self.assertEqual(result.returncode, 0, result.stderr)
            ran.append(level)
            self.compare(dict(np.load(self.path("out.npz"))), want, TOLERANCE["f32"])
        self.assertIn("generic", ran)

    def test_type_follows_the_arrays_and_f64_is_rounded(self):
        arrays = tensors(np.random.default_rng(3), Q=9, K=9)
        source = self.source(CAUSAL)
        half = {name: x.astype(np.float16) for name, x in arrays.items()}
        self.assertEqual(self.run_on(source, half)["o"].dtype, np.float16)
        double = {name: x.astype(np.float64) for name, x in arrays.items()}
        got = self.run_on(source, double)
        self.assertEqual(got["o"].dtype, np.float32)
        self.compare(got, attention(arrays, mask=lambda b, h, q, k: q >= k), TOLERANCE["f32"])
        self.assertEqual(self.run_on(source, {**double, "q": half["q"]})["o"].dtype, np.float16)

    def test_odd_sizes_and_empty_rows(self):
        source = self.source("attention late() { mask = k > q + 2; }\n")
        for Q, K in ((1, 1), (1, 7), (5, 1), (3, 0), (0, 4), (17, 300)):
            with self.subTest(Q=Q, K=K):
                arrays = tensors(np.random.default_rng(4), Q=Q, K=K, D=3, DV=5)
                for device in ("cpu", "interp"):
                    got = self.run_on(source, arrays, "--device", device)
                    self.compare(got, attention(arrays, mask=lambda b, h, q, k: k > q + 2), TOLERANCE["f32"])

    def test_gallery_against_numpy(self):
        rng = np.random.default_rng(5)
        arrays = tensors(rng, B=2, H=4, Q=60, K=60)
        heads = np.exp2(-8 * (np.arange(4) + 1) / 4)
        length = np.array([60, 23], np.int32)
        cases = {
            "causal": ({}, lambda b, h, q, k: q >= k, None),
            "alibi": ({}, None, lambda s, b, h, q, k: s + (k - q) * heads[h]),
            "softcap": ({}, None, None),
            "padding": ({"len": length}, lambda b, h, q, k: k < length[b], None),
        }
        for name, (extra, mask, score) in cases.items():
            path = GALLERY / f"{name}.flex"
            with self.subTest(name=name):
                got = self.run_on(path, {**arrays, **extra})
                if name == "softcap":   # whatever the cap is: both devices agree
                    other = self.run_on(path, {**arrays, **extra}, "--device", "interp")
                    np.testing.assert_allclose(got["o"], other["o"], rtol=0, atol=TOLERANCE["f32"])
                else:
                    self.compare(got, attention(arrays, mask, score), TOLERANCE["f32"])

    def test_safetensors_both_ways(self):
        arrays = tensors(np.random.default_rng(6), Q=20, K=20)
        rounded = {name: to_bf16(x) for name, x in arrays.items()}
        save_safetensors(self.path("in.safetensors"), arrays, bf16=("q", "k", "v"))
        self.flexc("run", self.source(CAUSAL), "--in", self.path("in.safetensors"), "--out", self.path("out.safetensors"))
        got, types = load_safetensors(self.path("out.safetensors"))
        self.assertEqual(types, {"o": "BF16", "lse": "F32"})
        self.compare(got, attention(rounded, mask=lambda b, h, q, k: q >= k), TOLERANCE["bf16"])
        save_safetensors(self.path("in.safetensors"), arrays)
        self.flexc("run", self.source(CAUSAL), "--in", self.path("in.safetensors"), "--out", self.path("out.npz"))
        self.compare(dict(np.load(self.path("out.npz"))), attention(arrays, mask=lambda b, h, q, k: q >= k), TOLERANCE["f32"])

    def test_outputs(self):
        arrays = tensors(np.random.default_rng(7), Q=8, K=8)
        source = self.source(CAUSAL)
        got = self.run_on(source, arrays, "--outputs", "o,max_score")
        self.assertEqual(sorted(got), ["max_score", "o"])
        scores = np.einsum("bhqd,bhkd->bhqk", arrays["q"].astype(np.float64), arrays["k"]) / 4
        want = np.where(np.tril(np.ones((8, 8), bool)), scores, -np.inf).max(-1)
        np.testing.assert_allclose(got["max_score"], want, atol=1e-5)
        self.assertEqual(self.fails("run", source, "--in", self.path("in.npz"), "--outputs", "lsee")["code"], "E0028")

    def test_clauses_on_each_device(self):
        sink = "attention a(s: f32[H]) { sink = s[h]; output = o * f32(d + 1); }\n"
        arrays = {**tensors(np.random.default_rng(8), Q=6, K=6), "s": np.array([0.5, -1], np.float32)}
        s = np.einsum("bhqd,bhkd->bhqk", arrays["q"].astype(np.float64), arrays["k"]) / 4
        weights = np.exp(s)
        total = weights.sum(-1, keepdims=True) + np.exp(arrays["s"].astype(np.float64))[None, :, None, None]
        o = np.einsum("bhqk,bhkd->bhqd", weights / total, arrays["v"]) * np.arange(1, arrays["v"].shape[-1] + 1)
        for device in ("interp", "cpu"):
            got = self.run_on(self.source(sink), arrays, "--device", device)
            np.testing.assert_allclose(got["o"], o, atol=1e-4)
            np.testing.assert_allclose(got["lse"], np.log(total[..., 0]), atol=1e-5)
        error = self.fails("run", self.source(sink), "--in", self.path("in.npz"), "--device", "emulated")
        self.assertEqual(error["code"], "E4001")
        self.assertIn("`sink`, `output` of `a` is not available on the target `sm_80`", error["message"])
        self.assertIn("`cpu` have", " ".join(error["help"]))

        source = self.source("attention a(s: f32[H]) { sink = s[h]; emit far = mean(f32(q - k)); }\n")
        error = self.fails("run", source, "--in", self.path("in.npz"))
        self.assertEqual(error["code"], "E4001")
        self.assertIn("the clause `emit far` of `a` is not available on the target `cpu`", error["message"])
        self.assertIn("--device interp", " ".join(error["help"]))
        self.assertEqual(self.run_on(source, arrays, "--device", "interp")["far"].shape, (1, 2, 6))

    def test_random_input_depends_on_the_seed_alone(self):
        source = self.source(SLOPES)
        command = ["run", source, "--shape", "H=3,Q=19,K=23,D=8,DV=4"]
        for name, options in {"a": [], "b": ["--threads", "1"], "c": ["--seed", "1"]}.items():
            self.flexc(*command, *options, "--out", self.path(f"{name}.npz"))
        a, b, c = (np.load(self.path(f"{name}.npz"))["o"] for name in "abc")
        self.assertEqual(a.shape, (1, 3, 19, 4))
        np.testing.assert_array_equal(a, b)
        self.assertGreater(abs(a - c).max(), 1e-3)

    def test_json(self):
        report = self.flexc_json("run", self.source(CAUSAL), "--shape", "H=2,Q=64,D=16", "--repeat", "3")
        self.assertEqual(report["shape"], {"B": 1, "H": 2, "HKV": 2, "Q": 64, "K": 64, "D": 16, "DV": 16})
        self.assertEqual(list(report["phases"]), ["parse", "check", "lower", "optimise", "codegen", "load", "run"])
        self.assertEqual(report["unmasked"], 2 * 64 * 65 // 2)
        self.assertEqual((report["device"], report["dtype"], report["repeat"], report["diagnostics"]), ("cpu", "f32", 3, []))
        self.assertFalse(report["cached"])
        again = self.flexc_json("run", self.source(CAUSAL), "--shape", "H=2,Q=64,D=16")
        self.assertTrue(again["cached"])
        self.assertFalse(self.flexc_json("run", self.source(CAUSAL), "--shape", "H=2,Q=64,D=16", "--no-cache")["cached"])

    def test_interrupt_leaves_no_file(self):
        source = self.source(CAUSAL)
        process = subprocess.Popen([FLEXC, "run", source, "--shape", "B=8,H=16,Q=8192,D=64", "--threads", "1", "--out", self.path("big.npz")],
                                   env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.5)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=20), 130)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("big")], [])


if __name__ == "__main__":
    unittest.main()
