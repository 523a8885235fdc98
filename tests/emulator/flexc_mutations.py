#!/usr/bin/env python3
"""Takes synchronisation out of the kernels that flexc generates, one piece at a time, and demands that the emulator objects.

    flexc_mutations.py FLEXC LIBRARY EMULATOR_MUTATIONS GALLERY [--only NAME] [--all] [--verbose]

For each variant: the PTX of its module is dumped, then emulator_mutations runs this script with --check for each changed text, which lets flexc run all
shapes of the variant with that text in place (FLEXEMU_REPLACE) and compares the outputs, bit for bit, with those of the unchanged one. Where that takes long
only some of the mutations are tried, the same every time; --all tries the others, too.
"""

import array
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import zipfile

# Shapes of one variant use one module. Odd sizes, several tiles of keys, rows that end inside a tile, heads that share tiles, split keys, splits
# without a key; a last letter x: V holds infinities and NaN, also where the mask hides them, which takes the kernel through its careful
# pass; m: the loss depends on max_score, too, and the backward pass computes the scores of the rows again; s: one batch of K and V serves all.
VARIANTS = {
    "causal_bf16": ("causal.flex", "bf16", ["1 2 2 130 130 64", "1 1 1 200 330 64", "1 1 1 65 65 40", "1 1 1 200 330 64 x", "1 1 1 70 70 64 x"]),
    "causal_f32": ("causal.flex", "f32", ["1 1 1 130 130 64", "1 1 1 200 330 30", "1 1 1 200 330 64 x", "1 1 1 70 70 64 x"]),
    "causal_f16_wide": ("causal.flex", "f16", ["1 1 1 130 130 128", "1 1 1 200 330 100", "1 1 1 200 330 128 x", "1 1 1 70 70 128 x"]),
    "causal_backward_bf16": ("causal.flex", "bf16", ["1 2 1 130 130 64", "1 1 1 70 150 64 m", "2 1 1 70 150 64 ms", "1 1 1 70 70 64 x"]),
    "softcap_backward_f32": ("softcap.flex", "f32", ["1 2 1 70 70 64 m", "2 1 1 65 100 40 ms"]),
    "softcap_decode": ("softcap.flex", "bf16", ["1 8 2 1 1500 64", "1 4 1 3 700 64", "1 1 1 10 30 64", "1 4 1 4 700 64 x", "1 1 1 16 300 64 x", "1 1 1 16 16 64 x"]),
    # Several tiles of keys, and for four multiprocessors so many pieces that the ring of records is used again; packed heads; rows that no tensor map takes; splits
    # without a key, and suspicious ones among them; a careful piece of several tiles. Instances that take turns and have a place for O, and that have neither.
    "causal_sm90a": ("causal.flex", "bf16", ["1 1 1 600 600 64", "1 8 2 300 1000 64", "1 2 2 400 400 60", "1 3 3 20 1500 64 x", "1 1 1 200 200 64 x"]),
    "causal_sm90a_wide": ("causal.flex", "bf16", ["1 1 1 600 330 256", "1 8 2 200 400 256", "1 5 5 200 200 250", "1 3 3 20 800 256 x", "1 1 1 90 90 256 x"]),
}
# Of the variants that run on an sm_90; the others run on an sm_80.
INSTANCES = {"causal_sm90a": "sm90a_bf16_64_128x192", "causal_sm90a_wide": "sm90a_bf16_256_128x80"}
# Each how-manieth mutation is tried without --all.
EVERY = {"causal_sm90a_wide": 3}


