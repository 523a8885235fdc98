"""Timings on a GPU, with PyTorch: flexc's images and their peers in turn, round by round, so that what the machine does besides meets all of them."""
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import time

import cases
import tuned
from kernels import ABSENT, ROOT, Array, Kernel, Options, array_list

PEERS = ("flex_attention", "cuDNN", "FlashAttention")
DIFFERENCE = 0.05  # of outputs that are rounded to bf16, between any two


def say(*words):
    print(*words, flush=True)


def store(path, text):
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


class Bench:
    """What all runs share: the device, the results and where they go, the time that is left."""

    def __init__(self, torch, options, work, stem):
        if not torch.cuda.is_available():
            raise SystemExit("PyTorch finds no GPU here; `smoke` runs the kernels on the emulated device")
        torch.cuda.init()
        self.torch, self.options, self.work = torch, options, work
        self.end = time.monotonic() + options.minutes * 60
        out = pathlib.Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / f"{stem}.json"
        self.results = {"rows": []}
        if self.path.exists() and not options.again:
            self.results = json.loads(self.path.read_text())
        driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
        self.results.update(device=torch.cuda.get_device_name(), driver=driver.stdout.strip() or "unknown", torch=torch.__version__,
                            commit=json.loads((work / "prepared.json").read_text())["commit"], host=platform.platform(), rounds=options.rounds)

    def ceiling(self):
        """TFLOP/s of the 8192^3 product of bf16 matrices: measured anew in each run, the least is kept beside the rows."""
        torch = self.torch
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        torch.matmul(a, b)
        value = 2 * 8192**3 / statistics.median(self.time_ms(lambda: torch.matmul(a, b), 20) for _ in range(5)) / 1e9
        self.results.setdefault("matmul_tflops", []).append(value)
        say(f"bf16 products of 8192^3: {value:.0f} TFLOP/s")

    def has(self, label):
        return any(row["case"] == label for row in self.results["rows"])

    def add(self, row, text):
        self.results["rows"].append(row)
        store(self.path, json.dumps(self.results, indent=1) + "\n")
        store(self.path.with_suffix(".md"), text(self.results))

    def out_of_time(self, what):
        if time.monotonic() < self.end:
            return False
        say(f"{self.options.minutes:g} minutes are over before {what}: the same command goes on from here")
        return True

    def time_ms(self, call, repeat):
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeat):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / repeat

    def interleaved(self, calls):
        """{name: [ms of each round]}"""
        repeat = {}
        for name, call in calls.items():
            call()
            once = self.time_ms(call, 2)
            repeat[name] = max(2, min(200, int(self.options.budget_ms / max(once, 1e-3))))
        times = {name: [] for name in calls}
        for _ in range(self.options.rounds):
            for name, call in calls.items():
                times[name].append(self.time_ms(call, repeat[name]))
        return times


def tensor(torch, name, t):
    kinds = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.int32: 3}
    return Array.make(name, t.data_ptr(), kinds[t.dtype], tuple(t.shape), tuple(t.stride()))


def arguments(torch, case, device):
    """(arrays of what the variant captures, what keeps them alive)"""
    if case.variant != "documents":
        return [], []
    doc = torch.from_numpy(case.documents()).to(device)
    return [tensor(torch, "doc", doc)], [doc]


def random_inputs(torch, case):
    torch.manual_seed(0)
    make = lambda heads: torch.randn(case.b, heads, case.s, case.d, device="cuda", dtype=torch.bfloat16)
    return make(case.h), make(case.hkv), make(case.hkv)


def with_workspace(torch, options, size):
    memory = torch.empty(max(size, 16), dtype=torch.uint8, device="cuda")
    options.workspace, options.workspace_bytes = memory.data_ptr(), size
    return memory


def folder_of(work, variant, d, target):
    return work / "kernels" / f"{variant}_{d}_{target}"


def rows_of(times, flop, own):
    """Medians and TFLOP/s by name, and the speed of each of our images over each peer's, paired by rounds."""
    row = {}
    for name, all_rounds in times.items():
        median = statistics.median(all_rounds)
        row[f"{name} ms"], row[f"{name} TFLOP/s"] = median, flop / median / 1e9
        row[f"{name} spread"] = (max(all_rounds) - min(all_rounds)) / median
        if name not in own:
            for mine in own:
                row[f"{mine} over {name}"] = statistics.median(theirs / ours for theirs, ours in zip(all_rounds, times[mine]))
    return row


def compare(torch, case, name, got, want):
    error = float((got.float() - want.float()).abs().max())
    if not error <= DIFFERENCE * max(1.0, float(want.float().abs().max()) / 4):
        raise SystemExit(f"{case.label}: {name} and flexc differ by {error:.3g}")
    return error


