"""check, build and bench, and what all commands share: help, versions, exit codes, closed pipes."""

import json
import os
import shutil
import subprocess
import unittest

import numpy as np
from harness import FLEXC, GALLERY, FlexcTest

CAUSAL = "attention causal() { mask = q >= k; }\n"
EMIT = "attention far() { emit far = mean(f32(q - k)); }\n"


class Commands(FlexcTest):
    def test_help_and_usage(self):
        self.assertRegex(self.flexc("--version").stdout, r"^flexc \d+\.\d+\.\d+\n$")
        self.assertIn("Examples", self.flexc("--help").stdout)
        for command in ("check", "run", "show", "build", "bench"):
            self.assertIn(f"flexc {command}", self.flexc(command, "--help").stdout.split("Example")[1])
            self.assertIn(f"flexc {command} --help", self.flexc(command, code=2).stderr)
        self.assertIn("did you mean `check`", self.flexc("chek", code=2).stderr)
        self.assertIn("Usage", self.flexc(code=2).stderr)
        self.flexc("run", "x.flex", "--devise", "cpu", code=2)
        self.flexc("run", "x.flex", "--dtype", "f8", code=2)
        self.flexc("run", "x.flex", "--set", "window", code=2)

    def test_check(self):
        good, bad = self.source(CAUSAL, "good.flex"), self.source("attention a() {\n    mask = q >= kk;\n    score = 1 + ;\n}\n", "bad.flex")
        self.assertEqual(self.flexc("check", good).stdout, "ok: 1 attention: causal\n")
        self.assertIn("bad.flex:", self.flexc("check", good, bad, code=1).stderr)
        report = self.flexc_json("check", good, bad, code=1)
        self.assertFalse(report["ok"])
        self.assertEqual([each["ok"] for each in report["files"]], [True, False])
        for diagnostic in report["diagnostics"]:
            self.assertRegex(diagnostic["code"], r"^E\d{4}$")
            self.assertTrue(diagnostic["file"].endswith("bad.flex"))
            self.assertGreaterEqual(diagnostic["line"], 2)
            self.assertGreaterEqual(diagnostic["col"], 1)
        self.flexc("check", self.path("none.flex"), code=1)
        self.flexc("check", self.folder, code=1)
        self.flexc("check", *sorted(GALLERY.glob("*.flex")))

    def test_sources_that_never_end_or_never_begin(self):
        self.assertIn("more than 8 MiB", self.flexc("check", "/dev/zero", code=1).stderr)
        os.mkfifo(self.path("pipe"))
        self.assertIn("nothing came from it", self.flexc("check", self.path("pipe"), code=1).stderr)
        self.assertIn("causal", self.flexc("check", "/dev/stdin", input=CAUSAL).stdout)

    def test_names(self):
        source = self.source("attention one() {}\nattention two() { mask = q >= k; }\n")
        self.assertEqual(self.fails("run", source, "--shape", "Q=4")["code"], "E0006")
        self.assertEqual(self.fails("run", source, "--shape", "Q=4", "--name", "tow")["code"], "E0005")
        self.flexc("run", source, "--shape", "Q=4", "--name", "two")
        self.assertEqual(self.fails("run", self.source("fn f() -> i32 = 1;\n"), "--shape", "Q=4")["code"], "E0004")

    def test_devices_that_are_not_there(self):
        for device in ("cuda", "emulated"):
            error = self.fails("run", self.source(CAUSAL), "--shape", "Q=4", "--device", device, "--driver", self.path("none.so"), code=3)
            self.assertEqual(error["code"], "E4023")
            self.assertIn("no CUDA driver: `" + self.path("none.so"), error["message"])

    def test_without_the_emulated_driver_beside_it_flexc_says_how_to_get_it(self):
        folder = self.folder / "bin"
        folder.mkdir()
        shutil.copy(FLEXC, folder / "flexc")
        result = subprocess.run([folder / "flexc", "run", self.source(CAUSAL), "--shape", "Q=4", "--device", "emulated"],
                                capture_output=True, text=True, env={**self.environment, "FLEX_CUDA_DRIVER": ""})
        self.assertEqual(result.returncode, 3)
        self.assertIn("error[E4020]: this build has no device `emulated`", result.stderr)
        self.assertIn("`./dev build` makes it", result.stderr)

    def test_build_takes_the_shape_that_a_target_may_need(self):
        source = self.source(CAUSAL)
        self.flexc("build", source, "--target", "cpu", "--head-dim", "64", "--v-head-dim", "32", "--dtype", "bf16", "-o", self.path("x.o"))
        self.assertTrue((self.folder / "x.o").read_bytes().startswith(b"\x7fELF"))
        self.flexc("build", source, "--head-dim", "0", code=2)
        self.assertIn("only a header takes several", self.flexc("build", source, "--emit=ptx", "--dtype", "bf16,f16", code=2).stderr)

    def test_build_for_gpus(self):
        source = self.source(CAUSAL)
        text = self.flexc("build", source, "--emit=ptx").stdout
        self.assertIn("\n.version 7.0\n.target sm_80\n.address_size 64\n", text)
        self.assertIn(".visible .entry causal_forward(", text)
        self.assertIn(".visible .entry causal_combine(", text)
        self.assertNotIn("causal_summarise", text)
        report = self.flexc_json("build", source, "--emit=ptx", "--head-dim", "64", "--dtype", "f16", "-o", self.path("k.ptx"))
        self.assertEqual(report["bytes"], os.path.getsize(self.path("k.ptx")))
        self.assertIn("f16_64", report["instance"])
        self.assertEqual(set(report["phases"]), {"parse", "check", "lower", "optimise", "codegen", "load"})
        self.assertGreater(report["shared_bytes"], 0)
        self.assertEqual(self.flexc_json("build", source, "--emit=ptx", "--short-queries", "-o", self.path("k.ptx"))["tile"][0], 16)
        self.assertIn("target triple = \"nvptx64", self.flexc("build", source, "--emit=llvm", "--target", "sm_80").stdout)
        # A stand-in for ptxas: it must be given the architecture and the text, and what it writes is the cubin.
        ptxas = self.folder / "ptxas"
        ptxas.write_text("#!/bin/sh\n[ $1 = -arch=sm_80 ] && grep -q causal_forward $4 && printf cubin > $3\n")
        ptxas.chmod(0o755)
        self.flexc("build", source, "--emit=cubin", "--ptxas", ptxas, cwd=self.folder)
        self.assertEqual((self.folder / "causal.cubin").read_bytes(), b"cubin")
        ptxas.write_text("#!/bin/sh\necho no good >&2; exit 1\n")
        error = self.fails("build", source, "--emit=cubin", "--ptxas", ptxas, code=3)
        self.assertEqual(error["code"], "E4027")
        self.assertIn("no good", error["message"])

    def test_build_for_hopper(self):
        source = self.source(CAUSAL)
        text = self.flexc("build", source, "--emit=ptx", "--target", "sm_90a").stdout
        self.assertIn("\n.version 8.0\n.target sm_90a\n.address_size 64\n", text)
        for words in ("wgmma.mma_async", "cp.async.bulk.tensor", ".param .align 64 .b8 causal_forward_param_1[576]", ".minnctapersm 1"):
            self.assertIn(words, text)
        self.assertNotIn("ld.local", text)
        report = self.flexc_json("build", source, "--emit=ptx", "--target", "sm_90a", "--dtype", "f16", "-o", self.path("k.ptx"))
        self.assertTrue(report["instance"].startswith("sm90a_f16_128_"))
        self.assertEqual(report["target"], "sm_90a")
        # Where no kernel is made for it, one that it runs.
        for options, instance in ((["--dtype", "f32"], "sm80_f32_128"), (["--short-queries"], "sm80_bf16_128_16"), (["--grad"], "sm80_bf16_128_backward")):
            report = self.flexc_json("build", source, "--emit=ptx", "--target", "sm_90a", *options, "-o", self.path("k.ptx"))
            self.assertTrue(report["instance"].startswith(instance))
            self.assertEqual([each["code"] for each in report["diagnostics"]], ["W4101"])
            self.assertIn("\n.target sm_80\n", (self.folder / "k.ptx").read_text())
        instance = "sm80_bf16_128_128x64"
        report = self.flexc_json("build", source, "--emit=ptx", "--target", "sm_90a", "--instance", instance, "-o", self.path("k.ptx"))
        self.assertEqual((report["instance"], report["diagnostics"]), (instance, []))
        self.assertEqual(self.fails("build", source, "--emit=ptx", "--instance", "sm80_bf16_64_128x64")["code"], "E4028")
        # An assembler that breaks the pipeline finds a fault of flexc.
        ptxas = self.folder / "ptxas"
        ptxas.write_text("#!/bin/sh\n[ $1 = -arch=sm_90a ] && printf cubin > $3\n")
        ptxas.chmod(0o755)
        self.flexc("build", source, "--emit=cubin", "--target", "sm_90a", "--ptxas", ptxas, cwd=self.folder)
        self.flexc("build", source, "--emit=cubin", "--target", "sm_90a", "--dtype", "f32", "--ptxas", ptxas, cwd=self.folder)
        ptxas.write_text("#!/bin/sh\nprintf cubin > $3\necho 'ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized'\n")
        self.assertIn("C7510", self.flexc("build", source, "--emit=cubin", "--target", "sm_90a", "--ptxas", ptxas, code=70).stderr)

    def test_build(self):
        source = self.source(CAUSAL)
        self.assertIn("attention", self.flexc("build", source, "--emit=ast").stdout)
        self.assertIn("causal", self.flexc("build", source, "--emit=ir").stdout)
        self.assertIn("define", self.flexc("build", source, "--emit=llvm").stdout)
        self.assertIn("flex_cpu_kernel_causal", self.flexc("build", source, "--emit=asm", "--level", "generic").stdout)
        self.flexc("build", source, cwd=self.folder)
        self.assertEqual((self.folder / "causal.o").read_bytes()[:4], b"\x7fELF")
        report = self.flexc_json("build", source, "-o", self.path("k.o"))
        self.assertEqual(report["bytes"], os.path.getsize(self.path("k.o")))
        after = self.flexc("build", source, "--emit=ir", "--print-after-all").stdout
        self.assertIn("# after lower\n", after)
        self.assertIn("# after cse\n", after)
        self.assertEqual(self.flexc("build", source, "--emit=ir", "--print-after", "fold").stdout.count("# after fold"),
                         after.count("# after fold"))
        self.assertEqual(self.fails("build", source, "--emit=ir", "--print-after", "folding")["code"], "E0033")
        for options in (["--emit=ptx", "--target", "cpu"], ["--emit=header", "--target", "sm_70"], ["--emit=obj", "--target", "sm_80"]):
            self.assertEqual(self.fails("build", source, *options, code=3)["code"], "E4022")
        self.assertEqual(self.fails("build", self.source(EMIT, "far.flex"), "-o", self.path("s.o"))["code"], "E4001")
        self.assertEqual(self.fails("build", source, "-o", self.path("none/k.o"))["code"], "E0002")

    def test_what_is_wrong_with_a_command_line(self):
        source = self.source(CAUSAL, "causal.flex")
        for arguments, text in {
            ("run", source, "--shpe", "Q=8"): "there is no option `--shpe`; did you mean `--shape`?",
            ("run", source, "-shape", "Q=8"): "did you mean `--shape`?",
            ("run", source, "--thread=2"): "there is no option `--thread`; did you mean `--threads`?",
            ("run", source, "--zzzzzzzz"): "there is no option `--zzzzzzzz`\n`flexc run --help`",
            ("run", source, "--shape", "B=1", "H=2"): "`H=2` is one argument too many; extents are joined by commas",
            ("show", source, "other.flex"): "`other.flex` is one argument too many",
            (source,): f"`flexc run {source}`",
            ("rn", source): "did you mean `run`?",
        }.items():
            result = self.flexc(*arguments, code=2)
            self.assertIn(text, result.stderr)
            self.assertEqual(result.stdout, "")
        for wrong in ("causal", "cuasal.flex", "Causal.flex", "causal.fle"):
            self.assertEqual(self.fails("check", self.path(wrong))["help"], [f"did you mean `{source}`?"])
        self.assertNotIn("help", self.fails("check", self.path("unlike_any.flex")))
        self.assertEqual(self.flexc("help").stdout, self.flexc("--help").stdout)
        self.assertEqual(self.flexc("help", "run").stdout, self.flexc("run", "--help").stdout)

    def test_bench(self):
        report = self.flexc_json("bench", self.source(CAUSAL), "--shape", "H=2,Q=256,D=32", "--dtype", "f32", "--repeat", "8", "--threads", "1")
        self.assertEqual(report["unmasked"], 2 * 256 * 257 // 2)
        self.assertEqual((report["launches"], report["threads"], report["cached"]), (8, 1, False))
        self.assertGreater(report["compile_ms"], 0)
        self.assertGreater(report["fma_peak_gflops"], 0)
        gflops = report["unmasked"] * 2 * (32 + 32) / report["median_ms"] / 1e6
        self.assertAlmostEqual(report["gflops"] / gflops, 1, places=6)
        self.assertAlmostEqual(report["peak_fraction"], report["gflops"] / report["fma_peak_gflops"], places=6)
        self.assertIn("GFLOP/s", self.flexc("bench", self.source(CAUSAL), "--shape", "Q=64", "--repeat", "2").stdout)
        self.fails("bench", self.source(CAUSAL), "--shape", "Q=64", "--device", "interp", code=3)

    def test_a_closed_pipe_is_no_crash_and_a_full_disk_is_an_error(self):
        source = self.source(CAUSAL)
        reader, writer = os.pipe()
        os.close(reader)
        result = subprocess.run([FLEXC, "build", source, "--emit=asm"], stdout=writer, stderr=subprocess.PIPE, env=self.environment)
        os.close(writer)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        with open("/dev/full", "w") as full:
            result = subprocess.run([FLEXC, "build", source, "--emit=asm"], stdout=full, stderr=subprocess.PIPE, env=self.environment)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"E0002", result.stderr)

    def test_json_of_errors_is_json_whatever_the_bytes(self):
        (self.folder / "x.flex").write_bytes(b"attention a() { mask = q >= \xff; }\n")
        report = json.loads(self.flexc("check", self.path("x.flex"), "--json", code=1).stdout)
        self.assertFalse(report["ok"])
        np.savez(self.path("in.npz"), **{"q": np.zeros((1, 1, 2, 2), np.float32), "\u00e4\"": np.zeros(1)})
        self.assertFalse(self.flexc_json("run", self.source(CAUSAL), "--in", self.path("in.npz"), code=1)["ok"])


if __name__ == "__main__":
    unittest.main()
