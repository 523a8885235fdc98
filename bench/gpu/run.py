#!/usr/bin/env python3
"""Checks flexc's GPU kernels on a real GPU and times them against PyTorch, in one interleaved run.

    python3 bench/gpu/run.py prepare             # where flexc is built: compiles the kernels, gathers the tests, packs all into build/gpu_bench.tar.xz
    python3 bench/gpu/run.py numerics            # on the GPU machine: the gallery, the special inputs and the gradients against float64
    python3 bench/gpu/run.py bench               # TFLOP/s of both kinds of kernels, flex_attention, cuDNN, FlashAttention, and the matmul ceiling
    python3 bench/gpu/run.py backward            # the same of the backward pass
    python3 bench/gpu/run.py sweep               # every image and number of splits in every shape, against what the runtime chooses
    python3 bench/gpu/run.py all                 # numerics, bench, backward
    python3 bench/gpu/run.py smoke               # anywhere: the kernels of `prepare` on the emulated device, small, no timing

README.md beside this file says what to carry to the GPU machine and how long each takes.
"""
import argparse
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench" / "gpu"))
import cases  # noqa: E402
from kernels import ABSENT, DTYPE, Array, Kernel, Options, array_list, compile_runtime  # noqa: E402
from devices import PlainDevice, TorchDevice, from_bf16, to_bf16  # noqa: E402
from timing import Bench, folder_of, run_backward, run_forward, run_suite, say, sweep, table_of  # noqa: E402

HEAD_DIMS = (64, 128, 256)
SWEPT = ("none", "causal")
SUITES = ("numerics", "gradients")


def commit():
    try:
        return subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# ---- prepare


def smoke_cases(options, targets):
    """(case, name of the folder)"""
    todo = [(case, target) for case in cases.suite("smoke") for target in targets] + [(case, "backward") for case in cases.backward_suite("smoke")]
    return [(case, name) for case, name in todo if re.search(options.only, f"{case.label} {name}")]


def wanted_kernels(options):
    """(variant, head dim, name of the folder, targets, gradients)"""
    targets = options.targets.split(",")
    if options.few:
        for case, name in smoke_cases(options, targets):
            yield case.variant, case.d, name, "sm_80" if name == "backward" else name, name == "backward"
        yield SWEPT[0], HEAD_DIMS[0], "all", options.targets, False
        return
    for variant in cases.VARIANTS:
        for d in HEAD_DIMS:
            for target in targets:
                yield variant, d, target, target, False
            yield variant, d, "backward", "sm_80", True
            if variant in SWEPT:
                yield variant, d, "all", options.targets, False


def prepare(options):
    build = pathlib.Path(options.build)
    flexc = build / "bin" / "flexc"
    if not flexc.exists():
        raise SystemExit(f"{flexc} is missing: run ./dev build first, or name another build folder with --build")
    work = pathlib.Path(options.work)
    shutil.rmtree(work, ignore_errors=True)
    made = 0
    for variant, d, name, targets, gradients in wanted_kernels(options):
        folder = folder_of(work, variant, d, name)
        folder.mkdir(parents=True)
        subprocess.run([str(flexc), "build", str(ROOT / "bench" / "variants.flex"), "--name", cases.ATTENTION[variant], "--emit=header", "--target", targets,
                        "--dtype", "bf16", "--head-dim", str(d), "-o", str(folder / "variant")] + (["--grad"] if gradients else []), check=True)
        made += 1
    (work / "prepared.json").write_text(json.dumps({"commit": commit(), "targets": options.targets}))
    if options.few:
        say(f"prepared {made} kernels for `smoke`")
        return
    gather_tests(build, work)
    archive = archive_of(work)
    with lzma.open(archive.with_suffix(".tmp"), "wb", preset=3) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(work, arcname=work.name)
    archive.with_suffix(".tmp").replace(archive)
    say(f"prepared {made} kernels and the tests: {archive.relative_to(ROOT)}, {archive.stat().st_size / 2**20:.0f} MiB")


