#!/usr/bin/env python3
"""Predicts from machine code which share of a Hopper GPU's tensor peak a variant can reach. A prediction of a model, not a measurement: no GPU is needed.

    bench/gpu/model.py --flexc build/release/bin/flexc                     # a table of the benchmark's variants in every instance, in Markdown
    bench/gpu/model.py --flexc build/release/bin/flexc --gallery --json    # the gallery, as JSON
    bench/gpu/model.py --ptx FILE [--arch sm_90a]                          # the main loops of any PTX
    bench/gpu/model.py --flexc build/release/bin/flexc --check             # the invariants that the kernels keep; a test

Of each kernel the loop over tiles of keys is found in the machine code (sass.py), its path for a full tile and for one whose mask is evaluated (paths.py), and what these
cost by pipe (pipes.py). From the cycles of a warp in a tile, with W consumer warps on a sub-core (one of each warpgroup and resident block), three figures follow:

    all overlaps    W tiles take as long as the busiest pipe: what no schedule of this code can exceed
    in turn         a warp multiplies or computes, never both, but one warp's products run while another computes:  max(busiest pipe, products + rest of one warp)
    nothing         products of all, then the rest of all: what a schedule reaches that overlaps nothing
    simulated       what simulate.py finds, cycle by cycle, for W warps in steady state: the figure to expect where memory keeps up

For H100, published (16k, no mask): FlashAttention-2, of our sm_80 kernels' form, 0.33, 0.37 and 0.33 for D = 64, 128 and 256. Not in the model: waiting for memory, prologue and epilogue, clocks below the nominal one (8192^3 bf16 products reach 770 to 800 TFLOP/s on an H200: 0.8 of the peak).
"""
import argparse
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import paths  # noqa: E402
import pipes  # noqa: E402
import sass  # noqa: E402
import simulate  # noqa: E402

ROOT = sass.ROOT
SKELETONS = ROOT / "backend" / "skeletons" / "nvptx"
PEAK = 989.4  # TFLOP/s, dense halves of an H100 or H200 SXM
BENCH = {"none": "none", "causal": "causal_only", "alibi": "alibi_causal", "softcap": "softcap_causal", "window": "window", "documents": "documents"}


@dataclasses.dataclass(frozen=True)
class Instance:
    name: str
    arch: str     # what ptxas is told
    element: str
    d: int
    dv: int
    tile_q: int
    tile_k: int
    warps: int    # that multiply
    shared: int

    @property
    def scores(self):
        return self.tile_q * self.tile_k // (32 * self.warps)

    @property
    def useful(self):
        """Cycles of a warp's products of a tile at the peak."""
        rate = 512 * {"BF16": 1.0, "F16": 1.0, "TF32": 0.5}.get(self.element, 0.5)
        return self.tile_q * self.tile_k * (self.d + self.dv) / self.warps / rate


def instances():
    """All forward instances of 16-bit elements for many rows."""
    found = []
    for file, macro, arch in (("instances.def", "FLEX_INSTANCE", "sm_90"), ("instances_sm90a.def", "FLEX_INSTANCE_SM90A", "sm_90a")):
        path = SKELETONS / file
        for line in path.read_text().splitlines() if path.exists() else []:
            row = re.match(rf"{macro}\((\w+),\s*(\w+),\s*([\d,\s]+)\)", line)
            if not row:
                continue
            d, dv, tile_q, tile_k, groups, *rest = map(int, row[3].split(","))
            warps = groups if arch == "sm_90" else groups * 4
            if tile_q > 16 and row[2] in ("BF16", "F16"):
                found.append(Instance(row[1], arch, row[2], d, dv, tile_q, tile_k, warps, rest[-1]))
    return found


@dataclasses.dataclass
class Prediction:
    overlapped: float
    in_turn: float
    nothing: float
    simulated: float  # None where the barriers are of no known form
    bound_by: str


