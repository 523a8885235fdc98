"""flexc bench with several attentions, sweeps and plots: what is measured, what is drawn, and what is refused before anything is measured."""

import json
import re
import struct
import unittest
import xml.etree.ElementTree as xml
import zlib

import numpy as np

from harness import GALLERY, FlexcTest

WINDOW = "attention near(window: i32 = 8, const step: i32 = 1) { mask = q >= k and q - k < window * step; }\n"
FEW = ["--threads", "1", "--repeat", "3"]
SHAPE = ["--shape", "H=2,D=16", *FEW]
SVG = "{http://www.w3.org/2000/svg}"


def png_pixels(path):
    """An 8-bit RGB file without filters as an array [height, width, 3]."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        assert zlib.crc32(kind + chunk) == struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]
        size = struct.unpack(">II", chunk[:8]) if kind == b"IHDR" else size
        body += chunk if kind == b"IDAT" else b""
        at += 12 + length
    width, height = size
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


class Compare(FlexcTest):
    def rows(self, *arguments):
        """Of H = 2 and D = 16, and the extents given as `Q=8`."""
        shape = ["H=2,D=16"] + [each for each in arguments if isinstance(each, str) and re.fullmatch(r"Q=\d+", each)]
        return json.loads(self.flexc("bench", *[each for each in arguments if each not in shape], "--shape", ",".join(shape), *FEW, "--json").stdout)

    def test_points_and_variants(self):
        rows = self.rows(GALLERY / "causal.flex", self.source(WINDOW, "near.flex"), "--sweep", "Q=K=32,64", "--against", "both")
        names = ["causal", "near", "plain causal", "plain full"]
        self.assertEqual([(row["sweep"], row["variant"]) for row in rows], [({"Q": n, "K": n}, name) for n in (32, 64) for name in names])
        for row in rows:
            n = row["sweep"]["Q"]
            self.assertEqual((row["ok"], row["shape"]["Q"], row["shape"]["K"], row["shape"]["H"], row["diagnostics"]), (True, n, n, 2, []))
            self.assertEqual(row["baseline"], row["variant"].startswith("plain"))
            kept = {"causal": n * (n + 1) // 2, "near": sum(min(q + 1, 8) for q in range(n)), "plain causal": n * (n + 1) // 2, "plain full": n * n}
            self.assertEqual(row["unmasked"], 2 * kept[row["variant"]])
            self.assertEqual(row["rounds"], 3)
            self.assertLessEqual(row["min_ms"], row["median_ms"])
            self.assertLessEqual(row["median_ms"], row["max_ms"])
            self.assertAlmostEqual(row["gflops"], row["unmasked"] * 2 * 32 / row["median_ms"] / 1e6, delta=1e-6 * row["gflops"])
            self.assertGreater(row["fma_peak_gflops"], 0)
            self.assertGreater(row["compile_ms"], 0)
            self.assertEqual(set(row["against"]), {"plain causal", "plain full"} - {row["variant"]})
            self.assertGreater(min(row["against"].values()), 0)

    def test_what_stands_beside(self):
        near = self.source(WINDOW, "near.flex")
        beside = lambda *more: [row["variant"] for row in self.rows(*more) if row["baseline"]]
        self.assertEqual(beside(near, "--sweep", "Q=K=16"), ["plain causal"])
        full = self.source("attention all_of_it() {}", "all.flex")
        self.assertEqual(beside(full, "--sweep", "Q=K=16"), ["plain full"])
        self.assertEqual(beside(near, full, "--against", "auto", "Q=16"), ["plain causal", "plain full"])
        self.assertEqual(beside(near, "Q=16", "--against", "full"), ["plain full"])
        self.assertEqual(beside(near, "--sweep", "Q=K=16", "--against", "none"), [])

    def test_parameters_are_swept_and_each_gets_its_own(self):
        near = self.source(WINDOW, "near.flex")
        kept = lambda rows: [row["unmasked"] for row in rows if row["variant"] == "near"]
        count = lambda window: 2 * sum(min(q + 1, window) for q in range(32))
        self.assertEqual(kept(self.rows(near, "Q=32", "--sweep", "window=1,4,16")), [count(1), count(4), count(16)])
        self.assertEqual(kept(self.rows(near, "Q=32", "--sweep", "step=1,2")), [count(8), count(16)])
        # --set and -D reach those that have the parameter; a session's --shape gives way to the sweep.
        rows = self.rows(near, GALLERY / "softcap.flex", "Q=8", "--sweep", "Q=K=32", "--set", "window=3", "-D", "step=2")
        self.assertEqual(kept(rows), [count(6)])
        both = self.source("attention a() {}\nattention b() { mask = q >= k; }\n", "both.flex")
        self.assertEqual([row["variant"] for row in self.rows(both, "--name", "b,a", "Q=8", "--against", "none")], ["b", "a"])
        self.assertEqual([row["variant"] for row in self.rows(both, self.source("attention b() {}", "more.flex"), "--name", "b", "Q=8", "--against", "none")],
                         ["b (both)", "b (more)"])

    def test_emulated_device_counts_instructions(self):
        rows = self.rows(GALLERY / "causal.flex", "--sweep", "Q=K=32,128", "--device", "emulated", "--dtype", "bf16", "--against", "full")
        self.assertEqual(len(rows), 4)
        for row in rows:
            self.assertGreater(row["warp_instructions"], 0)
            self.assertNotIn("median_ms", row)
        causal, full = rows[2:]
        self.assertAlmostEqual(causal["against"]["plain full"], causal["warp_instructions"] / full["warp_instructions"])
        self.assertIn("warp instructions of a launch", self.flexc("bench", GALLERY / "causal.flex", "--shape", "D=16", "--sweep", "Q=32", "--device", "emulated", "--dtype", "bf16").stdout)

    def test_backward(self):
        rows = self.rows(GALLERY / "alibi_slopes.flex", "--sweep", "Q=32,64", "--backward")
        self.assertEqual({row["pass"] for row in rows}, {"backward"})
        self.assertEqual({row["variant"] for row in rows}, {"alibi_slopes", "plain full"})

    def test_table(self):
        arguments = [GALLERY / "causal.flex", "--sweep", "Q=K=32,64", "--against", "both", *SHAPE]
        lines = self.flexc("bench", *arguments).stdout.splitlines()
        self.assertEqual(lines[0], "forward, f32, B 1, H 2, D 16; medians of 3 rounds")
        self.assertEqual(re.split(r"  +", lines[3].strip()), ["Q = K", "ms", "GFLOP/s", "x plain causal", "x plain full"])
        self.assertRegex(lines[4], r"^ +32  causal +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+  #+$")
        self.assertEqual(len(lines), 10)
        for width in (20, 40, 60):
            self.environment["COLUMNS"] = str(width)
            lines = self.flexc("bench", *arguments).stdout.splitlines()
            self.assertIn("ms", lines[3])
            self.assertLessEqual(max(map(len, lines[3:])), max(width, 30), width)

    def test_svg(self):
        name = 'odd <&">'
        (self.folder / name).mkdir()
        twins = [self.source(WINDOW, "near.flex"), self.source(WINDOW, name + "/near.flex"), GALLERY / "causal.flex"]
        for metric, label in (("ms", "ms a launch, median"), ("gflops", "GFLOP/s of the elements kept")):
            out = self.folder / "plot.svg"
            self.flexc("bench", *twins, "--sweep", "Q=K=16,64,1024", "--against", "causal", "--plot", out, "--metric", metric, *SHAPE)
            tree = xml.parse(out).getroot()
            texts = [each.text for each in tree.iter(SVG + "text")]
            for text in ("near (near)", "near (near) #2", "causal", "plain causal", "Q = K", label, "16", "64", "1024", "f32, B 1, H 2, D 16"):
                self.assertIn(text, texts)
            width, height = int(tree.get("width")), int(tree.get("height"))
            curves = [each for each in tree.iter(SVG + "polyline") if each.get("points").count(",") == 3]
            self.assertEqual(len(curves), 4)
            self.assertEqual(sum("stroke-dasharray" in each.keys() for each in curves), 1)
            ordinates = set()
            for curve in curves:
                points = [tuple(map(float, point.split(","))) for point in curve.get("points").split()]
                self.assertEqual([x for x, _ in points], sorted(x for x, _ in points))
                # log2 of x: 64 lies a third of the way from 16 to 1024.
                self.assertAlmostEqual((points[1][0] - points[0][0]) / (points[2][0] - points[0][0]), 1 / 3, delta=0.01)
                for x, y in points:
                    self.assertTrue(0 < x < width and 0 < y < height, (x, y))
                ordinates.add(curve.get("points"))
            self.assertEqual(len(ordinates), 4)
        self.assertEqual(sorted(each.name for each in self.folder.iterdir() if "tmp" in each.name), [])

    def test_svg_shows_what_json_says(self):
        """A plot of the emulated device, whose numbers do not change from run to run."""
        arguments = [GALLERY / "causal.flex", "--shape", "D=16", "--sweep", "Q=K=16,64,256", "--device", "emulated", "--dtype", "f16", "--against", "full"]
        rows = json.loads(self.flexc("bench", *arguments, "--json").stdout)
        out = self.folder / "plot.svg"
        self.flexc("bench", *arguments, "--plot", out)
        curves = [each for each in xml.parse(out).getroot().iter(SVG + "polyline") if each.get("points").count(",") == 3]
        drawn = {}
        for curve in curves:
            drawn["stroke-dasharray" in curve.keys()] = [float(point.split(",")[1]) for point in curve.get("points").split()]
        values = {base: np.log([row["warp_instructions"] for row in rows if row["baseline"] == base]) for base in (False, True)}
        x, y = np.concatenate([values[base] for base in (False, True)]), np.concatenate([drawn[base] for base in (False, True)])
        if x.max() - x.min() < np.log(8):
            x = np.exp(x)
        slope, offset = np.polyfit(x, y, 1)
        self.assertLess(slope, 0)   # upwards is more
        self.assertLess(np.abs(slope * x + offset - y).max(), 0.2)

    def test_png_and_bars(self):
        for more, least in (["--sweep", "Q=16,32"], (600, 400)), (["--shape", "Q=32"], (400, 120)):
            out = self.folder / "plot.png"
            self.flexc("bench", GALLERY / "causal.flex", "--against", "full", *FEW, *more, "--plot", out)
            pixels = png_pixels(out)
            self.assertGreater(pixels.shape[1], least[0])
            self.assertGreater(pixels.shape[0], least[1])
            for colour in ((0x00, 0x72, 0xB2), (0x6B, 0x72, 0x7C)):   # the variant's and the baseline's
                self.assertGreater(int((pixels == colour).all(axis=2).sum()), 100)
            self.assertGreater(int((pixels == 255).all(axis=2).mean() * 100), 60)

    def refuses(self, text, *arguments, code=2):
        result = self.flexc("bench", GALLERY / "causal.flex", *arguments, code=code)
        self.assertIn(text, result.stderr)
        self.assertEqual(result.stdout, "")

    def test_refusals(self):
        for sweep, text in {"Q=512,256": "the values must rise, and 256 comes after 512", "Q=5,5": "the values must rise", "Q=": "`Q` has no values",
                            "Q": "expected a name and its values", "=4": "expected a name and its values", "Q==4": "a name is missing", "Q=Q=4": "`Q` stands there twice",
                            "Q=1,,2": "a value is missing", "Q=0": "`0` is no whole number", "Q=1.5": "`1.5` is no whole number", "Q=4k": "`4k` is no whole number",
                            "Q=99999999999": "`99999999999` is no whole number"}.items():
            self.refuses(text, "--sweep", sweep)
        self.refuses("neither a .svg nor a .png", "--sweep", "Q=4", "--plot", "x.pdf")
        self.refuses("in {auto,causal,full,both,none}", "--sweep", "Q=4", "--against", "dense")
        self.refuses("`causal` has no extent `QQ`", "--sweep", "QQ=4,8", code=1)
        self.refuses("did you mean `Q`?", "--sweep", "QQ=4,8", code=1)
        self.refuses("no attention named `other`", "--sweep", "Q=4", "--name", "other,causal", code=1)
        self.refuses("cannot write", "--sweep", "Q=4", "--plot", self.folder / "none" / "x.svg", code=1)
        self.refuses("has no parameter `windw`", "--sweep", "Q=4", "--set", "windw=4", code=1)
        self.refuses("H = 4 must be a multiple of HKV = 3", "--shape", "Q=4,H=4", "--sweep", "HKV=1,2,3,4", code=1)
        # Nothing is measured, and nothing taken, before the last point is known to fit.
        self.refuses("end the sweep at 64", "--shape", "H=4096", "--sweep", "Q=K=64,1073741824", "--plot", self.path("x.svg"), code=3)
        self.refuses("out of memory", "--shape", "H=64,D=128,Q=1000000000", "--against", "none", code=3)
        self.refuses("a sweep sets extents and numbers", GALLERY / "alibi_slopes.flex", "--sweep", "slope=1,2", "--shape", "Q=4", code=1)
        self.assertEqual([each.name for each in self.folder.iterdir() if each.suffix in (".svg", ".png")], [])
        broken = self.source("attention a() { mask = q >= kk; }")
        self.assertIn("unknown name `kk`", self.flexc("bench", GALLERY / "causal.flex", broken, "--shape", "Q=4", code=1).stderr)
        report = self.flexc_json("bench", GALLERY / "causal.flex", "--sweep", "Z=4", code=1)
        self.assertFalse(report["ok"])


if __name__ == "__main__":
    unittest.main()