def archive_of(work):
    return work.with_name(work.name + ".tar.xz")


def gather_tests(build, work):
    """The tests hold the compiler; with the libraries that they load they run on a machine that has none of them."""
    suite = work / "tests"
    suite.mkdir()
    for name in SUITES:
        program = build / "bin" / name
        if not program.exists():
            raise SystemExit(f"{program} is missing: build it, too")
        shutil.copy(program, suite)
        subprocess.run(["strip", str(suite / name)], check=True)
        for line in subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout.splitlines():
            path = line.split("=>")[-1].split("(")[0].strip()
            # The C library and what belongs to it are the machine's own.
            if path.startswith("/") and not any(library in path for library in ("libc.so", "libm.so", "ld-linux", "libpthread", "libdl")):
                shutil.copy(path, suite)
    shutil.copytree(ROOT / "examples" / "gallery", suite / "gallery")


def unpack(work):
    """What `prepare` packed, where only the archive was carried or it is newer."""
    archive = archive_of(work)
    if not archive.exists() or (work / "prepared.json").exists() and (work / "prepared.json").stat().st_mtime >= archive.stat().st_mtime:
        return
    shutil.rmtree(work, ignore_errors=True)
    with lzma.open(archive) as packed, tarfile.open(fileobj=packed) as tar:
        tar.extractall(work.parent)
    (work / "prepared.json").touch()


def targets_of(work):
    if not (work / "prepared.json").exists():
        raise SystemExit(f"{work} is missing: run `bench/gpu/run.py prepare` where flexc is built, and carry {archive_of(work).name}")
    return json.loads((work / "prepared.json").read_text())["targets"].split(",")


# ---- smoke: no PyTorch, any driver


