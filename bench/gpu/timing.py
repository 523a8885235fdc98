"""Timings on a GPU: flexc's images and their peers in turn, round by round, so that what the machine does besides meets all of them."""
import json
import os
import pathlib
import platform
import re
import statistics
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

    def __init__(self, device, options, work, stem):
        self.device, self.options, self.work = device, options, work
        self.end = time.monotonic() + options.minutes * 60
        out = pathlib.Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / f"{stem}.json"
        self.results = {"rows": []}
        if self.path.exists() and not options.again:
            self.results = json.loads(self.path.read_text())
        self.results.update(device.facts(), commit=json.loads((work / "prepared.json").read_text())["commit"], host=platform.platform(), rounds=options.rounds)

    def ceiling(self):
        """Measured anew in each run."""
        value = self.device.ceiling()
        if value:
            self.results.setdefault("matmul_tflops", []).append(value)
            say(f"bf16 products of 8192^3: {value:.0f} TFLOP/s")

    def wants(self, label):
        return re.search(self.options.only, label) and not any(row["case"] == label for row in self.results["rows"])

    def add(self, row, text):
        self.results["rows"].append(row)
        store(self.path, json.dumps(self.results, indent=1) + "\n")
        store(self.path.with_suffix(".md"), text(self.results))

    def out_of_time(self, what):
        if time.monotonic() < self.end:
            return False
        say(f"{self.options.minutes:g} minutes are over before {what}: the same command goes on from here")
        return True

    def interleaved(self, calls):
        """{name: [ms of each round]}"""
        repeat = {}
        for name, call in calls.items():
            if self.options.budget_ms <= 0:  # a dry run
                repeat[name] = 1
                continue
            call()
            once = self.device.time_ms(call, 2)
            repeat[name] = max(1, min(200, int(self.options.budget_ms / max(once, 1e-3))))
        times = {name: [] for name in calls}
        for _ in range(self.options.rounds):
            for name, call in calls.items():
                times[name].append(self.device.time_ms(call, repeat[name]))
        return times

    def with_workspace(self, options, size):
        memory = self.device.empty((max(size, 16) // 4 + 1,), "int32")
        options.workspace, options.workspace_bytes = self.device.address(memory), size
        return memory

    def inputs(self, case):
        shape = lambda heads: (case.b, heads, case.s, case.d)
        return [self.device.random(shape(heads), seed) for seed, heads in enumerate((case.h, case.hkv, case.hkv))]

    def captured(self, case):
        """(arrays of what the variant captures, what keeps them alive)"""
        if case.variant != "documents":
            return [], []
        doc = self.device.upload(case.documents())
        return [self.device.array("doc", doc)], [doc]

    def compare(self, case, name, got, want):
        error, largest = self.device.difference(got, want)
        if not error <= DIFFERENCE * max(1.0, largest / 4):
            raise SystemExit(f"{case}: {name} and flexc differ by {error:.3g}")
        return error


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


def attempt(name, call):
    """What a peer gives, or None: it may refuse a case, and that is a result too."""
    try:
        return call()
    except Exception as fault:
        say(f"    {name} cannot run this: {type(fault).__name__}: {(str(fault).splitlines() or [''])[0][:100]}")
        return None


def run_forward(bench, case, objects, targets):
    device = bench.device
    q, k, v = bench.inputs(case)
    captured, keep = bench.captured(case)
    row = {"case": case.label, "variant": case.variant, "d": case.d, "s": case.s, "h": case.h, "hkv": case.hkv}
    calls, outputs = {}, {}
    for target in targets:
        kernel = Kernel(folder_of(bench.work, case.variant, case.d, target), cases.ATTENTION[case.variant], objects)
        o = device.empty((case.b, case.h, case.s, case.d))
        arrays = array_list([device.array(n, t) for n, t in zip("qkvo", (q, k, v, o))] + [Array.make(*ABSENT)] * 2 + captured)
        options = Options.make(device.stream)
        image, splits, pack, size = kernel.plan(arrays, options)
        keep.append(bench.with_workspace(options, size))
        name = f"flexc {target}"
        calls[name] = lambda kernel=kernel, arrays=arrays, options=options: kernel.forward(arrays, options)
        outputs[name] = o
        row[f"{name} image"], row[f"{name} splits"], row[f"{name} pack"], row[f"{name} workspace_bytes"] = kernel.images[image].text, splits, pack, size
        calls[name]()
        device.synchronise()
    own = list(calls)
    for name in own[1:]:
        row[f"difference {name}"] = bench.compare(case.label, name, outputs[name], outputs[own[0]])
    for name, call in device.peers(case, q, k, v, not bench.options.no_autotune).items():
        theirs = attempt(name, call)
        if theirs is not None:
            row[f"difference {name}"] = bench.compare(case.label, name, theirs, outputs[own[0]])
            calls[name] = call
    row.update(rows_of(bench.interleaved(calls), case.flop(), own))
    return row


def run_backward(bench, case, objects, _):
    device = bench.device
    q, k, v = device.with_gradients(*bench.inputs(case))
    captured, keep = bench.captured(case)
    shape = (case.b, case.h, case.s, case.d)
    d_o, o, lse = device.random(shape, 7), device.empty(shape), device.empty(shape[:3], "float32")
    kernel = Kernel(folder_of(bench.work, case.variant, case.d, "backward"), cases.ATTENTION[case.variant], objects)
    plain = [device.plain(x) for x in (q, k, v)]
    arrays = array_list([device.array(n, t) for n, t in zip(("q", "k", "v", "o", "lse"), (*plain, o, lse))] + [Array.make(*ABSENT)] + captured)
    forward, options = Options.make(device.stream), Options.make(device.stream)
    keep.append(bench.with_workspace(forward, kernel.plan(arrays, forward)[3]))
    kernel.forward(arrays, forward)
    results = [device.empty(tuple(x.shape)) for x in plain]
    gradients = array_list([device.array(n, t) for n, t in zip(("d_o", "dq", "dk", "dv"), (d_o, *results))])
    size = kernel.plan_backward(arrays, gradients, options)
    keep.append(bench.with_workspace(options, size))
    own = "flexc sm_80"
    calls = {own: lambda: kernel.backward(arrays, gradients, options)}
    calls[own]()
    device.synchronise()
    row = {"case": case.label, "variant": case.variant, "d": case.d, "s": case.s, "workspace_bytes": size}
    for name, call in device.peers(case, q, k, v, not bench.options.no_autotune).items():
        out = attempt(name, call)
        again = device.gradient_call(out, (q, k, v), d_o) if out is not None else None
        theirs = attempt(name, again) if again else None
        if theirs is not None:
            row[f"difference {name}"] = max(bench.compare(case.label, name, their, our) for their, our in zip(theirs, results))
            calls[name] = again
    row.update(rows_of(bench.interleaved(calls), case.flop(backward=True), [own]))
    return row


def table_of(title, flop):
    def text(results):
        own = sorted({key[: -len(" TFLOP/s")] for row in results["rows"] for key in row if key.startswith("flexc") and key.endswith(" TFLOP/s")}, reverse=True)
        ceilings = ", ".join(f"{value:.0f}" for value in results.get("matmul_tflops", [])) or "not measured"
        lines = [f"# {title} on {results['device']}", "",
                 f"Commit {results['commit']}, driver {results['driver']}, PyTorch {results['torch']}; TFLOP/s of bf16 products of 8192^3 in the same runs: {ceilings}. "
                 f"TFLOP/s count unmasked elements x {flop} D; medians of {results['rounds']} interleaved rounds; in brackets the speed of flexc's first column over the peer's, paired by rounds.",
                 "", "| case | " + " | ".join((*own, *PEERS)) + " |", "|---" * (1 + len(own) + len(PEERS)) + "|"]
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
        if not bench.wants(case.label):
            continue
        if bench.out_of_time(case.label):
            break
        say(case.label)
        row = run(bench, case, *args)
        bench.add(row, text)
        say("    " + ", ".join(f"{name} {value:.3g}" for name, value in row.items() if name.endswith("TFLOP/s")))
        bench.device.clear()
    say(text(bench.results))


def sweep(bench, objects, dims, variants, shapes):
    """Every image that can run a shape, in every shape, and splits: what the choice of the runtime costs against the best. With --write, the limit in runtime/cuda/tuned.def."""
    for variant in variants:
        kernels = {d: Kernel(folder_of(bench.work, variant, d, "all"), cases.ATTENTION[variant], objects) for d in dims}
        for d in dims:
            for shape in shapes:
                label = "{} D={} B={} H={}/{} Q={} K={}".format(variant, d, *shape)
                # A causal mask of few queries keeps few keys only.
                if (variant == "none" or shape[3] == shape[4]) and bench.wants(label):
                    if bench.out_of_time(label):
                        return
                    row = sweep_shape(bench, {size: kernel for size, kernel in kernels.items() if size >= d}, d, label, *shape)
                    bench.add(row, sweep_table)
                    say(f"{label}: best {row['best']}; the runtime's choice takes {row['chosen over best']:.2f} of its time")
                    bench.device.clear()
    limit = tuned.best_limit(bench.results["rows"])
    say(f"kernels with one stripe of rows are best up to {limit} rows of a KV head")
    if bench.options.write and limit is not None:
        file = ROOT / "runtime" / "cuda" / "tuned.def"
        store(file, tuned.with_value(file.read_text(), "kMostRowsOfStripes", limit))
        say(f"written to {file.relative_to(ROOT)}; build again")


def sweep_shape(bench, kernels, d, label, b, h, hkv, queries, keys):
    device = bench.device
    q, k, v = (device.random((b, heads, n, d), seed) for seed, (heads, n) in enumerate(((h, queries), (hkv, keys), (hkv, keys))))
    calls, keep, first, kinds = {}, [], None, {}
    for size_class, kernel in kernels.items():
        for image in ([-1] if size_class == d else []) + list(range(len(kernel.images))):
            # 0: as the runtime chooses them.
            for splits in (0,) if image < 0 or queries > 64 else (0, 1, 4, 16):
                o = device.empty((b, h, queries, d))
                arrays = array_list([device.array(n, t) for n, t in zip("qkvo", (q, k, v, o))] + [Array.make(*ABSENT)] * 2)
                options = Options.make(device.stream, image, splits)
                try:
                    used, used_splits, pack, size = kernel.plan(arrays, options)
                    keep.append(bench.with_workspace(options, size))
                    kernel.forward(arrays, options)
                except RuntimeError as fault:
                    say(f"    {label}: {fault}")
                    continue
                device.synchronise()
                text = f"{kernel.images[used].text} of D={size_class}, {used_splits} splits, {pack} heads"
                first = o if first is None else first
                bench.compare(label, text, o, first)
                name = "chosen" if image < 0 else text
                if splits == 0 and image >= 0:
                    kinds[name] = "stripes" if kernel.images[used].tile_q <= 16 else "tiles"
                calls.setdefault(name, lambda kernel=kernel, arrays=arrays, options=options: kernel.forward(arrays, options))
                keep.append(o)
    times = {name: statistics.median(all_rounds) for name, all_rounds in bench.interleaved(calls).items()}
    best = min(times, key=times.get)
    row = {"case": label, "rows": queries * h // hkv, "ms": times, "best": best, "chosen over best": times["chosen"] / times[best]}
    for kind in ("stripes", "tiles"):
        row[kind] = min((times[name] for name, its in kinds.items() if its == kind), default=None)
    return row


def sweep_table(results):
    lines = [f"# Images and splits on {results['device']}", "",
             f"Commit {results['commit']}, driver {results['driver']}. `chosen`: what the runtime takes by itself (runtime/cuda/tuned.cpp, plan.cpp); its time over that of the best.",
             "", "| launch | best | ms | chosen over best |", "|---|---|---|---|"]
    for row in results["rows"]:
        lines.append(f"| {row['case']} | {row['best']} | {row['ms'][row['best']]:.4f} | {row['chosen over best']:.2f} |")
    return "\n".join(lines) + "\n"
