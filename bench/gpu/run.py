#!/usr/bin/env python3
"""Checks flexc's GPU kernels on a real GPU and times them against PyTorch, in one interleaved run.

    python3 bench/gpu/run.py prepare             # where flexc is built: compiles the kernels and gathers the numerics suite
    python3 bench/gpu/run.py numerics            # on the GPU machine: the gallery and the special inputs against float64
    python3 bench/gpu/run.py bench               # on the GPU machine: TFLOP/s of flexc, flex_attention, cuDNN, FlashAttention
    python3 bench/gpu/run.py all                 # the last two
    python3 bench/gpu/run.py smoke               # anywhere: the kernels of `prepare` on the emulated device, small, no timing

`prepare` leaves everything in build/gpu_bench, which is carried to the GPU machine together with the sources. There, only g++, Python with NumPy
and, for `bench`, PyTorch are needed: no LLVM, no CMake, no network. Each finished case is written to --out at once, and a case that stands there is not run again
(--again runs it), so that a run may be cut short and continued. TFLOP/s count unmasked elements x 4 D.
"""
import argparse
import ctypes
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench" / "gpu"))
import cases  # noqa: E402

WORK = ROOT / "build" / "gpu_bench"
DTYPE = {"float32": 0, "float16": 1, "bfloat16": 2, "int32": 3}  # flex::DType
HEAD_DIMS = (64, 128)


def say(*words):
    print(*words, flush=True)


def commit():
    try:
        return subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# ---- prepare


def prepare(options):
    build = pathlib.Path(options.build)
    flexc = build / "bin" / "flexc"
    if not flexc.exists():
        raise SystemExit(f"{flexc} is missing: run ./dev build first, or name another build folder with --build")
    kernels = WORK / "kernels"
    shutil.rmtree(kernels, ignore_errors=True)
    kernels.mkdir(parents=True)
    for variant in cases.VARIANTS:
        for d in HEAD_DIMS:
            folder = kernels / f"{variant}_{d}"
            folder.mkdir()
            subprocess.run([str(flexc), "build", str(ROOT / "bench" / "variants.flex"), "--name", cases.ATTENTION[variant], "--emit=header",
                            "--target", options.targets, "--dtype", "bf16", "--head-dim", str(d), "-o", str(folder / "variant")], check=True)
    (WORK / "prepared.json").write_text(json.dumps({"commit": commit(), "targets": options.targets}))

    # The numerics suite holds the compiler; with the libraries it loads it runs on a machine that has none of them.
    suite = WORK / "numerics"
    shutil.rmtree(suite, ignore_errors=True)
    suite.mkdir()
    program = build / "bin" / "numerics"
    if not program.exists():
        say(f"{program} is missing: `numerics` will not be there to run")
        return
    shutil.copy(program, suite)
    subprocess.run(["strip", str(suite / "numerics")], check=True)
    shutil.copytree(ROOT / "examples" / "gallery", suite / "gallery")
    for line in subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout.splitlines():
        path = line.split("=>")[-1].split("(")[0].strip()
        # The C library and what belongs to it are the machine's own.
        if path.startswith("/") and not any(name in path for name in ("libc.so", "libm.so", "ld-linux", "libpthread", "libdl")):
            shutil.copy(path, suite)
    size = sum(f.stat().st_size for f in WORK.rglob("*") if f.is_file())
    say(f"prepared {len(cases.VARIANTS) * len(HEAD_DIMS)} kernels and the numerics suite in {WORK.relative_to(ROOT)} ({size / 2**20:.0f} MiB)")


# ---- the kernels as libraries