class OnDevice:
    """Arrays of one case on a device, by name."""

    def __init__(self, kernel, host):
        self.kernel, self.host, self.at = kernel, host, {}
        for name, array in host.items():
            self.at[name] = kernel.allocate(array.nbytes)
            kernel.to_device(self.at[name], array)

    def array(self, name):
        if name not in self.host:
            return Array.make(*ABSENT)
        host = self.host[name]
        dtype = {"uint16": "bfloat16"}.get(host.dtype.name, host.dtype.name)
        return Array.make(name, self.at[name], DTYPE[dtype], host.shape, tuple(x // host.itemsize for x in host.strides))

    def workspace(self, options, size):
        self.at[f"workspace {len(self.at)}"] = options.workspace = self.kernel.allocate(size)
        options.workspace_bytes = size
        return options

    def fetch(self, name):
        self.kernel.to_host(self.host[name], self.at[name])
        return from_bf16(self.host[name])

    def free(self):
        for memory in self.at.values():
            self.kernel.free(memory)


def smoke_case(case, kernel, backward):
    """The largest difference from float64. With gradients, also of them."""
    rng = np.random.default_rng(1)
    shape = lambda heads: (case.b, heads, case.s, case.d)
    host = {n: to_bf16(rng.standard_normal(shape(heads))) for n, heads in (("q", case.h), ("k", case.hkv), ("v", case.hkv), ("o", case.h))}
    if case.variant == "documents":
        host["doc"] = case.documents()
    if backward:
        host["lse"] = np.zeros((case.b, case.h, case.s), np.float32)
        host.update({n: to_bf16(rng.standard_normal(shape(heads))) for n, heads in (("d_o", case.h), ("dq", case.h), ("dk", case.hkv), ("dv", case.hkv))})
    device = OnDevice(kernel, host)
    arrays = array_list([device.array(n) for n in ("q", "k", "v", "o", "lse", "max_score")] + ([device.array("doc")] if "doc" in host else []))
    options = Options.make()
    image, _, _, size = kernel.plan(arrays, options)
    kernel.forward(arrays, device.workspace(options, size))
    names, text = ["o"], kernel.images[image].text
    if backward:
        gradients = array_list([device.array(n) for n in ("d_o", "dq", "dk", "dv")])
        size = kernel.plan_backward(arrays, gradients, options)
        kernel.backward(arrays, gradients, device.workspace(options, size))
        names, text = ["o", "dq", "dk", "dv"], "backward"
    inputs = [from_bf16(host[n]) for n in "qkv"]
    want = cases.expected(case, *inputs, from_bf16(host["d_o"])) if backward else (cases.expected(case, *inputs),)
    # P, dS and results are rounded to bf16: 2^-9 of values whose sums are about as large as the largest result.
    errors = [float(np.abs(device.fetch(n) - x).max() / max(1.0, np.abs(x).max() / 4)) for n, x in zip(names, want)]
    device.free()
    return max(errors), text


def smoke(options):
    work = pathlib.Path(options.work)
    driver = pathlib.Path(options.build).resolve() / "lib" / "libflexemu_cuda.so"
    if not os.environ.get("FLEX_CUDA_DRIVER"):
        if not driver.exists():
            raise SystemExit(f"{driver} is missing: build it, or name a driver in FLEX_CUDA_DRIVER")
        os.environ["FLEX_CUDA_DRIVER"] = str(driver)
    targets = targets_of(work)
    objects = compile_runtime(work)
    todo = smoke_cases(options, targets)
    if not todo:
        raise SystemExit(f"no case matches `{options.only}`")
    worst = 0.0
    for case, target in todo:
        kernel = Kernel(folder_of(work, case.variant, case.d, target), cases.ATTENTION[case.variant], objects)
        device = kernel.open()
        error, text = smoke_case(case, kernel, target == "backward")
        worst = max(worst, error)
        say(f"{case.label}: {text} for {target}, largest difference {error:.2e} on {device}")
        if not error <= 0.02:
            raise SystemExit(f"{case.label} for {target}: too far from float64")
    say(f"smoke: {len(todo)} cases agree with float64, largest difference {worst:.2e}")
    dry(options, work, objects, targets)


def dry(options, work, objects, targets):
    """What `bench`, `backward` and `sweep` do, once, small, and without peers; into the work folder."""
    few = argparse.Namespace(**{**vars(options), "out": str(work / "dry"), "again": True, "budget_ms": 0, "rounds": 1, "minutes": 60, "write": False})
    kernel = Kernel(folder_of(work, SWEPT[0], HEAD_DIMS[0], "all"), cases.ATTENTION[SWEPT[0]], objects)
    device = PlainDevice(kernel)
    run_suite(Bench(device, few, work, "gpu_forward"), cases.suite("smoke"), run_forward, FORWARD, objects, sorted(targets, reverse=True))
    run_suite(Bench(device, few, work, "gpu_backward"), cases.backward_suite("smoke"), run_backward, BACKWARD, objects, targets)
    few.only = ""
    swept = Bench(device, few, work, "gpu_sweep")
    sweep(swept, objects, HEAD_DIMS[:1], SWEPT[:1], [(1, 4, 2, 4, 160)])
    row = swept.results["rows"][0]
    if not (row["stripes"] and row["tiles"] and row["ms"]["chosen"]):
        raise SystemExit(f"the sweep has not run every kind of kernel: {row}")


# ---- on the GPU


def is_hopper():
    """Whether the device runs code for sm_90a."""
    asked = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True) if shutil.which("nvidia-smi") else None
    if asked and asked.returncode == 0:
        return asked.stdout.split()[0] == "9.0"
    return os.environ.get("FLEXEMU_DEVICE", "sm_90") == "sm_90"


def numerics(options):
    """All suites side by side: each compiles on the processor most of the time."""
    suite = (pathlib.Path(options.work) / "tests").resolve()
    with_hopper = "sm_90a" in targets_of(pathlib.Path(options.work)) and is_hopper()
    wanted = {"numerics": [], "gradients": []} | ({"numerics sm_90a": ["--target", "sm_90a"]} if with_hopper else {})
    running = []
    for name, flags in wanted.items():
        environment = {**os.environ, "LD_LIBRARY_PATH": str(suite), "FLEXC_GALLERY_DIR": str(suite / "gallery"), "FLEXC_CACHE_DIR": str(suite / name.replace(" ", "_"))}
        command = [str(suite / name.split()[0]), "--gpu", "--table", "--driver", os.environ.get("FLEX_CUDA_DRIVER", "libcuda.so.1"), *flags] + (["--full"] if options.full else [])
        log = (suite / f"{name}.log").open("w+")
        running.append((name, subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT), log))
    failed, end = [], time.monotonic() + options.minutes * 60
    for name, process, log in running:
        try:
            code = process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            code = f"not done after {options.minutes:g} minutes"
        log.seek(0)
        say(f"---- {name}\n{log.read()}")
        if code != 0:
            failed.append(f"{name}: {code}")
    if failed:
        raise SystemExit("numerics: " + "; ".join(failed))