def run_forward(bench, case, objects, targets):
    torch = bench.torch
    q, k, v = random_inputs(torch, case)
    captured, keep = arguments(torch, case, q.device)
    stream = torch.cuda.current_stream().cuda_stream
    row = {"case": case.label, "variant": case.variant, "d": case.d, "s": case.s, "h": case.h, "hkv": case.hkv}
    calls, outputs = {}, {}
    for target in targets:
        kernel = Kernel(folder_of(bench.work, case.variant, case.d, target), cases.ATTENTION[case.variant], objects)
        o = torch.empty_like(q)
        arrays = array_list([tensor(torch, n, t) for n, t in (("q", q), ("k", k), ("v", v), ("o", o))] + [Array.make(*ABSENT)] * 2 + captured)
        options = Options.make(stream)
        image, splits, pack, size = kernel.plan(arrays, options)
        keep.append(with_workspace(torch, options, size))
        name = f"flexc {target}"
        calls[name] = lambda kernel=kernel, arrays=arrays, options=options: kernel.forward(arrays, options)
        outputs[name] = o
        row[f"{name} image"], row[f"{name} splits"], row[f"{name} workspace_bytes"] = kernel.images[image].text, splits, size
        calls[name]()
        torch.cuda.synchronize()
    own = list(calls)
    for name in own[1:]:
        row[f"difference {name}"] = compare(torch, case, name, outputs[name], outputs[own[0]])
    for name, call in cases.torch_peers(torch, case, q, k, v, not bench.options.no_autotune).items():
        try:
            row[f"difference {name}"] = compare(torch, case, name, call(), outputs[own[0]])
        except Exception as fault:  # a peer may refuse a case; that is a result too
            say(f"    {name} cannot run this: {type(fault).__name__}: {str(fault).splitlines()[0][:100]}")
            continue
        calls[name] = call
    row.update(rows_of(bench.interleaved(calls), case.flop(), own))
    return row


def run_backward(bench, case, objects, targets):
    torch = bench.torch
    q, k, v = (x.requires_grad_(True) for x in random_inputs(torch, case))
    captured, keep = arguments(torch, case, q.device)
    torch.manual_seed(1)
    d_o = torch.randn_like(q)
    kernel = Kernel(folder_of(bench.work, case.variant, case.d, "backward"), cases.ATTENTION[case.variant], objects)
    plain = [x.detach() for x in (q, k, v)]
    o, lse = torch.empty_like(plain[0]), torch.empty(case.b, case.h, case.s, dtype=torch.float32, device="cuda")
    arrays = array_list([tensor(torch, n, t) for n, t in zip("qkvo", (*plain, o))] + [tensor(torch, "lse", lse), Array.make(*ABSENT)] + captured)
    forward, options = Options.make(torch.cuda.current_stream().cuda_stream), Options.make(torch.cuda.current_stream().cuda_stream)
    keep.append(with_workspace(torch, forward, kernel.plan(arrays, forward)[3]))
    kernel.forward(arrays, forward)
    results = [torch.empty_like(x) for x in plain]
    gradients = array_list([tensor(torch, n, t) for n, t in zip(("d_o", "dq", "dk", "dv"), (d_o, *results))])
    size = kernel.plan_backward(arrays, gradients, options)
    keep.append(with_workspace(torch, options, size))
    own = "flexc sm_80"
    calls = {own: lambda: kernel.backward(arrays, gradients, options)}
    calls[own]()
    torch.cuda.synchronize()
    row = {"case": case.label, "variant": case.variant, "d": case.d, "s": case.s, "workspace_bytes": size}
    for name, call in cases.torch_peers(torch, case, q, k, v, not bench.options.no_autotune).items():
        try:
            out = call()
            again = lambda out=out: torch.autograd.grad(out, (q, k, v), d_o, retain_graph=True)
            row[f"difference {name}"] = max(compare(torch, case, name, theirs, ours) for theirs, ours in zip(again(), results))
        except Exception as fault:
            say(f"    {name} cannot run this: {type(fault).__name__}: {str(fault).splitlines()[0][:100]}")
            continue
        calls[name] = again
    row.update(rows_of(bench.interleaved(calls), case.flop(backward=True), [own]))
    return row