def compile_runtime():
    """Object files of the runtime, by g++ alone."""
    out = WORK / "runtime"
    out.mkdir(exist_ok=True)
    flags = {"microkernel_generic": ["-O3", "-ffp-contract=fast"],
             "microkernel_avx2": ["-O3", "-ffp-contract=fast", "-march=x86-64-v3"],
             "microkernel_avx512": ["-O3", "-ffp-contract=fast", "-march=x86-64-v4", "-mprefer-vector-width=512"]}
    sources = sorted([*(ROOT / "runtime").glob("*.cpp"), *(ROOT / "runtime" / "cuda").glob("*.cpp"), *(ROOT / "runtime" / "cpu").glob("*.cpp")])
    objects, running = [], []
    for source in sources:
        target = out / (f"{source.parent.name}_{source.stem}.o")
        objects.append(str(target))
        if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
            continue
        command = ["g++", "-std=c++17", "-O2", "-fPIC", *flags.get(source.stem, []), "-I", str(ROOT), "-c", str(source), "-o", str(target)]
        running.append((command, subprocess.Popen(command)))
        if len(running) >= (os.cpu_count() or 1):
            wait(running.pop(0))
    for each in running:
        wait(each)
    return objects


def wait(running):
    command, process = running
    if process.wait() != 0:
        raise SystemExit("this failed: " + " ".join(command))


class Array(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("shape", ctypes.c_int64 * 8), ("stride", ctypes.c_int64 * 8)]

    @staticmethod
    def make(name, address, dtype, shape, stride):
        array = Array(name.encode(), address, dtype, len(shape))
        for i, (extent, step) in enumerate(zip(shape, stride)):
            array.shape[i], array.stride[i] = extent, step
        return array


class Kernel:
    """One variant for one head dimension, as a shared library."""

    def __init__(self, variant, d, objects):
        folder = WORK / "kernels" / f"{variant}_{d}"
        if not folder.exists():
            raise SystemExit(f"{folder} is missing: run `bench/gpu/run.py prepare` where flexc is built")
        library = folder / "variant.so"
        header, name = folder / "variant.h", cases.ATTENTION[variant]
        if not library.exists():
            subprocess.run(["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-I", str(ROOT), "-include", str(header), f"-DVARIANT={name}",
                            f"-DVARIANT_LINKED=flex_linked_{name}", str(ROOT / "bench" / "gpu" / "bridge.cpp"), str(folder / "variant.o"),
                            *objects, "-ldl", "-lpthread", "-o", str(library)], check=True)
        self.library = ctypes.CDLL(str(library), mode=os.RTLD_LOCAL | os.RTLD_NOW)
        self.error = ctypes.create_string_buffer(4096)

    def call(self, name, *args):
        if getattr(self.library, "flexbench_" + name)(*args, self.error, ctypes.c_size_t(len(self.error))):
            raise RuntimeError(self.error.value.decode())

    def workspace(self, arrays):
        size = ctypes.c_size_t()
        self.call("workspace", arrays, len(arrays), 0, 0, ctypes.byref(size))
        return size.value

    def forward(self, arrays, stream, workspace, size):
        self.call("forward", arrays, len(arrays), ctypes.c_void_p(stream), 0, 0, ctypes.c_void_p(workspace), ctypes.c_size_t(size))


def array_list(entries):
    return (Array * len(entries))(*entries)


NONE = ("", 0, 0, (), ())


def torch_arrays(torch, case, q, k, v, o):
    kinds = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.int32: 3}
    of = lambda name, t: Array.make(name, t.data_ptr(), kinds[t.dtype], tuple(t.shape), tuple(t.stride()))
    keep = []
    entries = [of("q", q), of("k", k), of("v", v), of("o", o), Array.make(*NONE), Array.make(*NONE)]
    if case.variant == "documents":
        doc = torch.from_numpy(case.documents()).to(q.device)
        keep.append(doc)
        entries.append(of("doc", doc))
    return array_list(entries), keep