FORWARD, BACKWARD = table_of("Forward pass", 4), table_of("Backward pass", 10)


def ready(options, stem):
    """(bench, objects of the runtime, targets that the device runs)"""
    work = pathlib.Path(options.work)
    targets = targets_of(work)
    device = TorchDevice()
    # Code for one architecture alone first: the ratios are of the first.
    own = "sm_{}{}a".format(*device.capability)
    return Bench(device, options, work, stem), compile_runtime(work), sorted((t for t in targets if not t.endswith("a") or t == own), reverse=True)


def bench(options):
    bench, objects, targets = ready(options, "gpu_forward")
    run_suite(bench, cases.suite(options.suite), run_forward, FORWARD, objects, targets)


def backward(options):
    bench, objects, targets = ready(options, "gpu_backward")
    run_suite(bench, cases.backward_suite(options.suite), run_backward, BACKWARD, objects, targets)


def run_sweep(options):
    bench, objects, _ = ready(options, "gpu_sweep")
    sweep(bench, objects, HEAD_DIMS, SWEPT, cases.sweep_shapes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = {"prepare": [prepare], "smoke": [smoke], "numerics": [numerics], "bench": [bench], "backward": [backward], "sweep": [run_sweep],
             "all": [numerics, bench, backward]}
    parser.add_argument("what", choices=steps)
    parser.add_argument("--build", default=str(ROOT / "build" / "release"), help="build folder of flexc, for prepare and smoke")
    parser.add_argument("--work", default=str(ROOT / "build" / "gpu_bench"), help="folder of what `prepare` makes")
    parser.add_argument("--targets", default="sm_80,sm_90a", help="GPU targets of the kernels, timed each by itself")
    parser.add_argument("--few", action="store_true", help="prepare: only what `smoke` needs; smoke: prepare that first")
    parser.add_argument("--suite", choices=("core", "main"), default="core", help="core: some 22 shapes; main: those and all others")
    parser.add_argument("--only", default="", help="run only cases whose label this regular expression is found in")
    parser.add_argument("--minutes", type=float, default=9, help="begin no case after this time; kill numerics then")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget-ms", type=float, default=60, help="time of one timing")
    parser.add_argument("--no-autotune", action="store_true", help="time flex_attention as compiled, without max-autotune (which takes half a minute a case)")
    parser.add_argument("--full", action="store_true", help="numerics: more shapes and random programs")
    parser.add_argument("--again", action="store_true", help="run cases again that --out holds")
    parser.add_argument("--write", action="store_true", help="sweep: write what follows into runtime/cuda/tuned.def")
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), help="folder of the results")
    options = parser.parse_args()
    if options.what == "smoke" and options.few:
        prepare(options)
    elif options.what != "prepare":
        unpack(pathlib.Path(options.work))
    for step in steps[options.what]:
        step(options)


if __name__ == "__main__":
    main()
