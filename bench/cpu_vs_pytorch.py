#!/usr/bin/env python3
"""Times flexc's CPU target against PyTorch on the same arrays, in one interleaved run.

    ./dev bench                                  # the main table: f32 and bf16, D = 64 and 128, S = 4096
    python3 bench/cpu_vs_pytorch.py --suite grid # many shapes, including short and odd ones
    python3 bench/cpu_vs_pytorch.py --suite backward # the backward pass

PyTorch is installed from PyPI into bench/.venv on first use; flexc itself never needs it. For each case the script
checks that both give the same result, then alternates: one timing of each peer, one of flexc, and so on for
--rounds rounds; every ratio is taken within a round and the median of the ratios is reported. Peers:
compiled flex_attention everywhere, scaled_dot_product_attention where it can express the variant.
GFLOP/s counts unmasked elements x 2 (D + DV).

The suite `backward` times the backward pass alone, whose five products are 5 (D + DV) operations an unmasked element. The peer is the backward of
scaled_dot_product_attention through autograd, the forward pass outside of what is timed; flex_attention has no backward on CPUs. Variants that SDPA lacks,
with gradients of the tensors they capture, alternate with `causal` of the same shape, and their rate per unmasked element is given relative to its. The results go to bench/results/ as JSON, Markdown and a plot.
"""
import argparse
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "bench" / ".venv"
PEERS = ("flex_attention", "sdpa")