def table_of(title):
    def text(results):
        own = sorted({key[: -len(" TFLOP/s")] for row in results["rows"] for key in row if key.startswith("flexc") and key.endswith(" TFLOP/s")}, reverse=True)
        ceilings = results.get("matmul_tflops", [])
        lines = [f"# {title} on {results['device']}", "",
                 f"Commit {results['commit']}, driver {results['driver']}, PyTorch {results['torch']}; bf16 products of 8192^3 in the same runs: "
                 f"{', '.join(f'{value:.0f}' for value in ceilings)} TFLOP/s. TFLOP/s count unmasked elements x {'10' if 'ackward' in title else '4'} D; medians of {results['rounds']} interleaved rounds; in "
                 "brackets the speed of flexc's first column over the peer's, paired by rounds.", "",
                 "| case | " + " | ".join((*own, *PEERS)) + " |", "|---" * (1 + len(own) + len(PEERS)) + "|"]
        for row in results["rows"]:
            first = next(name for name in own if f"{name} TFLOP/s" in row)
            cells = [f"{row[f'{name} TFLOP/s']:.0f}" if f"{name} TFLOP/s" in row else "-" for name in own]
            cells += [f"{row[f'{name} TFLOP/s']:.0f} ({row[f'{first} over {name}']:.2f}x)" if f"{name} TFLOP/s" in row else "-" for name in PEERS]
            lines.append(f"| {row['case']} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"
    return text


def run_suite(bench, all_cases, run, text, *args):
    bench.ceiling()
    for case in all_cases:
        if not re.search(bench.options.only, case.label) or bench.has(case.label):
            continue
        if bench.out_of_time(case.label):
            break
        say(case.label)
        row = run(bench, case, *args)
        bench.add(row, text)
        say("    " + ", ".join(f"{name} {value:.0f}" for name, value in row.items() if name.endswith("TFLOP/s")))
        bench.torch.cuda.empty_cache()
    say(text(bench.results))


def sweep(bench, objects, dims):
    """Every image that can run a shape, in every shape, and splits: what the choice of the runtime costs against the best. With --write, the limit in runtime/cuda/tuned.def."""
    run_sweep(bench, objects, dims)
    limit = tuned.best_limit(bench.results["rows"])
    say(f"kernels with one stripe of rows are best up to {limit} rows of a KV head")
    if bench.options.write and limit is not None:
        file = ROOT / "runtime" / "cuda" / "tuned.def"
        store(file, tuned.with_value(file.read_text(), "kMostRowsOfStripes", limit))
        say(f"written to {file.relative_to(ROOT)}; build again")


def run_sweep(bench, objects, dims):
    torch = bench.torch
    for variant in ("none", "causal"):
        kernels = {d: Kernel(folder_of(bench.work, variant, d, "all"), cases.ATTENTION[variant], objects) for d in dims}
        for d in dims:
            for b, h, hkv, nq, nk in cases.sweep_shapes():
                if variant == "causal" and nq != nk:
                    continue
                label = f"{variant} D={d} B={b} H={h}/{hkv} Q={nq} K={nk}"
                if not re.search(bench.options.only, label) or bench.has(label):
                    continue
                if bench.out_of_time(label):
                    return
                torch.manual_seed(0)
                make = lambda heads, n: torch.randn(b, heads, n, d, device="cuda", dtype=torch.bfloat16)
                q, k, v = make(h, nq), make(hkv, nk), make(hkv, nk)
                o = torch.empty_like(q)
                arrays = array_list([tensor(torch, n, t) for n, t in zip("qkvo", (q, k, v, o))] + [Array.make(*ABSENT)] * 2)
                calls, keep, first, kinds = {}, [], None, {}
                for size_class, kernel in kernels.items():
                    if size_class < d:
                        continue
                    choices = [-1] if size_class == d else []
                    for image in choices + list(range(len(kernel.images))):
                        for splits in (0,) if image < 0 or nq > 64 else (1, 0, 4, 16):
                            options = Options.make(torch.cuda.current_stream().cuda_stream, image, splits)
                            try:
                                used, used_splits, pack, size = kernel.plan(arrays, options)
                                keep.append(with_workspace(torch, options, size))
                                kernel.forward(arrays, options)
                                torch.cuda.synchronize()
                            except RuntimeError as fault:
                                say(f"    {label}: {fault}")
                                continue
                            if first is None:
                                first = o.clone()
                            elif not float((o.float() - first.float()).abs().max()) <= DIFFERENCE:
                                raise SystemExit(f"{label}: {kernel.images[used].text} differs")
                            name = "chosen" if image < 0 else f"{kernel.images[used].text} of D={size_class}, {used_splits} splits, {pack} heads"
                            if splits == 0 and image >= 0:
                                kinds[name] = "stripes" if kernel.images[used].tile_q <= 16 else "tiles"
                            calls.setdefault(name, lambda kernel=kernel, options=options: kernel.forward(arrays, options))
                times = {name: statistics.median(all_rounds) for name, all_rounds in bench.interleaved(calls).items()}
                best = min(times, key=times.get)
                row = {"case": label, "rows": nq * h // hkv, "ms": times, "best": best, "chosen over best": times["chosen"] / times[best]}
                for kind in ("stripes", "tiles"):
                    row[kind] = min((times[name] for name, its in kinds.items() if its == kind), default=None)
                bench.add(row, sweep_table)
                say(f"{label}: best {best}; the runtime's choice takes {times['chosen'] / times[best]:.2f} of its time")


def sweep_table(results):
    lines = [f"# Images and splits on {results['device']}", "", f"Commit {results['commit']}, driver {results['driver']}. `chosen`: what the runtime takes by itself (runtime/cuda/tuned.cpp, plan.cpp); its time over that of the best.",
             "", "| launch | best | ms | chosen over best |", "|---|---|---|---|"]
    for row in results["rows"]:
        lines.append(f"| {row['case']} | {row['best']} | {row['ms'][row['best']]:.4f} | {row['chosen over best']:.2f} |")
    return "\n".join(lines) + "\n"