# number|statement|change|why nothing can go wrong
HARMLESS = """
2|bar.sync 0|removed|clears the note of the careful pass; the barriers of its tiles stand between that and its use
1|cp.async.wait_group 0|lets one more group be under way|copies of Q, the only ones that can be, are in the first of several groups
"""
HARMLESS_BACKWARD = """
1|cp.async.commit_group|removed|Q of _rows joins the group of the first tile of K, which is waited for with it
2|cp.async.wait_group 0|removed|the loop of _rows has waited for all that anybody reads
2|cp.async.wait_group 0|lets one more group be under way|the loop of _rows has waited for all that anybody reads
4|cp.async.wait_group 0|removed|the loop of _queries has waited for all that anybody reads; only a scale clause with gradients reads Q after it
4|cp.async.wait_group 0|lets one more group be under way|the loop of _queries has waited for all that anybody reads
"""
HARMLESS_BACKWARD_UNMASKED = """
6|cp.async.wait_group 0|removed|the loop of _keys has waited; only blocks of keys that no query meets have not
6|cp.async.wait_group 0|lets one more group be under way|the loop of _keys has waited; only blocks of keys that no query meets have not
"""
HARMLESS_DECODE = """
1|cp.async.wait_group 0|removed|Q has been waited for before the loop, and K and V in it
"""
# Of sm_90a. Products are over for a whole warp when it has waited for them, and nothing but products reads Q and V there.
HARMLESS_SM90A = """
1|fence.mbarrier_init.release.cluster|removed|the barriers are of the block alone, and bar.sync stands before their use
1|bar.sync %r, %r|removed|the end of a call: all have read its words before the barrier of load_q, which every piece has
1|fence.proxy.async.shared::cta|removed|of the first K, with which consumers begin after they have waited for Q, and the fence of Q stands behind it
3|bar.sync %r, %r|removed|of the first K, with which consumers begin after they have waited for Q, and the barrier of Q stands behind it
4|wgmma.fence.sync.aligned|removed|the fence of the scores stands before it, and no register was touched between
16|mbarrier.try_wait.parity.shared::cta.b64 done, [%r], %r|does not wait|the end: lead has waited until the last piece was done, after its Q
"""
HARMLESS_SM90A_TURNS = """
4|bar.warp.sync -1|removed|frees Q of a piece without tiles, which nobody has read
6|bar.warp.sync -1|removed|frees Q, which products alone have read
7|bar.warp.sync -1|removed|frees V, which products alone have read
8|bar.warp.sync -1|removed|frees K and its code; the barrier of the turn stands between the reads of the code and this
9|bar.warp.sync -1|removed|frees V, which products alone have read
13|bar.sync %r, %r|removed|the last: takes the arrival of the last turn off the barrier, and nobody uses that again
"""
HARMLESS_SM90A_WIDE = """
1|mbarrier.try_wait.parity.shared::cta.b64 done, [%r], %r|does not wait|here Q is freed behind the results, so who has brought the next Q knows that they are done
4|bar.warp.sync -1|removed|frees V, which products alone have read
6|bar.warp.sync -1|removed|frees V, which products alone have read
7|bar.warp.sync -1|removed|frees Q behind the results; the group's barrier stands before it, or nothing was written to the place of Q
8|bar.warp.sync -1|removed|the piece is done; the same stands before it, for Q
9|bar.sync %r, %r|removed|the thread that has waited until O was read is one of those whose arrivals free its place
2|cp.async.bulk.wait_group 0|removed|all sources have been read, and the end of the grid completes the stores
2|cp.async.bulk.wait_group 0|lets one more group be under way|all sources have been read, and the end of the grid completes the stores
"""


def write_inputs(path, shape, backward):
    """q, k and v, for a backward pass also do, of one shape, `B H HKV Q K D`, the same at every call."""
    words = shape.split()
    b, h, kv, q, k, d = map(int, words[:6])
    letters = words[6] if len(words) > 6 else ""
    numbers = random.Random(7)
    with zipfile.ZipFile(path, "w") as file:
        kv_batch = 1 if "s" in letters else b
        arrays = [("q", b, h, q, d), ("k", kv_batch, kv, k, d), ("v", kv_batch, kv, k, d)]
        if backward:
            arrays.append(("do", b, h, q, d))
        if "m" in letters:
            arrays.append(("dmax_score", b, h, q, None))
        for name, batch, heads, rows, columns in arrays:
            values = array.array("f", (numbers.gauss(0, 1) for _ in range(batch * heads * rows * (columns or 1))))
            if name == "v" and "x" in letters:
                for row in range(batch * heads * rows):
                    if row % rows % 23 == 5:
                        values[row * d + row % d] = (float("inf"), float("-inf"), float("nan"))[row % 3]
            shape_words = f"{batch}, {heads}, {rows}" + (f", {columns}" if columns else "")
            head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape_words})}}"
            head = head.ljust(117) + "\n"  # 10 bytes before it: the data begins at a multiple of 64
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + values.tobytes())


