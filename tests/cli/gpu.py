"""flexc run and bench on the emulated GPU: values against NumPy in float64, and what is reported."""

import json
import os
import shutil
import subprocess
import unittest

import numpy as np
from harness import FLEXC, GALLERY, TOLERANCE, FlexcTest, attention, tensors, to_bf16

SLOPES = "attention slopes(slope: f32[H], window: i32 = 1000) { score = score + slope[h] * f32(k - q); mask = abs(q - k) <= window; }\n"
ROUND = {"f32": lambda x: x, "f16": lambda x: x.astype(np.float16).astype(np.float32), "bf16": to_bf16}


class Gpu(FlexcTest):
    def run_on(self, source, arrays, *options):
        np.savez(self.path("in.npz"), **arrays)
        self.flexc("run", source, "--in", self.path("in.npz"), "--out", self.path("out.npz"), "--device", "emulated", *options)
        return dict(np.load(self.path("out.npz")))

    def compare(self, got, want, tolerance):
        o, lse = want
        np.testing.assert_allclose(got["o"].astype(np.float64), o, rtol=0, atol=tolerance)
        np.testing.assert_allclose(got["lse"], lse, rtol=1e-5, atol=1e-4)

    def test_each_type(self):
        rng = np.random.default_rng(1)
        source = self.source(SLOPES)
        arrays = tensors(rng, B=2, H=4, HKV=2, Q=70, K=131, D=32, DV=24, kv_batch=1)
        slope = rng.random(4).astype(np.float32)
        for dtype in ("f32", "f16", "bf16"):
            with self.subTest(dtype=dtype):
                rounded = {name: ROUND[dtype](x) for name, x in arrays.items()}
                want = attention(rounded, mask=lambda b, h, q, k: abs(q - k) <= 50, score=lambda s, b, h, q, k: s + slope.astype(np.float64)[h] * (k - q))
                got = self.run_on(source, {**arrays, "slope": slope}, "--set", "window=50", "--dtype", dtype)
                self.assertEqual(got["o"].dtype, np.float16 if dtype == "f16" else np.float32)
                self.compare(got, want, TOLERANCE[dtype])

    def test_f32_is_accurate_unless_tf32_is_allowed(self):
        arrays = tensors(np.random.default_rng(2), H=1, Q=64, K=128, D=64)
        source = self.source("attention plain() {}\n")
        want = attention(arrays)[0]
        accurate = abs(self.run_on(source, arrays)["o"] - want).max()
        coarse = abs(self.run_on(source, arrays, "--allow-tf32")["o"] - want).max()
        self.assertLess(accurate, 2e-6)
        self.assertGreater(coarse, 2e-5)
        self.assertLess(coarse, 5e-3)

    def test_odd_sizes_and_empty_rows(self):
        source = self.source("attention late() { mask = k > q + 2; }\n")
        for Q, K in ((1, 1), (1, 7), (5, 1), (3, 0), (0, 4), (17, 300)):
            with self.subTest(Q=Q, K=K):
                arrays = tensors(np.random.default_rng(4), Q=Q, K=K, D=3, DV=5)
                self.compare(self.run_on(source, arrays), attention(arrays, mask=lambda b, h, q, k: k > q + 2), TOLERANCE["f32"])

    def test_only_the_image_that_is_launched_is_compiled(self):
        cache = self.folder / "cache"
        for shape, rows in (("Q=64,H=2", 64), ("Q=1,H=8,HKV=1", 16), ("Q=4,H=8,HKV=1", 64), ("Q=16,H=3", 16)):
            with self.subTest(shape):
                shutil.rmtree(cache, ignore_errors=True)
                report = self.flexc_json("run", self.source("attention a() {}\n"), "--shape", shape + ",K=70,D=64", "--device", "emulated", "--dtype", "bf16")
                self.assertEqual(sum(path.is_file() for path in cache.rglob("*")), 1)
                self.assertLessEqual(min(rows, 64), report["image"]["tile"][0])
                self.assertEqual(report["image"]["tile"][0] == 16, rows == 16)

    def test_decoding_splits_the_keys_and_packs_the_heads(self):
        arrays = tensors(np.random.default_rng(5), H=8, HKV=2, Q=1, K=1000, D=64)
        np.savez(self.path("in.npz"), **arrays)
        report = self.flexc_json("run", GALLERY / "alibi.flex", "--in", self.path("in.npz"), "--out", self.path("out.npz"), "--device", "emulated",
                                 "--dtype", "bf16")
        self.assertEqual(report["pack"], 4)
        self.assertGreater(report["splits"], 1)
        self.assertGreater(report["workspace_bytes"], 0)
        self.assertEqual(report["image"]["target"], "sm_80")
        self.assertGreater(report["warp_instructions"], 0)
        self.assertIn("run", report["phases"])
        heads = np.exp2(-(np.arange(8) + 1.0))
        rounded = {name: to_bf16(x) for name, x in arrays.items()}
        self.compare(dict(np.load(self.path("out.npz"))), attention(rounded, score=lambda s, b, h, q, k: s + (k - q) * heads[h]), TOLERANCE["bf16"])

    def test_the_device_chooses_the_kernel(self):
        source = self.source("attention a() {}\n")
        for device, dtype, shape, instance, mapped in (("sm_90", "bf16", "H=2,Q=70,K=90,D=64", "sm90a_bf16_64", True), ("sm_90", "f16", "Q=70,D=30", "sm80_f16_32", False),
                                                       ("sm_90", "bf16", "Q=9,D=64", "sm80_bf16_64_16", False), ("sm_90", "f32", "Q=70,D=64", "sm80_f32_64", False),
                                                       ("sm_80", "bf16", "Q=70,D=64", "sm80_bf16_64_128", False), ("sm_100", "bf16", "Q=70,D=64", "sm80_bf16_64_128", False)):
            result = subprocess.run([FLEXC, "run", source, "--shape", shape, "--device", "emulated", "--dtype", dtype, "--json"], capture_output=True, text=True,
                                    env={**self.environment, "FLEXEMU_DEVICE": device})
            self.assertEqual(result.returncode, 0, result.stderr)
            image = json.loads(result.stdout)["image"]
            self.assertTrue(image["instance"].startswith(instance), image)
            self.assertEqual(image["mapped"], mapped)

    def test_one_kernel_by_its_name(self):
        source = self.source("attention a() {}\n")
        for name in ("sm80_bf16_64_128x64", "sm80_bf16_64_16x128", "sm80_bf16_128_128x64"):
            report = self.flexc_json("bench", source, "--shape", "Q=20,D=64", "--device", "emulated", "--dtype", "bf16", "--instance", name)
            self.assertEqual(report["image"]["instance"], name)
        error = self.fails("run", source, "--shape", "Q=20,D=64", "--device", "emulated", "--dtype", "bf16", "--instance", "sm80_bf16_64_128x46")
        self.assertEqual(error["code"], "E4028")
        self.assertIn("did you mean `sm80_bf16_64_128x64`?", error["help"])

    def test_outputs(self):
        arrays = tensors(np.random.default_rng(7), Q=8, K=8)
        got = self.run_on(self.source("attention causal() { mask = q >= k; }\n"), arrays, "--outputs", "o,max_score")
        self.assertEqual(sorted(got), ["max_score", "o"])
        scores = np.einsum("bhqd,bhkd->bhqk", arrays["q"].astype(np.float64), arrays["k"]) / 4
        want = np.where(np.tril(np.ones((8, 8), bool)), scores, -np.inf).max(-1)
        np.testing.assert_allclose(got["max_score"], want, atol=1e-5)

    def test_bench_counts_instructions_and_claims_no_speed(self):
        report = self.flexc_json("bench", GALLERY / "causal.flex", "--shape", "H=2,Q=64,D=16", "--dtype", "bf16", "--device", "emulated")
        self.assertEqual(report["unmasked"], 2 * 64 * 65 // 2)
        self.assertGreater(report["warp_instructions"], 100)
        self.assertNotIn("gflops", report)
        self.assertNotIn("median_ms", report)

    def test_any_program_finds_the_driver_by_the_environment(self):
        library = os.path.join(os.path.dirname(os.path.dirname(FLEXC)), "lib", "libflexemu_cuda.so")
        result = subprocess.run([FLEXC, "run", GALLERY / "causal.flex", "--shape", "Q=8,D=8", "--dtype", "bf16", "--device", "cuda"], capture_output=True,
                                text=True, env={**self.environment, "FLEX_CUDA_DRIVER": library, "FLEXEMU_DEVICE": "sm_86"})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("on cuda (flexc emulated GPU", result.stdout)


if __name__ == "__main__":
    unittest.main()