def predict(path, warps, machine, same_block):
    """Shares of the tensor peak of `warps` warps on a sub-core that all walk this path."""
    cost = path.cost
    cycles = simulate.steady_cycles(path.instructions(), warps, machine, same_block)
    of = {"issue slots": cost["issue"], "ALU": cost["alu"], "FMA": max(cost["fma"], cost["heavy"]), "exp2 and the like": cost["xu"], "uniform": cost["uniform"],
          "tensor": cost["tensor"], "shared memory": cost["smem"] * 4}
    of = {name: cycles * warps for name, cycles in of.items()}
    busiest = max(of, key=of.get)
    rest = max(cost["stall"], *(of[name] / warps for name in ("issue slots", "ALU", "FMA", "exp2 and the like")))
    together = max(rest, *(of[name] for name in ("issue slots", "ALU", "FMA", "exp2 and the like")))
    useful = cost["useful"] * warps
    in_turn = max(of[busiest], cost["tensor"] + rest) if warps > 1 else cost["tensor"] + rest
    return Prediction(useful / of[busiest], useful / in_turn, useful / max(in_turn, of["tensor"] + together), min(useful / cycles, useful / of[busiest]) if cycles else None, busiest)


def resident(instance, usage):
    """Consumer warps that a sub-core holds."""
    machine = pipes.MACHINES[instance.arch]
    threads = 32 * instance.warps + (128 if instance.arch == "sm_90a" else 0)
    by_registers = machine.registers // (-(-usage.registers // 8) * 8 * threads) if usage.registers else 1
    by_shared = machine.shared // (instance.shared + usage.shared + 1024)
    return max(1, min(by_registers, by_shared)) * instance.warps // 4


@dataclasses.dataclass
class Result:
    variant: str
    gallery: bool  # or of bench/variants.flex
    instance: Instance
    usage: sass.Usage
    warps: int
    full: paths.Path
    partial: paths.Path
    prediction: Prediction
    partial_prediction: Prediction

    def row(self):
        return {"variant": self.variant, "gallery": self.gallery, "instance": self.instance.name, "arch": self.instance.arch, "d": self.instance.d, "registers": self.usage.registers,
                "spilled": self.usage.spill_stores, "warnings": list(self.usage.warnings), "warps_of_a_sub_core": self.warps,
                "full": dict(self.full.cost), "full_instructions": self.full.count, "partial": dict(self.partial.cost) if self.partial else None,
                "matrix_instructions": self.full.tensor, "prediction": dataclasses.asdict(self.prediction),
                "partial_prediction": dataclasses.asdict(self.partial_prediction) if self.partial else None}


def build(flexc, source, name, instance, out):
    command = [str(flexc), "build", str(source), "--emit=ptx", "--dtype", instance.element.lower(), "--head-dim", str(instance.d), "--v-head-dim", str(instance.dv), "-o", str(out)]
    command += ["--name", name] if name else []
    command += ["--target", "sm_80"] if instance.arch == "sm_90" else ["--target", "sm_90a", "--instance", instance.name]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0:
        raise paths.Unknown(built.stderr.strip().splitlines()[0] if built.stderr.strip() else f"flexc: exit status {built.returncode}")


def judge(flexc, source, name, variant, instance, folder):
    stem = pathlib.Path(folder) / f"{variant}_{instance.name}"
    build(flexc, source, name, instance, f"{stem}.ptx")
    usage = sass.assemble(f"{stem}.ptx", instance.arch, f"{stem}.cubin")
    kernel, function = next((n, f) for n, f in sass.disassemble(f"{stem}.cubin").items() if n.endswith("_forward"))
    machine = pipes.MACHINES[instance.arch]
    analysis = paths.Analysis(function, machine, instance.scores, instance.useful)
    found = analysis.passes()
    if not found:
        raise paths.Unknown(f"{kernel} has no loop with products and exponents")
    # Copies of the loop (a role each, masked and not): the cheapest full tile, the cheapest one with a mask.
    full = min((p.full for p in found), key=lambda p: (p.hidden, p.weight))
    masked = [p.partial for p in found if p.partial] + [p.full for p in found if p.full.hidden > full.hidden]
    partial = min(masked, key=lambda p: p.weight) if masked else None
    warps = resident(instance, usage[kernel])
    same_block = instance.warps > 4
    figures = [predict(each, warps, machine, same_block) if each else None for each in (full, partial)]
    return Result(variant, not name, instance, usage[kernel], warps, full, partial, *figures)