def run_flexc(flexc, library, gallery, variant, inputs, out, environment):
    file, dtype, _ = VARIANTS[variant]
    command = [flexc, "run", str(pathlib.Path(gallery) / file), "--device", "emulated", "--driver", library, "--dtype", dtype]
    command += ["--in", str(inputs), "--out", str(out)]
    if variant in INSTANCES:
        command += ["--instance", INSTANCES[variant]]
    device = "sm_90" if variant in INSTANCES else "sm_80"
    return subprocess.run(command, env={**os.environ, "FLEXEMU_DEVICE": device, **environment}, capture_output=True, text=True, timeout=120)


def check(settings_path, ptx):
    """Exit status 0: all shapes gave what they must."""
    settings = json.loads(pathlib.Path(settings_path).read_text())
    folder = pathlib.Path(settings_path).parent
    for i in range(len(VARIANTS[settings["variant"]][2])):
        out = folder / "now.npz"
        run = run_flexc(*settings["run"], settings["variant"], folder / f"in_{i}.npz", out, {"FLEXEMU_REPLACE": ptx})
        if run.returncode:
            if "--verbose" in sys.argv:
                print(run.stderr)
            return 1
        if out.read_bytes() != (folder / f"right_{i}.npz").read_bytes():
            return 1
    return 0


def mutate(flexc, library, mutations, gallery, variant):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = set()
        for i, shape in enumerate(VARIANTS[variant][2]):
            dump = folder / f"dump_{i}"
            dump.mkdir()
            write_inputs(folder / f"in_{i}.npz", shape, "backward" in variant)
            run = run_flexc(flexc, library, gallery, variant, folder / f"in_{i}.npz", folder / f"right_{i}.npz", {"FLEXEMU_DUMP": str(dump)})
            if run.returncode:
                print(f"{variant}: {shape}: flexc failed: {run.stderr.strip()}")
                return 1
            modules = [each.read_text() for each in dump.glob("*.ptx")]
            texts.update(each for each in modules if ("_backward_" in each) == ("backward" in variant))
        if len(texts) != 1:
            print(f"{variant}: its shapes use {len(texts)} modules, and must use one")
            return 1
        ptx = folder / f"{variant}.ptx"
        ptx.write_text(texts.pop())
        settings = folder / "settings.json"
        settings.write_text(json.dumps({"variant": variant, "run": [flexc, library, gallery]}))
        harmless = folder / "harmless"
        excuses = HARMLESS_BACKWARD if "backward" in variant else HARMLESS + (HARMLESS_DECODE if "decode" in variant else "")
        if variant in INSTANCES:
            excuses = HARMLESS_SM90A + (HARMLESS_SM90A_WIDE if "wide" in variant else HARMLESS_SM90A_TURNS)
        if variant == "softcap_backward_f32":
            excuses += HARMLESS_BACKWARD_UNMASKED
        harmless.write_text(excuses)
        command = f"{sys.executable} {__file__} --check {settings} {{}}"
        every = 1 if "--all" in sys.argv else EVERY.get(variant, 1)
        arguments = [mutations, "--ptx", str(ptx), "--seeds", "2", "--every", str(every), "--harmless", str(harmless), "--run", command]
        return subprocess.run(arguments + (["--verbose", "1"] if "--verbose" in sys.argv else [])).returncode


def main():
    if sys.argv[1] == "--check":
        return check(*sys.argv[2:4])
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    status = 0
    for variant in VARIANTS:
        if not only or variant == only:
            print(variant, flush=True)
            status |= mutate(*sys.argv[1:5], variant)
    return status


if __name__ == "__main__":
    sys.exit(main())
