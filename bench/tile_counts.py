#!/usr/bin/env python3
"""How many tiles the analysis of a mask visits, against the exact count: what a launch skips without looking at elements.

Visited: full and partial tiles of `flexc show --tiles --analysis`; exact: the same with `--exact`. Prints a table in Markdown.

    bench/tile_counts.py --flexc build/release/bin/flexc > bench/results/tile_counts.md
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np

GALLERY = pathlib.Path(__file__).resolve().parents[1] / "examples" / "gallery"

TEXTS = {
    "checkerboard": "attention a() { mask = (q // 64 + k // 64) % 2 == 0; }",
    "causal document (own)": "attention a(doc: i32[N]) { mask = doc[q] == doc[k] and q >= k; }",
    "window per head": "attention a(window: i32[H]) { mask = q >= k and q - k <= window[h]; }",
    "length per batch, causal": "attention a(len: i32[B]) { mask = q >= k and k < len[b]; }",
}

HEAD = """# Tiles visited: the analysis against the exact count

Written by `bench/tile_counts.py`. Visited tiles are those not skipped, over all b and h; *called partial* are tiles that are full and that the analysis does not
know to be: they cost an evaluation of the mask. The notes below say why where a number is not the exact one.
"""

REASONS = """
## Where it is not exact

- **shared_prefix**: rows of several documents meet in one tile. Least and greatest values over its rows are kept for `off[d]`, `off[p]` and `off[p + 1]` each by
  itself, so the range of one prompt is joined with that of another, and with those of rows that the condition `d != p` excludes. Tiles are called
  partial whose rows are kept in part by one side of the `or` and in part by the other: neither side alone is full.
- **block_diffusion** with a sequence length that the tile does not divide: tiles that hold the border between the two copies. `q % S` there takes
  values from both ends of its period, and only that it is a remainder is known.