# ---- smoke: no PyTorch, any driver


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def smoke(options):
    driver = pathlib.Path(options.build) / "lib" / "libflexemu_cuda.so"
    if not os.environ.get("FLEX_CUDA_DRIVER"):
        if not driver.exists():
            raise SystemExit(f"{driver} is missing: build it, or name a driver in FLEX_CUDA_DRIVER")
        os.environ["FLEX_CUDA_DRIVER"] = str(driver)
    objects = compile_runtime()
    worst = 0.0
    for case in cases.suite("smoke"):
        kernel = Kernel(case.variant, case.d, objects)
        name = ctypes.create_string_buffer(256)
        kernel.call("open", 0, name, ctypes.c_size_t(len(name)))
        rng = np.random.default_rng(1)
        host = {n: to_bf16(rng.standard_normal((case.b, heads, case.s, case.d)))
                for n, heads in (("q", case.h), ("k", case.hkv), ("v", case.hkv), ("o", case.h))}
        if case.variant == "documents":
            host["doc"] = case.documents()
        device = {}
        for key, array in host.items():
            device[key] = ctypes.c_void_p()
            kernel.call("allocate", ctypes.c_size_t(array.nbytes), ctypes.byref(device[key]))
            kernel.call("to_device", device[key], array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes))
        of = lambda n: Array.make(n, device[n].value, DTYPE["int32"] if n == "doc" else DTYPE["bfloat16"], host[n].shape,
                                  tuple(x // host[n].itemsize for x in host[n].strides))
        arrays = array_list([of("q"), of("k"), of("v"), of("o"), Array.make(*NONE), Array.make(*NONE),
                             *([of("doc")] if "doc" in host else [])])
        size = kernel.workspace(arrays)
        workspace = ctypes.c_void_p()
        kernel.call("allocate", ctypes.c_size_t(size), ctypes.byref(workspace))
        kernel.forward(arrays, None, workspace.value, size)
        kernel.call("to_host", host["o"].ctypes.data_as(ctypes.c_void_p), device["o"], ctypes.c_size_t(host["o"].nbytes))
        want = cases.expected(case, *(from_bf16(host[n]) for n in "qkv"))
        error = float(np.abs(from_bf16(host["o"]) - want).max())
        worst = max(worst, error)
        say(f"{case.label}: largest difference {error:.2e} on {name.value.decode()}")
        # P and o are rounded to bf16: 2^-9 of values below 4, twice.
        if not error <= 0.02:
            raise SystemExit(f"{case.label}: too far from float64")
        for memory in (*device.values(), workspace):
            kernel.call("free", memory)
    say(f"smoke: {len(cases.suite('smoke'))} cases agree with float64, largest difference {worst:.2e}")


# ---- on the GPU


def numerics(options):
    suite = WORK / "numerics"
    if not (suite / "numerics").exists():
        raise SystemExit(f"{suite} is missing: run `bench/gpu/run.py prepare` where flexc is built")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(suite), "FLEXC_GALLERY_DIR": str(suite / "gallery"),
                   "FLEXC_CACHE_DIR": str(WORK / "cache")}
    command = [str(suite / "numerics"), "--gpu", "--table", "--driver", os.environ.get("FLEX_CUDA_DRIVER", "libcuda.so.1")]
    if options.full:
        command.append("--full")
    code = subprocess.run(command, env=environment).returncode
    if code:
        raise SystemExit(f"numerics: exit status {code}")


def time_ms(torch, call, repeat):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeat):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeat


def run_case(torch, case, kernel, options):
    torch.manual_seed(0)
    make = lambda heads: torch.randn(case.b, heads, case.s, case.d, device="cuda", dtype=torch.bfloat16)
    q, k, v = make(case.h), make(case.hkv), make(case.hkv)
    o = torch.empty_like(q)
    arrays, keep = torch_arrays(torch, case, q, k, v, o)
    size = kernel.workspace(arrays)
    workspace = torch.empty(max(size, 16), dtype=torch.uint8, device="cuda")
    stream = torch.cuda.current_stream().cuda_stream
    calls = {"flexc": lambda: kernel.forward(arrays, stream, workspace.data_ptr(), size)}
    calls["flexc"]()
    torch.cuda.synchronize()
    row = {"case": case.label, "variant": case.variant, "d": case.d, "s": case.s, "h": case.h, "hkv": case.hkv, "workspace_bytes": size}
    for name, call in cases.torch_peers(torch, case, q, k, v, options.max_autotune).items():
        try:
            error = float((call().float() - o.float()).abs().max())
        except Exception as fault:  # a peer may refuse a case; that is a result too
            say(f"    {name} cannot run this: {type(fault).__name__}: {str(fault).splitlines()[0][:100]}")
            continue
        if not error <= 0.05:
            raise SystemExit(f"{case.label}: {name} and flexc differ by {error:.3g}")
        row[f"difference {name}"] = error
        calls[name] = call
    repeat = {}
    for name, call in calls.items():
        call()
        once = time_ms(torch, call, 2)
        repeat[name] = max(2, min(200, int(options.budget_ms / max(once, 1e-3))))
    times = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            times[name].append(time_ms(torch, call, repeat[name]))
    for name in calls:
        row[f"{name} ms"] = statistics.median(times[name])
        row[f"{name} TFLOP/s"] = case.flop() / statistics.median(times[name]) / 1e9
        if name != "flexc":
            row[f"ratio {name}"] = statistics.median(a / b for a, b in zip(times[name], times["flexc"]))
    return row