HEAD = """# Predicted share of the tensor peak

**A prediction, not a measurement**: written by `bench/gpu/model.py` from the machine code that ptxas makes, without a GPU. What the columns mean, and what is not in the model,
is at the head of that file; `measured` is filled where `bench/gpu/run.py` has run. Cycles are of one warp and one tile, on a multiprocessor of compute capability 9.0; share is of 989 TFLOP/s.
"""


def share(value):
    return f"{value:.2f}" if value else "-"


def measurements():
    """{(variant, arch, D): "share (TFLOP/s) at S"} of what bench/gpu/run.py has measured, the longest sequence of each."""
    path = ROOT / "bench" / "results" / "gpu_forward.json"
    found = {}
    for row in sorted(json.loads(path.read_text())["rows"], key=lambda row: row["s"]) if path.exists() else []:
        for arch, target in (("sm_90a", "sm_90a"), ("sm_90", "sm_80")):
            if f"flexc {target} TFLOP/s" in row and row["h"] == row["hkv"]:
                rate = row[f"flexc {target} TFLOP/s"]
                found[row["variant"], arch, row["d"]] = f"{rate / PEAK:.2f} ({rate:.0f}), S = {row['s']}"
    return found


COLUMNS = ("variant", "instance", "warps", "registers", "spilled", "products", "issue", "ALU", "FMA", "exp2", "**simulated**", "all overlaps", "in turn", "nothing", "bound by",
           "tile with mask: issue", "simulated", "measured")


