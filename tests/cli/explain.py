"""flexc explain: the counts, bounds and tables it names against NumPy and against the other commands."""

import json
import os
import pathlib
import unittest

import numpy as np
from harness import FlexcTest


class Explain(FlexcTest):
    def test_bounds_hold_every_key_that_is_kept(self):
        source = self.source("attention a(window: i32, n: i32) { mask = q - k <= window and (q >= k or q // n == k // n); }\n")
        q, k = np.ogrid[:200, :200]
        for window, n in ((3, 16), (50, 7), (0, 1)):
            report = self.flexc_json("explain", source, "--set", f"window={window}", "--set", f"n={n}", "--shape", "Q=200", "--tiles", "32x32")
            visits = report["mask"]["visits"]
            self.assertEqual((visits["least_of"], visits["greatest_of"]), ([], []))
            mask = (q - k <= window) & ((q >= k) | (q // n == k // n))
            for q0 in range(0, 200, 32):
                q1 = min(q0 + 32, 200) - 1
                names = {"q0": q0, "q1": q1, "window": window, "n": n, "K": 200, "max": max, "min": min}
                kept = np.flatnonzero(mask[q0:q1 + 1].any(0))
                self.assertLessEqual(eval(visits["from"], names), kept[0])
                self.assertGreaterEqual(eval(visits["to"], names), kept[-1])
            visited_by = report["mask"]["visited_by"]
            for k0 in range(0, 200, 32):
                k1 = min(k0 + 32, 200) - 1
                names = {"k0": k0, "k1": k1, "window": window, "n": n, "Q": 200, "max": max, "min": min}
                kept = np.flatnonzero(mask[:, k0:k1 + 1].any(1))
                self.assertLessEqual(eval(visited_by["from"], names), kept[0])
                self.assertGreaterEqual(eval(visited_by["to"], names), kept[-1])
            self.assertEqual(report["mask"]["tables"], [])

    def test_counts_are_those_of_show(self):
        source = self.source("attention a(doc: i32[N]) { mask = doc[q] == doc[k] and q >= k; }\n")
        np.savez(self.path("in.npz"), doc=np.sort(np.random.default_rng(0).integers(0, 9, 500)).astype(np.int32), B=1, H=2, HKV=1, Q=500, K=500, D=8)
        mask = self.flexc_json("explain", source, "--in", self.path("in.npz"))["mask"]
        for key, flags in (("tiles", ("--analysis",)), ("exact", ("--exact",))):
            shown = json.loads(self.flexc("show", source, "--in", self.path("in.npz"), "--tiles", "128x128", "--json", *flags).stdout)
            self.assertEqual(mask[key], {name: shown[name] for name in ("full", "partial", "skip")})
        self.assertEqual(len(mask["tables"]), 2)
        self.assertGreater(mask["table_bytes"], 0)

    def test_loads_that_are_proven_have_no_guard(self):
        source = self.source("attention a(s: f32[H], t: f32[N]) { score = score + s[h] + t[k] + t[q - k]; }\n")
        loads = {load["text"]: load for load in self.flexc_json("explain", source)["loads"]}
        self.assertEqual(loads["s[h]"]["guards"], [])
        self.assertEqual(loads["t[k]"], {"clause": "score", "text": "t[k]", "access": "contiguous along k", "guards": ["k against N"]})
        self.assertEqual(loads["t[q - k]"]["access"], "contiguous along k, backwards")

    def test_run_and_bench_report_the_tables(self):
        documents = self.source("attention a(doc: i32[N]) { mask = doc[q] == doc[k]; }\n")
        values = ",".join(str(i // 20) for i in range(64))
        for command in ("run", "bench"):
            report = self.flexc_json(command, documents, "--shape", "Q=64,K=64,D=8", "--set", f"doc={values}")
            self.assertGreaterEqual(report["mask_bytes"], 2 * 64 * 4)
            self.assertGreater(report["mask_ms"], 0)
            causal = self.source("attention a() { mask = q >= k; }\n", "causal.flex")
            self.assertEqual(self.flexc_json(command, causal, "--shape", "Q=64,K=64,D=8")["mask_bytes"], 0)

    def test_clauses_that_the_target_lacks(self):
        source = self.source("attention a() { normalize = sigmoid; mask = q >= k; emit far = mean(f32(q - k)); }\n")
        report = self.flexc_json("explain", source)
        self.assertEqual(report["unsupported"], ["emit far"])
        self.assertEqual(report["gpu"], {"target": "sm_80", "unsupported": ["normalize sigmoid", "emit far"]})
        text = self.flexc("explain", source).stdout
        self.assertIn("Not on the target cpu: emit far; `--device interp` has them.\nNot on sm_80: normalize sigmoid, emit far.\n", text)

    def test_registers_come_from_ptxas(self):
        """From a stand-in for it, so that the numbers are known; and nothing but shared memory and threads without it."""
        source = self.source("attention a(t: grad f32[N]) { score = score + t[k]; mask = q >= k; }\n")
        without = self.flexc_json("explain", source, "--shape", "D=64")["gpu"]
        self.assertIn("ptxas", without["registers_unknown"])
        self.assertEqual([kernel["what"] for kernel in without["kernels"]], ["forward", "backward, dq", "backward, dk and dv"])
        for kernel in without["kernels"]:
            self.assertEqual(kernel["threads"] % 32, 0)
            self.assertGreater(kernel["shared_bytes"], 0)
            self.assertNotIn("registers", kernel)
        ptxas = self.folder / "ptxas"
        ptxas.write_text("#!/bin/sh\necho called $1 >> $(dirname $0)/calls\nfor e in $(sed -n 's/^.visible .entry \\(.*\\)($/\\1/p' $4); do\n"
                         "  echo \"ptxas info    : Compiling entry function '$e' for 'sm_80'\"\n  echo \"ptxas info    : Function properties for $e\"\n"
                         "  echo '    16 bytes stack frame, 24 bytes spill stores, 32 bytes spill loads'\n"
                         "  echo 'ptxas info    : Used 168 registers, used 1 barriers, 16 bytes smem, 600 bytes cmem[0]'\ndone\nprintf cubin > $3\n")
        ptxas.chmod(0o755)
        for _ in range(2):   # the second time from the cache
            gpu = self.flexc_json("explain", source, "--shape", "D=64", "--ptxas", ptxas)["gpu"]
            self.assertNotIn("registers_unknown", gpu)
            for kernel, known in zip(gpu["kernels"], without["kernels"], strict=True):
                self.assertEqual((kernel["registers"], kernel["spill_bytes"], kernel["stack_bytes"], kernel["shared_bytes"]), (168, 24, 16, known["shared_bytes"] + 16))
                of_warp = -(-168 * 32 // 256) * 256
                blocks = min(65536 // of_warp // (kernel["threads"] // 32), 2048 // kernel["threads"], 164 * 1024 // (kernel["shared_bytes"] + 1024))
                self.assertEqual(kernel["blocks_per_multiprocessor"], blocks)
            self.assertEqual([kernel["registers"] for kernel in gpu["sm_90a"]["kernels"]], [168])
            self.assertEqual((self.folder / "calls").read_text(), "called -arch=sm_80\n" * 2 + "called -arch=sm_90a\n")
        self.assertRegex(self.flexc("explain", source, "--shape", "D=64", "--ptxas", ptxas).stdout,
                         r"\n  forward: \d+ threads and \d+ bytes of shared memory a block; 168 registers a thread, 24 bytes of it spilled to memory; \d blocks? a multiprocessor\n")
        ptxas.write_text("#!/bin/sh\necho no good >&2; exit 1\n")
        self.environment["FLEXC_PTXAS"] = str(ptxas)
        gpu = self.flexc_json("explain", source, "--shape", "D=128")["gpu"]
        self.assertEqual(gpu["registers_unknown"], f"`{ptxas}`: no good")
        self.assertIn("Registers and spills are not known: ", self.flexc("explain", source, "--shape", "D=128").stdout)

    def test_registers_by_the_real_one(self):
        ptxas = next((path for folder in [*os.environ.get("PATH", "").split(":"), "/usr/local/cuda/bin"] if (path := pathlib.Path(folder) / "ptxas").exists()), None)
        if ptxas is None:
            self.skipTest("there is no ptxas")
        source = self.source("attention a() { mask = q >= k; }\n")
        gpu = self.flexc_json("explain", source, "--shape", "D=64", "--dtype", "f16", "--ptxas", ptxas)["gpu"]
        for kernel in gpu["kernels"]:
            self.assertTrue(32 < kernel["registers"] <= 255, kernel)
            self.assertGreaterEqual(kernel["blocks_per_multiprocessor"], 1)


if __name__ == "__main__":
    unittest.main()