def matmul_ceiling(torch):
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    torch.matmul(a, b)
    return 2 * 8192**3 / min(time_ms(torch, lambda: torch.matmul(a, b), 20) for _ in range(5)) / 1e9


PEERS = ("flex", "flex tuned", "cuDNN", "FlashAttention")


def table(results):
    lines = [f"# flexc on {results['device']}", "",
             f"commit {results['commit']}, driver {results['driver']}, PyTorch {results['torch']}; bf16 matmul of 8192^3 in the same run: "
             f"{results['matmul_tflops']:.0f} TFLOP/s. TFLOP/s of unmasked elements x 4 D, median of {results['rounds']} interleaved rounds; in brackets "
             "flexc's speed over the peer's.", "", "| case | flexc | " + " | ".join(PEERS) + " |", "|---" * (2 + len(PEERS)) + "|"]
    for row in results["rows"]:
        cell = lambda p: f"{row[f'{p} TFLOP/s']:.0f} ({row[f'ratio {p}']:.2f}x)" if f"{p} TFLOP/s" in row else "-"
        lines.append(f"| {row['case']} | {row['flexc TFLOP/s']:.0f} | " + " | ".join(cell(p) for p in PEERS) + " |")
    return "\n".join(lines) + "\n"


def bench(options):
    import torch
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here; `smoke` runs the kernels on the emulated device")
    torch.cuda.init()
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "gpu_main.json"
    results = {"rows": []}
    if path.exists() and not options.again:
        results = json.loads(path.read_text())
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    results.update(device=torch.cuda.get_device_name(), driver=driver.stdout.strip() or "unknown", torch=torch.__version__,
                   commit=json.loads((WORK / "prepared.json").read_text())["commit"], host=platform.platform(), rounds=options.rounds,
                   matmul_tflops=matmul_ceiling(torch))
    objects = compile_runtime()
    for case in cases.suite(options.suite):
        if options.only and options.only not in case.label:
            continue
        if any(row["case"] == case.label for row in results["rows"]):
            continue
        say(case.label)
        row = run_case(torch, case, Kernel(case.variant, case.d, objects), options)
        results["rows"].append(row)
        say("    " + ", ".join(f"{name} {value:.0f}" for name, value in row.items() if name.endswith("TFLOP/s")))
        path.with_suffix(".tmp").write_text(json.dumps(results, indent=1))
        os.replace(path.with_suffix(".tmp"), path)
        (out / "gpu_main.md").write_text(table(results))
        torch.cuda.empty_cache()
    say(table(results))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "smoke", "numerics", "bench", "all"))
    parser.add_argument("--build", default=str(ROOT / "build" / "release"), help="build folder of flexc, for prepare and smoke")
    parser.add_argument("--targets", default="sm_80", help="GPU targets of the kernels")
    parser.add_argument("--suite", choices=("main", "quick"), default="main")
    parser.add_argument("--only", default="", help="run only cases whose label contains this text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget-ms", type=float, default=100, help="time of one timing")
    parser.add_argument("--max-autotune", action="store_true", help="time flex_attention also with max-autotune (minutes a case)")
    parser.add_argument("--full", action="store_true", help="numerics: more shapes and random programs")
    parser.add_argument("--again", action="store_true", help="bench: run cases again that --out holds")
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), help="folder of the results")
    options = parser.parse_args()
    steps = {"prepare": [prepare], "smoke": [smoke], "numerics": [numerics], "bench": [bench], "all": [numerics, bench]}
    for step in steps[options.what]:
        step(options)


if __name__ == "__main__":
    main()
