"""What flexc takes as input: conversions, --set, -D, --shape, and what it says when something is wrong."""

import os
import unittest

import numpy as np
from harness import TOLERANCE, FlexcTest, attention, tensors

SLOPES = "attention slopes(slope: f32[H]) { score = score + slope[h] * f32(k - q); }\n"
DOCS = "attention docs(doc: i32[Q], off: i32[N + 1], n: i32[N]) { mask = doc[q] == doc[k] and off[0] <= k and n[0] >= 0; }\n"
TYPES = ("attention types(x: f16[H], i8s: i8[K], u8s: u8[K], keep: bool[K], i32s: i32[K], s: f32 = 1.0, w: i32 = 3, t: bool = true) {"
         " score = score * s + x[h] + f32(i8s[k]) + f32(u8s[k]) + f32(i32s[k]); mask = keep[k] and t or k < w; }\n")


class Inputs(FlexcTest):
    def setUp(self):
        super().setUp()
        self.arrays = tensors(np.random.default_rng(0), H=2, Q=6, K=6, D=4)

    def command(self, source, arrays, *options):
        np.savez(self.path("in.npz"), **arrays)
        return ["run", source, "--in", self.path("in.npz"), "--out", self.path("out.npz"), *options]

    def test_each_stored_type_converts_and_gives_the_same(self):
        source = self.source(TYPES)
        base = {"x": np.array([0.5, -2]), "i8s": np.arange(-3, 3), "u8s": np.arange(6), "keep": np.array([1, 0, 1, 1, 0, 1], bool), "i32s": np.arange(6) * 2}
        want = None
        for floats, integers in ((np.float16, np.int8), (np.float32, np.int16), (np.float64, np.int64), (">f8", ">i4"), (">f4", ">i8")):
            arrays = dict(self.arrays)
            for name, value in base.items():
                arrays[name] = value if name == "keep" else value.astype(floats if name == "x" else integers)
            arrays["w"] = np.array(2).astype(integers)
            arrays["s"] = np.array(0.5).astype(floats)
            arrays["t"] = np.array(True)
            self.flexc(*self.command(source, arrays))
            got = np.load(self.path("out.npz"))["o"]
            if want is None:
                want, _ = attention(self.arrays, mask=lambda b, h, q, k: base["keep"][k] | (k < 2),
                                    score=lambda s, b, h, q, k: s * 0.5 + base["x"][h] + base["i8s"][k] + base["u8s"][k] + base["i32s"][k])
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE["f32"])

    def test_fortran_order_compressed_and_strided_arrays(self):
        arrays = {name: np.asfortranarray(x) for name, x in self.arrays.items()}
        np.savez_compressed(self.path("in.npz"), slope=np.array([1, 2], np.float32), **arrays)
        self.flexc("run", self.source(SLOPES), "--in", self.path("in.npz"), "--out", self.path("out.npz"))
        want, _ = attention(self.arrays, score=lambda s, b, h, q, k: s + (h + 1) * (k - q))
        np.testing.assert_allclose(np.load(self.path("out.npz"))["o"], want, rtol=0, atol=TOLERANCE["f32"])

    def test_conversions_that_would_change_a_value_name_it(self):
        error = self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.array([0.5, 0.1])}))
        self.assertEqual(error["code"], "E0023")
        self.assertEqual(error["message"], "`slope[1]` is 0.1, which `f32` cannot hold: the array is f64[2]")
        doc = np.array([0, 0, 1, 1, 1, 2**31], np.int64)
        error = self.fails(*self.command(self.source(DOCS), {**self.arrays, "doc": doc, "off": np.zeros(3, np.int32), "n": np.zeros(2, np.int32)}))
        self.assertEqual(error["message"], "`doc[5]` is 2147483648, which `i32` cannot hold: the array is i64[6]")
        for wrong in (np.array([1, 2]), np.array([True, False])):
            error = self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": wrong}))
            self.assertEqual(error["code"], "E0022")
            self.assertIn("declared `f32[H]`", error["message"])

    def test_missing_and_misshapen_arrays_name_both_sides(self):
        error = self.fails(*self.command(self.source(SLOPES), self.arrays))
        self.assertEqual(error["message"], "`slopes` needs the array `slope`, which is `f32[H]`")
        error = self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.zeros(3, np.float32)}))
        self.assertIn("`slope` must be f32[H], got f32[3]", error["message"])
        error = self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.float32(1)}))
        self.assertIn("f32[H]", error["message"])
        error = self.fails(*self.command(self.source(DOCS), {**self.arrays, "doc": np.zeros(6, np.int32), "off": np.zeros(3, np.int32), "n": np.zeros(3, np.int32)}))
        self.assertIn("N", error["message"])
        del self.arrays["v"]
        self.assertIn("`v`", self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.zeros(2, np.float32)}))["message"])
        self.arrays["v"] = np.zeros((6, 4), np.float32)
        self.assertIn("[B, HKV, K, DV]", self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.zeros(2, np.float32)}))["message"])
        self.arrays["v"] = np.zeros((1, 2, 6, 4), np.int32)
        self.assertIn("i32", self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.zeros(2, np.float32)}))["message"])

    def test_heads_that_do_not_divide(self):
        arrays = {**tensors(np.random.default_rng(0), H=3, HKV=3, Q=4, K=4), "slope": np.zeros(3, np.float32)}
        arrays["k"] = arrays["v"] = arrays["k"][:, :2]
        self.assertIn("multiple", self.fails(*self.command(self.source(SLOPES), arrays))["message"])

    def test_a_misspelt_array_is_noticed(self):
        np.savez(self.path("in.npz"), **self.arrays, slop=np.zeros(2, np.float32))
        report = self.flexc_json("run", self.source(SLOPES), "--in", self.path("in.npz"), "--set", "slope=1,2")
        self.assertEqual([each["code"] for each in report["diagnostics"]], ["W0101"])
        report = self.flexc_json("run", self.source(SLOPES), "--in", self.path("in.npz"), code=1)
        self.assertIn("is `slop` meant to be `slope`?", str(report))

    def test_strings_beside_the_arrays_do_no_harm(self):
        self.flexc(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.zeros(2, np.float32), "label": np.array(["x"])}))
        error = self.fails(*self.command(self.source(SLOPES), {**self.arrays, "slope": np.array(["x", "y"])}))
        self.assertEqual(error["code"], "E0001")

    def test_shapes_are_checked_on_every_device(self):
        for device in ("cpu", "interp"):
            wrong = {**self.arrays, "k": self.arrays["k"][..., :1]}
            error = self.fails(*self.command(self.source("attention a() {}\n"), wrong, "--device", device))
            self.assertEqual(error["code"], "E0021")
            self.assertIn("`k`", error["message"])

    def test_set(self):
        source = self.source("attention a(slope: f32[H], window: i32, cap: f32 = 1.0) { score = score * cap + slope[h] * f32(k); mask = k <= window; }\n")
        np.save(self.path("slope.npy"), np.array([0.25, 2], np.float32))
        given = {**self.arrays, "slope": np.zeros(2, np.float32), "window": np.int64(1)}
        want, _ = attention(self.arrays, mask=lambda b, h, q, k: k <= 3, score=lambda s, b, h, q, k: 2 * s + np.array([0.25, 2])[h] * k)
        for slope in (self.path("slope.npy"), "0.25,2"):
            self.flexc(*self.command(source, given, "--set", f"slope={slope}", "--set", "window=3", "--set", "cap=2"))
            np.testing.assert_allclose(np.load(self.path("out.npz"))["o"], want, rtol=0, atol=TOLERANCE["f32"])
        cases = {"windw=3": ("E0024", "did you mean `window`?"), "window=x": ("E0025", None), "window=3.5": ("E0025", None),
                 "window=3000000000": ("E0025", None), "cap=": ("E0025", None), "slope=1,x": ("E0025", None), "q=1": ("E0025", None),
                 "slope=none.npy": ("E0001", None), "slope=1,2,3": ("E0021", None)}
        for text, (code, help_text) in cases.items():
            with self.subTest(set=text):
                error = self.fails(*self.command(source, given, "--set", text))
                self.assertEqual(error["code"], code)
                if help_text:
                    self.assertIn(help_text, error["help"])

    def test_const_parameters(self):
        source = self.source("attention a(const window: i32 = 1, const wide: bool = false) { mask = q - k <= window or wide; }\n")
        for options, extra, window in (([], {}, 1), (["-D", "window=2"], {}, 2), (["-Dwindow=2"], {}, 2), (["--set", "window=2"], {}, 2), ([], {"window": np.int64(2)}, 2),
                                       (["-D", "wide=true"], {}, 99), ([], {"wide": np.array(True)}, 99)):
            self.flexc(*self.command(source, {**self.arrays, **extra}, *options))
            want, _ = attention(self.arrays, mask=lambda b, h, q, k: q - k <= window)
            np.testing.assert_allclose(np.load(self.path("out.npz"))["o"], want, rtol=0, atol=TOLERANCE["f32"])
        for options in (["-D", "window=x"], ["-D", "other=1"], ["--set", "window=1.5"]):
            self.fails(*self.command(source, self.arrays, *options))
        self.fails(*self.command(self.source("attention a(const window: i32) { mask = q - k <= window; }\n"), self.arrays))

    def test_random_numbers_are_made_for_floats_only(self):
        error = self.fails("run", self.source("attention a(doc: i32[Q], t: f32[Q]) { score = score + t[q]; mask = doc[q] == doc[k]; }\n"), "--shape", "Q=8")
        self.assertEqual(error["message"], "the tensor `doc` of `a` has no values: it is `i32[Q]`")
        self.assertIn("--set doc=FILE.npy", error["help"][0])

    def test_shape_faults(self):
        source = self.source("attention a(t: f32[N]) { score = score + t[k]; }\n")
        self.assertEqual(self.fails("run", source)["code"], "E0030")
        self.assertEqual(self.fails("run", source, "--shape", "Q=8")["message"], "the extent `N` is not given")
        self.flexc("run", source, "--shape", "Q=8,N=3")
        self.assertEqual(self.fails("run", source, "--shape", "Q=8,M=3")["code"], "E0026")
        np.savez(self.path("in.npz"), **self.arrays, t=np.zeros(4, np.float32))
        self.assertEqual(self.fails("run", source, "--in", self.path("in.npz"), "--shape", "Q=9")["code"], "E0029")
        for wrong in ("Q", "Q=", "Q=-1", "Q=1,Q=2", "Q=99999999999", "Q=1.5", "=3"):
            self.assertIn("--shape", self.flexc("run", source, "--shape", wrong, code=2).stderr)

    def test_a_shape_too_large_for_the_machine(self):
        for shape in ("B=2000000000,H=2000000000,Q=2000000000", "H=64,Q=2000000000,D=64", "Q=1,K=2000000000,H=4096"):
            self.assertEqual(self.fails("run", self.source("attention a() {}\n"), "--shape", shape, code=3)["code"], "E4024")

    def test_files_that_are_no_files(self):
        source = self.source(SLOPES)
        for name, content in (("a.npz", b"PK"), ("a.npz", b""), ("a.safetensors", b"1234567"), ("a.npy", b"x"), ("a.txt", b"")):
            (self.folder / name).write_bytes(content)
            error = self.fails("run", source, "--in", self.path(name))
            self.assertEqual(error["code"], "E0001")
            self.assertIn(name, error["message"])
        self.assertIn("No such file", self.fails("run", source, "--in", self.path("none.npz"))["message"])

    def test_files_without_an_end_or_a_writer(self):
        source = self.source("attention a() {}\n")
        for suffix in ("npz", "npy", "safetensors"):
            (self.folder / f"zero.{suffix}").symlink_to("/dev/zero")
            os.mkfifo(self.path(f"pipe.{suffix}"))
            for name in ("zero", "pipe"):
                self.assertIn("no regular file", self.fails("run", source, "--in", self.path(f"{name}.{suffix}"))["message"])

    def test_an_array_of_an_unknown_type_is_not_taken_for_absent(self):
        np.savez(self.path("in.npz"), **{**self.arrays, "q": self.arrays["q"].astype(np.complex64)})
        error = self.fails("run", self.source("attention a() {}\n"), "--in", self.path("in.npz"))
        self.assertEqual(error["code"], "E0001")
        self.assertIn("array `q`", error["message"])
        # Nor is a default taken in its place.
        for kind in ("", "const "):
            source = self.source("attention a(" + kind + "window: i32 = 1) { mask = q - k <= window; }\n")
            error = self.fails(*self.command(source, {**self.arrays, "window": np.array("2")}))
            self.assertEqual(error["code"], "E0001")
            self.assertIn("array `window`", error["message"])
            self.flexc(*self.command(source, {**self.arrays, "window": np.array("2")}, "--set", "window=2"))

    def test_names_and_ranks_of_other_frameworks(self):
        source = self.source("attention a() {}\n")
        arrays = {"query": self.arrays["q"], "k": self.arrays["k"], "v": self.arrays["v"]}
        report = self.flexc_json(*self.command(source, arrays), code=1)
        self.assertIn("is `query` meant to be `q`?", str(report))
        self.assertIn("an attention needs the array `q`", str(report))
        report = self.flexc_json(*self.command(source, {**self.arrays, "q": self.arrays["q"][0]}), code=1)
        self.assertIn("`q[None]`", str(report))

    def test_outputs_that_cannot_be_written(self):
        source = self.source("attention a() {}\n")
        np.savez(self.path("in.npz"), **self.arrays)
        (self.folder / "d.npz").mkdir()
        for name in ("none/out.npz", "d.npz", "out.txt"):
            self.assertEqual(self.fails("run", source, "--in", self.path("in.npz"), "--out", self.path(name))["code"], "E0002")
        self.assertFalse([each for each in self.folder.iterdir() if ".tmp" in each.name])


if __name__ == "__main__":
    unittest.main()