def in_venv():
    """Re-executes this script inside the virtual environment that holds PyTorch, making it if needed."""
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix) == VENV:
        return
    if not (VENV / "ready").exists():
        print("installing PyTorch from PyPI into bench/.venv (once, a few minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "torch", "numpy", "matplotlib"], check=True)
        (VENV / "ready").touch()
    os.execv(str(python), [str(python), *sys.argv])


class Case:
    """One variant at one shape: how each engine runs it."""

    def __init__(self, variant, b, h, hkv, q, k, d, dtype, seed=0):
        self.variant, self.dtype = variant, dtype
        self.b, self.h, self.hkv, self.q, self.k, self.d = b, h, hkv, q, k, d
        self.seed = seed

    @property
    def label(self):
        heads = f"H={self.h}" if self.h == self.hkv else f"H={self.h}/{self.hkv}"
        return f"{self.variant} {self.dtype} B={self.b} {heads} Q={self.q} K={self.k} D={self.d}"

    def arrays(self, np):
        rng = np.random.default_rng(self.seed)
        make = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
        arrays = {
            "q": make(self.b, self.h, self.q, self.d),
            "k": make(self.b, self.hkv, self.k, self.d),
            "v": make(self.b, self.hkv, self.k, self.d),
        }
        if self.variant == "documents":
            n = max(self.q, self.k)
            cuts = np.sort(rng.choice(np.arange(1, n), size=min(7, n - 1), replace=False)) if n > 1 else np.array([], int)
            arrays["doc"] = np.searchsorted(cuts, np.arange(n), side="right").astype(np.int32)
        captured = {"alibi_learned": ("slope", (self.h,)), "relative_bias": ("table", (self.h, 64)),
                    "relative_position": ("table", (self.h, self.k)), "key_bias": ("bias", (self.h, self.k)),
                    "full_bias": ("bias", (self.b, self.h, self.q, self.k))}.get(self.variant)
        if captured:
            arrays[captured[0]] = make(*captured[1])
        if self.variant == "alibi_learned":
            arrays["slope"] = np.exp2(-8.0 * np.arange(1, self.h + 1, dtype=np.float32) / self.h).astype(np.float32)
        return arrays

    def unmasked(self, np, arrays):
        """Number of (q, k) pairs kept, over all b and h."""
        q, k = np.arange(self.q)[:, None], np.arange(self.k)[None, :]
        if self.variant == "none":
            kept = self.q * self.k
        else:
            keep = q >= k
            if self.variant == "window":
                keep = keep & (q - k <= 1024)
            if self.variant == "documents":
                keep = keep & (arrays["doc"][: self.q, None] == arrays["doc"][None, : self.k])
            kept = int(keep.sum())
        return kept * self.b * self.h


ATTENTION = {"none": "none", "causal": "causal_only", "alibi": "alibi_causal", "softcap": "softcap_causal", "window": "window",
             "documents": "documents",
             "alibi_learned": "alibi_learned", "relative_bias": "relative_bias", "relative_position": "relative_position",
             "key_bias": "key_bias", "full_bias": "full_bias"}


def torch_peers(torch, case, arrays):
    """The callables of PyTorch for a case: compiled flex_attention, and SDPA if it can express the variant."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    import torch.nn.functional as F

    kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case.dtype]
    q, k, v = (torch.from_numpy(arrays[n]).to(kind) for n in "qkv")
    gqa = case.h != case.hkv
    doc = torch.from_numpy(arrays["doc"]) if "doc" in arrays else None
    masks = {
        "causal": lambda b, h, i, j: i >= j,
        "window": lambda b, h, i, j: (i >= j) & (i - j <= 1024),
        "documents": lambda b, h, i, j: (i >= j) & (doc[i] == doc[j]),
    }
    masks["alibi"] = masks["softcap"] = masks["causal"]
    heads = case.h
    scores = {
        "alibi": lambda s, b, h, i, j: s + (j - i) * torch.exp2(-8.0 * (h + 1) / heads),
        "softcap": lambda s, b, h, i, j: 30.0 * torch.tanh(s / 30.0),
    }
    mask = masks.get(case.variant)
    block = create_block_mask(mask, None, None, case.q, case.k, device="cpu") if mask else None
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, dynamic=False)
    peers = {"flex_attention": lambda: compiled(q, k, v, score_mod=scores.get(case.variant), block_mask=block, enable_gqa=gqa)}
    if case.variant == "none" or (case.variant == "causal" and case.q == case.k):
        causal = case.variant == "causal"
        peers["sdpa"] = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=gqa)
    return peers


def seconds(call, at_least):
    """Median time of one call, over enough calls to fill `at_least` seconds (at least three)."""
    times = []
    end = time.perf_counter() + at_least
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def flexc_bench(flexc, case, arrays_file, threads, repeat, backward=False):
    command = [flexc, "bench", str(ROOT / "bench" / "variants.flex"), "--name", ATTENTION[case.variant], "--in", arrays_file,
               "--dtype", case.dtype, "--threads", str(threads), "--repeat", str(repeat), "--json"] + (["--backward"] if backward else [])
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_case(np, torch, flexc, case, threads, rounds, budget):
    arrays = case.arrays(np)
    flop = case.unmasked(np, arrays) * 4 * case.d
    with tempfile.TemporaryDirectory() as folder:
        given, result = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
        np.savez(given, **arrays)
        subprocess.run([flexc, "run", str(ROOT / "bench" / "variants.flex"), "--name", ATTENTION[case.variant], "--in", given, "--out", result,
                        "--dtype", case.dtype, "--threads", str(threads)], check=True, capture_output=True)
        ours = np.load(result)["o"].astype(np.float32)
        peers = torch_peers(torch, case, arrays)
        tolerance = {"f32": 2e-5, "f16": 4e-3, "bf16": 3e-2}[case.dtype]
        usable = {}
        for name, call in peers.items():
            try:
                error = float(np.abs(call().float().numpy() - ours).max())
            except Exception as fault:   # a peer may refuse a shape; that is a result too
                print(f"    {name} cannot run this: {type(fault).__name__}: {str(fault).splitlines()[0][:100]}", flush=True)
                continue
            if error > tolerance:
                raise SystemExit(f"{case.label}: {name} and flexc differ by {error:.3g} (allowed {tolerance:g})")
            usable[name] = call
        times = {name: [] for name in (*usable, "flexc")}
        peak = []
        repeat = 3
        for _ in range(rounds):
            for name, call in usable.items():
                times[name].append(seconds(call, budget))
            report = flexc_bench(flexc, case, given, threads, repeat)
            times["flexc"].append(report["median_ms"] / 1e3)
            peak.append(report["fma_peak_gflops"])
            repeat = max(3, min(1000, math.ceil(budget / max(times["flexc"][-1], 1e-6))))
    row = {"case": case.label, "variant": case.variant, "dtype": case.dtype, "d": case.d, "q": case.q, "k": case.k,
           "flexc_gflops": flop / statistics.median(times["flexc"]) / 1e9,
           "share_of_fma_peak": statistics.median(flop / t / 1e9 / p for t, p in zip(times["flexc"], peak)),
           "compile_ms": report["compile_ms"]}
    for name in usable:
        row[f"{name}_gflops"] = flop / statistics.median(times[name]) / 1e9
        row[f"ratio_{name}"] = statistics.median(a / b for a, b in zip(times[name], times["flexc"]))
    return row


def sdpa_backward(np, torch, case, arrays, ours):
    """The callable that times SDPA's backward, after its gradients were compared with flexc's."""
    import torch.nn.functional as F

    kind = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case.dtype]
    inputs = tuple(torch.from_numpy(arrays[n]).to(kind).requires_grad_() for n in "qkv")
    d_o = torch.from_numpy(arrays["do"]).to(kind)
    o = F.scaled_dot_product_attention(*inputs, is_causal=case.variant == "causal", enable_gqa=case.h != case.hkv)
    call = lambda: torch.autograd.grad(o, inputs, d_o, retain_graph=True)
    allowed = {"f32": 2e-5, "f16": 8e-3, "bf16": 6e-2}[case.dtype]
    for name, gradient in zip(("dq", "dk", "dv"), call()):
        theirs = gradient.float().numpy()
        error = float(np.abs(theirs - ours[name].astype(np.float32)).max()) / (1 + float(np.abs(theirs).max()))
        if error > allowed:
            raise SystemExit(f"{case.label}: {name} of sdpa and flexc differ by {error:.3g} of the largest (allowed {allowed:g})")
    return call


def run_backward_case(np, torch, flexc, case, threads, rounds, budget):
    arrays = case.arrays(np)
    arrays["do"] = np.random.default_rng(1).standard_normal(arrays["q"].shape, dtype=np.float32)
    peer = case.variant in ("none", "causal")
    reference = Case("causal", case.b, case.h, case.hkv, case.q, case.k, case.d, case.dtype)
    with tempfile.TemporaryDirectory() as folder:
        given, result = os.path.join(folder, "in.npz"), os.path.join(folder, "out.npz")
        np.savez(given, **arrays)
        if peer:
            subprocess.run([flexc, "run", str(ROOT / "bench" / "variants.flex"), "--name", ATTENTION[case.variant], "--in", given, "--out",
                            result, "--dtype", case.dtype, "--threads", str(threads)], check=True, capture_output=True)
            call = sdpa_backward(np, torch, case, arrays, np.load(result))
        repeat, ratios, reports = {}, [], []
        def ours(which):
            report = flexc_bench(flexc, which, given, threads, repeat.get(which.variant, 3), backward=True)
            repeat[which.variant] = max(3, min(1000, math.ceil(budget / max(report["median_ms"] / 1e3, 1e-6))))
            return report
        for _ in range(rounds):
            theirs = seconds(call, budget) * 1e3 if peer else ours(reference)
            reports.append(ours(case))
            ratios.append(theirs / reports[-1]["median_ms"] if peer else reports[-1]["gflops"] / theirs["gflops"])
    middle = lambda key: statistics.median(r[key] for r in reports)
    row = {"case": case.label, "variant": case.variant, "dtype": case.dtype, "d": case.d, "q": case.q, "k": case.k,
           "flexc_gflops": middle("gflops"), "share_of_fma_peak": middle("peak_fraction"), "compile_ms": middle("compile_ms"),
           "workspace_bytes": middle("workspace_bytes")}
    ratio = statistics.median(ratios)
    row.update({"sdpa_gflops": row["flexc_gflops"] / ratio, "ratio_sdpa": ratio} if peer else {"relative_to_causal": ratio})
    return row


def suite(name):
    if name == "main":
        return [Case(v, 1, 8, 8, 4096, 4096, d, t) for t in ("f32", "bf16", "f16") for d in (128, 64)
                for v in ("none", "causal", "alibi", "softcap", "window", "documents")]
    if name == "decode":
        return [Case("none", 8, 32, 8, 1, 8192, 128, t) for t in ("f32", "bf16")]
    if name == "backward":
        against = [Case(v, 1, 8, 8, n, n, d, t) for t in ("f32", "bf16") for d in (64, 128) for n in (1024, 2048, 4096)
                   for v in ("none", "causal")]
        others = [Case(v, 1, 8, 8, 4096, 4096, d, "f32") for d in (64, 128)
                  for v in ("alibi", "alibi_learned", "softcap", "window", "documents", "relative_bias", "relative_position", "key_bias")]
        return against + others + [Case("full_bias", 1, 8, 8, 2048, 2048, d, "f32") for d in (64, 128)]
    lengths = (1, 17, 128, 1000, 4096)
    return [Case("none", 1, 8, 8, q, k, d, "f32") for d in (16, 64, 80, 128, 256) for q in lengths for k in lengths]


def table(rows):
    lines = ["| case | flexc GFLOP/s | share of FMA peak | flex_attention | ratio | SDPA | ratio |", "|---|---|---|---|---|---|---|"]
    cell = lambda row, key, form: form.format(row[key]) if key in row else "-"
    for r in rows:
        lines.append("| {} | {:.1f} | {:.0f} % | {} | {} | {} | {} |".format(
            r["case"], r["flexc_gflops"], 100 * r["share_of_fma_peak"], cell(r, "flex_attention_gflops", "{:.1f}"),
            cell(r, "ratio_flex_attention", "{:.2f}x"), cell(r, "sdpa_gflops", "{:.1f}"), cell(r, "ratio_sdpa", "{:.2f}x")))
    return "\n".join(lines) + "\n"


def backward_table(rows):
    lines = ["| case | flexc GFLOP/s | share of FMA peak | SDPA backward | ratio | rate relative to causal |", "|---|---|---|---|---|---|"]
    cell = lambda row, key, form: form.format(row[key]) if key in row else "-"
    for r in rows:
        lines.append("| {} | {:.1f} | {:.0f} % | {} | {} | {} |".format(
            r["case"], r["flexc_gflops"], 100 * r["share_of_fma_peak"], cell(r, "sdpa_gflops", "{:.1f}"), cell(r, "ratio_sdpa", "{:.2f}x"),
            cell(r, "relative_to_causal", "{:.2f}")))
    return "\n".join(lines) + "\n"


def plot(rows, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(figsize=(max(6, 0.55 * len(rows) + 2), 4.5), layout="constrained")
    names = ("flexc", *PEERS)
    for i, name in enumerate(names):
        axes.bar([x + 0.27 * (i - 1) for x in range(len(rows))], [r.get(f"{name}_gflops", 0) for r in rows], 0.26, label=name)
    axes.set_xticks(range(len(rows)), [f"{r['variant']}\n{r['dtype']} D={r['d']}" for r in rows], rotation=90, fontsize=7)
    axes.set_ylabel("GFLOP/s, unmasked elements")
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=("main", "decode", "grid", "backward"), default="main")
    parser.add_argument("--only", default="", help="run only cases whose label contains this text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--budget", type=float, default=0.4, help="seconds of one timing")
    parser.add_argument("--flexc", default=str(ROOT / "build" / "release" / "bin" / "flexc"))
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), help="folder of the results")
    options = parser.parse_args()
    in_venv()
    import numpy as np
    import torch
    torch.set_num_threads(options.threads)

    rows = []
    for case in suite(options.suite):
        if options.only in case.label:
            print(f"  {case.label}", flush=True)
            run = run_backward_case if options.suite == "backward" else run_case
            rows.append(run(np, torch, options.flexc, case, options.threads, options.rounds, options.budget))
            print("    " + ", ".join(f"{k} {v:.2f}" for k, v in rows[-1].items() if isinstance(v, float)), flush=True)
    if not rows:
        raise SystemExit(f"no case of the suite `{options.suite}` matches `{options.only}`")

    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    head = {"cpu": cpu, "threads": options.threads, "torch": torch.__version__, "commit": commit, "rounds": options.rounds}
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    stem = f"cpu_{options.suite}"
    (out / f"{stem}.json").write_text(json.dumps({"machine": head, "rows": rows}, indent=1) + "\n")
    lines = backward_table(rows) if options.suite == "backward" else table(rows)
    note = ", ".join(f"{k}: {v}" for k, v in head.items())
    (out / f"{stem}.md").write_text(f"# flexc on the CPU against PyTorch, suite `{options.suite}`\n\n{note}\n\n{lines}")
    plot(rows, out / f"{stem}.png")
    print(lines)
    print(f"written to {out}/{stem}.json, .md and .png")


if __name__ == "__main__":
    main()