def table(rows, measured):
    """Markdown of what Result.row gives."""
    lines = []
    for arch, gallery, words in (("sm_90a", False, "Kernels of sm_90a"), ("sm_90", False, "Kernels of sm_80, assembled for sm_90"), ("sm_90a", True, "The gallery, kernels of sm_90a"),
                                 ("sm_90", True, "The gallery, kernels of sm_80, assembled for sm_90")):
        of = [row for row in rows if row["arch"] == arch and row["gallery"] == gallery]
        if not of:
            continue
        lines += ["", f"## {words}", "", "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        for row in of:
            c, p, m = row["full"], row["prediction"], row["partial"]
            cells = [row["variant"], row["instance"], row["warps_of_a_sub_core"], row["registers"], row["spilled"]]
            cells += [f"{x:.0f}" for x in (c["tensor"], c["issue"], c["alu"], max(c["fma"], c["heavy"]), c["xu"])]
            cells += [f"**{share(p['simulated'])}**", share(p["overlapped"]), share(p["in_turn"]), share(p["nothing"]), p["bound_by"]]
            cells += [f"+{m['issue'] - c['issue']:.0f}", share(row["partial_prediction"]["simulated"])] if m else ["-", "-"]
            cells += [measured.get((row["variant"], arch, row["d"]), "-") if not gallery else "-"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def written(rows):
    """(JSON, Markdown); one row a line."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", HEAD + table(rows, measurements())


def check(results):
    """The invariants, as a list of faults."""
    faults = []
    of = {(r.variant, r.instance.name): r for r in results}
    for r in results:
        where = f"{r.variant} {r.instance.name}"
        # The minimum, at the peak's rate: products of whole tiles and no more. What the code does for a warp is compared in cycles, so that any shape of instruction serves.
        if abs(r.full.cost["useful"] - r.instance.useful) > 1e-6:
            faults.append(f"{where}: products of {r.full.cost['useful']:.0f} cycles a tile, {r.instance.useful:.0f} are needed")
        if r.partial and r.partial.cost["useful"] != r.full.cost["useful"]:
            faults.append(f"{where}: a tile with a mask multiplies differently")
        if r.usage.warnings:
            faults.append(f"{where}: {r.usage.warnings[0]}")
        if r.partial is None:
            faults.append(f"{where}: no path evaluates a mask or the end of the keys")
        elif r.partial.cost["issue"] <= r.full.cost["issue"]:
            faults.append(f"{where}: a tile with a mask costs no more than a full one")
        if not r.prediction.simulated or not 0 < r.prediction.simulated <= r.prediction.overlapped + 1e-6:
            faults.append(f"{where}: simulated {r.prediction.simulated}, at most {r.prediction.overlapped} is possible")
        if not 0 < r.prediction.nothing <= r.prediction.in_turn <= r.prediction.overlapped <= 1:
            faults.append(f"{where}: shares out of order: {r.prediction}")
    for variant in ("causal", "window"):
        for instance in {r.instance.name for r in results}:
            plain, masked = of.get(("none", instance)), of.get((variant, instance))
            if plain and masked:
                allowed = plain.instance.scores // 2  # the walk over tiles differs; a mask takes at least two instructions a score
                if masked.full.hidden != plain.full.hidden or masked.full.cost["issue"] > plain.full.cost["issue"] + allowed:
                    faults.append(f"{variant} {instance}: a full tile costs {masked.full.cost['issue']:.0f} issue slots, {plain.full.cost['issue']:.0f} without a mask")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flexc")
    parser.add_argument("--ptx", help="only the main loops of this file")
    parser.add_argument("--arch", default="sm_90a", help="what --ptx is assembled for")
    parser.add_argument("--gallery", action="store_true", help="the gallery in place of the benchmark's variants")
    parser.add_argument("--variants", default="", help="only these, with commas")
    parser.add_argument("--instances", default="bf16", help="only instances whose name contains this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", help="write the table here and the figures beside it as .json; with the gallery in the sm_90a kernel of D = 128")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for tool in ("ptxas", "nvdisasm"):
        if not sass.find_tool(tool):
            print(f"skipped: there is no {tool} here")
            return 77
    with tempfile.TemporaryDirectory() as folder:
        if options.ptx:
            return show_ptx(options, folder)
        if not options.flexc:
            parser.error("--flexc is missing")
        gallery = [(path.stem, path, "") for path in sorted((ROOT / "examples" / "gallery").glob("*.flex"))]
        bench = [(variant, ROOT / "bench" / "variants.flex", name) for variant, name in BENCH.items()]
        chosen = [instance for instance in instances() if options.instances in instance.name]
        jobs = [(instance, *each) for instance in chosen for each in (gallery if options.gallery else bench)]
        if options.out:
            jobs += [(instance, *each) for instance in chosen if (instance.arch, instance.d, instance.dv) == ("sm_90a", 128, 128) for each in gallery]
        wanted = options.variants.split(",") if options.variants else None
        results, faults = [], []
        for instance, variant, source, name in jobs:
            if wanted and variant not in wanted:
                continue
            try:
                results.append(judge(options.flexc, source, name, variant, instance, folder))
            except (paths.Unknown, sass.ToolError) as error:
                faults.append(f"{variant} {instance.name}: {error}")
    for fault in faults:
        print(fault, file=sys.stderr)
    if options.check:
        faults += check(results)
        print("\n".join(faults))
        print(f"{len(results)} kernels, {len(faults)} faults")
        return 1 if faults or not results else 0
    rows = [result.row() for result in results]
    figures, text = written(rows)
    if options.out:
        for path, content in ((pathlib.Path(options.out), text), (pathlib.Path(options.out).with_suffix(".json"), figures)):
            path.with_suffix(".tmp").write_text(content)
            path.with_suffix(".tmp").replace(path)
    print(figures if options.json else text, end="")
    return 1 if faults else 0


def show_ptx(options, folder):
    usage = sass.assemble(options.ptx, options.arch, f"{folder}/a.cubin")
    machine = pipes.MACHINES[options.arch]
    for name, function in sass.disassemble(f"{folder}/a.cubin").items():
        for each in paths.Analysis(function, machine).passes():
            print(f"{name}: loop at {each.header:#x}, {usage[name].registers} registers, {usage[name].spill_stores} bytes spilled")
            for words, path in (("full", each.full), ("masked", each.partial)):
                if path:
                    print(f"  {words}: " + ", ".join(f"{kind} {value:.0f}" for kind, value in path.cost.items()) + f"; {path.tensor} matrix instructions, {path.hidden} scores hidden")
                    for warps in (1, 2):
                        p = predict(path, warps, machine, True)
                        print(f"    {warps} warps: simulated {share(p.simulated)}, all overlaps {p.overlapped:.2f}, in turn {p.in_turn:.2f}, nothing {p.nothing:.2f}; bound by {p.bound_by}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
