"""flexc show: counts of tiles against NumPy, pictures in the terminal, PNG and SVG."""

import json
import os
import pathlib
import pty
import struct
import subprocess
import unittest
import xml.etree.ElementTree
import zlib

import numpy as np
from harness import FLEXC, FlexcTest

WINDOW = "attention window(window: i32 = 5) { mask = q >= k and q - k <= window; }\n"


def read_png(path):
    """Pixels [height, width, 3] of an 8-bit RGB file, checked down to its checksums."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, size = 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        chunk = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + chunk)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", chunk[:10])
            assert (depth, colour) == (8, 2)
            size = height, width
        body += chunk if kind == b"IDAT" else b""
        at += 12 + length
    raw = np.frombuffer(zlib.decompress(body), np.uint8).reshape(size[0], 1 + 3 * size[1])
    assert not raw[:, 0].any()   # written without filters
    return raw[:, 1:].reshape(size[0], size[1], 3)


class Show(FlexcTest):
    def counts(self, mask, tile_q, tile_k):
        full = partial = skip = 0
        B, H, Q, K = mask.shape
        for b in range(B):
            for h in range(H):
                for q in range(0, Q, tile_q):
                    for k in range(0, K, tile_k):
                        tile = mask[b, h, q:q + tile_q, k:k + tile_k]
                        full, partial, skip = full + tile.all(), partial + (tile.any() and not tile.all()), skip + (not tile.any())
        return {"full": int(full), "partial": int(partial), "skip": int(skip)}

    def test_tiles_against_numpy(self):
        rng = np.random.default_rng(0)
        B, H, Q, K = 2, 3, 300, 517
        b, h, q, k = np.ogrid[:B, :H, :Q, :K]
        length, table, doc = rng.integers(0, K, B, np.int32), rng.random((B, H, Q)) < 0.7, np.sort(rng.integers(0, 5, 600)).astype(np.int32)
        cases = {
            "attention a() { mask = q >= k; }": ({}, q >= k),
            "attention a(n: i32[B]) { mask = k < n[b]; }": ({"n": length}, k < length[b]),
            "attention a(t: bool[B, H, Q]) { mask = t[b, h, q] and k > q; }": ({"t": table}, table[..., None] & (k > q)),
            "attention a(doc: i32[N]) { mask = doc[q] == doc[k]; }": ({"doc": doc}, doc[q] == doc[k]),
            "attention a() { mask = h != 1 and k % 200 < 100; }": ({}, (h != 1) & (k % 200 < 100)),
            "attention a(s: f32[H]) { score = score + s[h]; }": ({}, np.array([[[[True]]]])),
            "attention a() { mask = k < 0 and q < 3; }": ({}, np.array([[[[False]]]])),
        }
        for text, (extra, mask) in cases.items():
            source = self.source(text + "\n")
            mask = np.broadcast_to(mask, (B, H, Q, K))
            np.savez(self.path("in.npz"), B=B, H=H, HKV=1, Q=Q, K=K, D=8, **extra)
            for tile in ((128, 128), (64, 256), (1, 7), (1000, 1000)):
                with self.subTest(text=text, tile=tile):
                    arguments = ("show", source, "--in", self.path("in.npz"), "--tiles", f"{tile[0]}x{tile[1]}", "--json")
                    want = self.counts(mask, *tile)
                    for exactly in ((), ("--exact",)):
                        result = self.flexc(*arguments, *exactly)
                        self.assertEqual(result.stdout, '{"tile":[%d,%d],"full":%d,"partial":%d,"skip":%d}\n' % (*tile, *want.values()))
                    # The analysis may miss that a tile is full or empty, and must not claim it wrongly.
                    found = json.loads(self.flexc(*arguments, "--analysis").stdout)
                    self.assertEqual(found["full"] + found["partial"] + found["skip"], sum(want.values()))
                    self.assertLessEqual(found["full"], want["full"])
                    self.assertLessEqual(found["skip"], want["skip"])
                    if text.startswith("attention a() { mask = q >= k"):
                        self.assertEqual({key: found[key] for key in want}, want)

    def test_extents_come_from_arrays_shapes_and_defaults(self):
        source = self.source("attention a(doc: i32[Q]) { mask = doc[q] == doc[k]; }\n")
        np.save(self.path("doc.npy"), np.repeat(np.arange(4), 32).astype(np.int32))
        report = self.flexc_json("show", source, "--set", f"doc={self.path('doc.npy')}", "--tiles", "32x32")
        self.assertEqual((report["full"], report["partial"], report["skip"]), (4, 0, 12))
        np.savez(self.path("in.npz"), q=np.zeros((2, 4, 64, 8), np.float32), k=np.zeros((1, 2, 96, 8), np.float32), doc=np.zeros(64, np.int32))
        report = self.flexc_json("show", self.source(WINDOW), "--in", self.path("in.npz"), "--shape", "DV=8", "--tiles", "64x96")
        self.assertEqual((report["full"], report["partial"], report["skip"]), (0, 8, 0))
        self.assertEqual(self.fails("show", self.source(WINDOW))["code"], "E0030")
        self.assertEqual(self.flexc_json("show", self.source(WINDOW), "--shape", "B=3,H=2,Q=0,K=5", "--tiles", "8x8"),
                         {"tile": [8, 8], "full": 0, "partial": 0, "skip": 0})

    def test_text(self):
        text = self.flexc("show", self.source(WINDOW), "--shape", "Q=4,K=6", "--set", "window=1").stdout
        self.assertEqual(text.splitlines()[2:6], ["  0 ##..........", "    ####........", "  2 ..####......", "    ....####...."])
        self.assertNotIn("\x1b", text)
        text = self.flexc("show", self.source(WINDOW), "--shape", "Q=40,K=60", "--range", "2:4,:3").stdout
        self.assertEqual(text.splitlines()[2:4], ["  2 ######", "  3 ######"])
        wide = self.flexc("show", self.source(WINDOW), "--shape", "Q=500,K=500").stdout
        self.assertLessEqual(max(map(len, wide.splitlines())), 80)

    def test_colour_on_a_terminal_alone(self):
        def on_terminal(**extra):
            environment = {**{key: value for key, value in self.environment.items() if key != "NO_COLOR"}, "TERM": "xterm", **extra}
            ours, theirs = pty.openpty()
            process = subprocess.Popen([FLEXC, "show", self.source(WINDOW), "--shape", "Q=5"], stdout=theirs, env=environment)
            process.wait(timeout=60)
            os.close(theirs)
            output = os.read(ours, 1 << 16).decode()
            os.close(ours)
            return output
        self.assertIn("\x1b[38;2;", on_terminal(COLORTERM="truecolor"))
        self.assertIn("\x1b[38;5;", on_terminal(COLORTERM=""))
        self.assertNotIn("\x1b", on_terminal(NO_COLOR="1"))

    def test_score(self):
        source = self.source("attention a() { score = score + f32(k - q); }\n")
        text = self.flexc("show", source, "--shape", "Q=3,K=3").stdout
        self.assertEqual(text.splitlines()[2:5], ["  0 557799", "    225577", "  2 002255"])
        np.savez(self.path("in.npz"), q=np.full((1, 1, 2, 4), 2, np.float32), k=np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4))
        text = self.flexc("show", self.source("attention a() {}\n"), "--in", self.path("in.npz"), "--what", "score").stdout
        self.assertIn("0 to 9: 6 to 22", text)   # 2 (0 + 1 + 2 + 3) / sqrt(4), 2 (4 + 5 + 6 + 7) / sqrt(4)

    def test_weights_against_numpy(self):
        source = self.source("attention a(slope: f32[H]) { score = score + slope[h] * f32(k - q); mask = q - k < 5 and (q >= k or k == 7); }")
        rng = np.random.default_rng(3)
        q, k, v = (rng.standard_normal((1, heads, 9, 4)).astype(np.float32) for heads in (4, 2, 2))
        slope = np.array([0.5, 0.1, -0.2, 0], np.float32)
        np.savez(self.path("x.npz"), q=q, k=k, v=v, slope=slope)
        head, rows, columns = 2, np.arange(9)[:, None], np.arange(9)[None, :]
        score = q[0, head].astype(float) @ k[0, 1].astype(float).T / 2 + slope[head] * (columns - rows)
        score[~((rows - columns < 5) & ((rows >= columns) | (columns == 7)))] = -np.inf
        weights = np.exp(score - score.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        for row, column in [(0, 0), (3, 1), (5, 7), (8, 4), (8, 8)]:
            picture = self.flexc_json("show", source, "--weights", "--in", self.path("x.npz"), "--head", head, "--range",
                                      f"{row}:{row + 1},{column}:{column + 1}")
            self.assertEqual(picture["what"], "weights")
            np.testing.assert_allclose(picture["pictures"][0]["values"], weights[row, column], rtol=2e-6)
        text = self.flexc("show", source, "--what", "weights", "--in", self.path("x.npz"), "--heads", "0,1").stdout
        self.assertIn("a: weights", text)

    def test_weights_of_what_is_no_softmax(self):
        error = self.fails("show", self.source("attention a { normalize sigmoid; }"), "--weights", "--shape", "Q=4")
        self.assertEqual(error["code"], "E4001")
        self.assertIn("normalize", error["message"])

    def test_png_and_svg(self):
        report = self.flexc_json("show", self.source(WINDOW), "--shape", "Q=16,H=2", "--heads", "0,1", "--tiles", "8x8", code=0)
        self.assertIn("full", report)
        self.flexc("show", self.source(WINDOW), "--shape", "Q=16", "--png", self.path("a.png"), "--svg", self.path("a.svg"))
        pixels = read_png(self.path("a.png"))
        kept = (pixels == [0x0B, 0x5F, 0xA5]).all(axis=-1)
        rows, cols = np.where(kept)
        # The 16 x 16 cells are 32 pixels a side; the legend's swatch lies below them.
        plot = rows < rows.min() + 512
        top, left = rows.min(), cols[plot].min()
        q, k = np.ogrid[:16, :16]
        np.testing.assert_array_equal(kept[top + 16:top + 512:32, left + 16:left + 512:32], (q >= k) & (q - k <= 5))
        tree = xml.etree.ElementTree.parse(self.path("a.svg")).getroot()
        texts = [each.text for each in tree.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("window: mask", texts)
        self.assertIn("kept", texts)
        self.assertEqual(tree.get("width"), str(pixels.shape[1]))

    def test_what_is_not_needed_may_be_absent(self):
        source = self.source("attention a(slope: f32[H], doc: i32[N], off: i32[N + 1]) { score = score + slope[h] + f32(doc[k] + off[k]); mask = q >= k; }\n")
        self.flexc("show", source, "--shape", "Q=8")
        self.assertEqual(self.fails("show", source, "--shape", "Q=8", "--what", "score", "--set", "doc=1,2", "--set", "off=0,1,2")["code"], "E0020")
        self.flexc("show", self.source("attention a(s: f32[H]) { sink = s[h]; emit e = mean(score); mask = q > k; }\n"), "--shape", "Q=8")
        np.savez(self.path("r.npz"), r=np.array([[[[1], [0]]]], np.int32))
        routed = self.flexc_json("show", self.source("attention a(r: i32[1, 1, R, J]) { blocks = r; }\n"), "--shape", "Q=8", "--in", self.path("r.npz"), "--tiles", "4x4")
        self.assertEqual((routed["full"], routed["skip"]), (2, 2))
        self.assertEqual(self.fails("show", self.source("attention a(t: i32[N]) { mask = k < N; score = score + f32(t[k]); }\n"), "--shape", "Q=8", "--what", "mask")["message"],
                         "the extent `N` is not given")

    def test_faults(self):
        source = self.source(WINDOW)
        self.assertEqual(self.fails("show", source, "--shape", "Q=8", "--head", "3")["code"], "E0031")
        self.assertEqual(self.fails("show", source, "--shape", "Q=8", "--b", "1")["code"], "E0031")
        self.assertEqual(self.fails("show", source, "--shape", "Q=0,K=4")["code"], "E0032")
        self.assertEqual(self.fails("show", source, "--shape", "Q=8", "--range", "8:9,0:1")["code"], "E0032")
        self.assertEqual(self.fails("show", source, "--shape", "Q=8", "--png", self.path("none/a.png"))["code"], "E0002")
        for wrong in (["--tiles", "128"], ["--tiles", "0x5"], ["--range", "1:2"], ["--head", "-1"], ["--what", "both"]):
            self.flexc("show", source, "--shape", "Q=8", *wrong, code=2)


if __name__ == "__main__":
    unittest.main()