- **svg_temporal**: the same, with a period of one frame. A tile that crosses from one frame into the next may hold any remainder.
"""


def documents(rng, tokens, mean):
    """Random lengths: doc [tokens], off [documents + 1]."""
    lengths = []
    while sum(lengths) < tokens:
        lengths.append(int(rng.integers(1, 2 * mean)))
    off = np.minimum(np.concatenate([[0], np.cumsum(lengths)]), tokens).astype(np.int32)
    return np.repeat(np.arange(len(lengths)), np.diff(off)).astype(np.int32), off


def cases(n, rng):
    """(name, gallery file or own text, extents, parameters)"""
    doc, off = documents(rng, n, n // 12)
    shape = {"B": 1, "H": 1, "HKV": 1, "Q": n, "K": n}
    side = int(np.sqrt(n)) if int(np.sqrt(n)) ** 2 == n else 64
    canvas = {"canvas_w": side, "canvas_h": n // side}
    yield "causal", "causal", shape, {}
    yield "sliding_window 1000", "sliding_window", shape, {"window": 1000}
    yield "prefix_lm 500", "prefix_lm", shape, {"prefix": 500}
    yield "document, random lengths", "document", shape, {"doc": doc, "off": off}
    yield "packed_causal_document", "packed_causal_document", shape, {"doc": doc, "off": off}
    yield "doc[q] == doc[k] and q >= k", "causal document (own)", shape, {"doc": doc}
    yield "shared_prefix", "shared_prefix", shape, {"doc": doc, "off": off, "pre": np.array([d - d % 3 for d in range(len(off) - 1)], np.int32)}
    yield "dilated_window 256, 2", "dilated_window", shape, {}
    yield "dilated_window 1000, 200", "dilated_window", shape, {"window": 1000, "dilation": 200}
    yield "checkerboard of 64", "checkerboard", shape, {}
    few = np.zeros(n, bool)
    few[:4] = True
    yield "global_sliding_window, 4 global", "global_sliding_window", shape, {"g": few}
    yield "longformer, 1 % global anywhere", "longformer", shape, {"g": rng.random(n) < 0.01}
    yield "bigbird", "bigbird", shape, {"table": rng.integers(0, n // 64, (n // 64, 3)).astype(np.int32)}
    yield "block_diffusion, blocks of 16", "block_diffusion", shape, {"seq_len": n // 2, "block_size": 16}
    yield "block_diffusion, blocks of 200", "block_diffusion", shape, {"seq_len": n // 2 - 100, "block_size": 200}
    yield "batchify 128", "batchify", shape, {}
    yield "batchify 300", "batchify", shape, {"n": 300}
    yield "natten_2d", "natten_2d", shape, canvas | {"kernel_w": 13, "kernel_h": 13}
    yield "natten_tiled", "natten_tiled", shape, canvas | {"kernel_w": 13, "kernel_h": 13}
    yield "natten_morton", "natten_morton", shape, canvas | {"kernel_w": 13, "kernel_h": 13}
    yield "sta_2d", "sta_2d", shape, canvas
    yield "sta_2d with 77 text tokens", "sta_2d", shape, {"canvas_w": side, "canvas_h": n // side - 8, "text_len": 77}
    yield "svg_spatial", "svg_spatial", shape, {"token_per_frame": 300}
    yield "svg_temporal", "svg_temporal", shape, {"token_per_frame": 300}
    tiles = n // 64
    yield "vsa_block_map, 20 % of tiles", "vsa_block_map", shape, {"map": rng.random((1, 1, tiles, tiles)) < 0.2}
    topk = np.stack([rng.permutation(tiles)[:8] for _ in range(tiles)])[None, None].astype(np.int32)
    yield "vsa_topk, 8 tiles each", "vsa_topk", shape, {"topk": topk, "size": np.full(tiles, 64, np.int32)}
    yield "vsa_topk, ragged tiles", "vsa_topk", shape, {"topk": topk, "size": rng.integers(1, 65, tiles).astype(np.int32)}
    images = 16
    ends = np.sort(rng.integers(0, n, images + 1)).astype(np.int32)
    yield "flamingo, 16 images in order", "flamingo", shape, {"iv": np.stack([ends[:-1], ends[1:]], 1), "img": np.sort(rng.integers(0, images, n)).astype(np.int32)}
    yield "tree_train", "tree_train", shape, {"prefix": 1000}
    anc = np.tril(rng.random((64, 64)) < 0.3) | np.eye(64, dtype=bool)
    yield "tree_decode, 64 drafted", "tree_decode", shape | {"Q": 64}, {"anc": anc, "prefix": n - 64}
    batch = shape | {"B": 3}
    yield "padding, 3 batches", "padding", batch, {"len": np.array([n, n // 3, 1], np.int32)}
    yield "length per batch, causal", "length per batch, causal", batch, {"len": np.array([n - 5, n // 3, 1], np.int32)}
    yield "prefix_lm_batch", "prefix_lm_batch", batch, {"prefix": np.array([0, 100, n // 2], np.int32)}
    yield "window per head", "window per head", shape | {"H": 4}, {"window": np.array([1, 100, 1000, n], np.int32)}


def count(flexc, source, arrays, tile, exact):
    command = [flexc, "show", source, "--in", arrays, "--tiles", f"{tile}x{tile}", "--json"] + ["--exact" if exact else "--analysis"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flexc", required=True)
    parser.add_argument("--lengths", default="4096,8192")
    parser.add_argument("--tiles", default="128,64")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    print(HEAD)
    print("| mask | Q = K | tile | visited | exact | ratio | full, exact | called partial |\n|---|---|---|---|---|---|---|---|")
    worst = 1.0
    with tempfile.TemporaryDirectory() as folder:
        own, arrays = pathlib.Path(folder, "own.flex"), pathlib.Path(folder, "in.npz")
        for n in map(int, options.lengths.split(",")):
            for name, source, shape, parameters in cases(n, np.random.default_rng(n)):
                if options.only not in name:
                    continue
                file = GALLERY / f"{source}.flex"
                if source in TEXTS:
                    own.write_text(TEXTS[source] + "\n")
                    file = own
                np.savez(arrays, **shape, **parameters)
                for tile in map(int, options.tiles.split(",")):
                    found, exact = (count(options.flexc, file, arrays, tile, by) for by in (False, True))
                    if found["full"] > exact["full"] or found["skip"] > exact["skip"]:
                        raise SystemExit(f"{name}: the analysis is wrong: {found} against {exact}")
                    visited, least = (c["full"] + c["partial"] for c in (found, exact))
                    ratio = visited / least if least else float(visited > 0) + 1
                    worst = max(worst, ratio)
                    print(f"| {name} | {n} | {tile} | {visited} | {least} | {ratio:.3f} | {exact['full']} | {exact['full'] - found['full']} |", flush=True)
    print(f"\nLargest ratio: {worst:.3f}.")
    print(REASONS.rstrip())


if __name__ == "__main__":
    main()
