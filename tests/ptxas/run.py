#!/usr/bin/env python3
"""Assembles flexc's PTX with ptxas, where there is one, and holds registers, spills and shared memory against budget.txt.

    run.py --flexc BIN            exit 1 and one line a fault if a kernel fails to assemble or exceeds its budget; 77 without ptxas 12.4 or later
    run.py --flexc BIN --update [--only TEXT]   writes what ptxas says now as the budget: read the diff
    run.py --flexc BIN --table [--only TEXT]    only prints registers, spills and warnings, in Markdown

A line of the budget is  VARIANT DTYPE HEAD_DIM KERNEL ARCH REGISTERS SPILLED_BYTES SHARED_BYTES.  KERNEL is long or short, the forward kernel for many or few rows;
backward_queries or backward_keys; or the name of an instance of sm_90a. The gallery is assembled for sm_80 and sm_90a with bf16 and 128; causal with every type and head dimension class for every
architecture (backward: for two), and in every instance of sm_90a: so each instance is seen on each, and each variant once.

Of kernels made for sm_90a, registers are those at entry, and two things are faults whatever the budget says: a warning C75xx (ptxas waits for each product by itself, or leaves registers as
they are), and setmaxnreg that asks for more registers than the block was given at entry, which would wait for ever.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUDGET = pathlib.Path(__file__).with_name("budget.txt")
ARCHS = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
SLACK = 8  # registers: versions of ptxas differ by some


def find_ptxas():
    folders = [os.environ.get(name, "") + "/bin" for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda/bin"]
    found = shutil.which("ptxas") or next((f"{f}/ptxas" for f in folders if os.access(f"{f}/ptxas", os.X_OK)), None)
    if not found:
        return None, "there is no ptxas here"
    text = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"release (\d+)\.(\d+)", text)
    if not version or (int(version[1]), int(version[2])) < (12, 4):
        return None, f"{found} is older than 12.4"
    return found, f"ptxas {version[1]}.{version[2]}"


def instances_sm90a():
    """(name, dtype, head dim)"""
    text = (ROOT / "backend" / "skeletons" / "nvptx" / "instances_sm90a.def").read_text()
    return [(name, element.lower(), int(d)) for name, element, d in re.findall(r"^FLEX_INSTANCE_SM90A\((\w+),\s*(\w+),\s*(\d+)", text, re.M)]


def kernels():
    """(variant, dtype, head dim, kernel, architectures)"""
    for path in sorted((ROOT / "examples" / "gallery").glob("*.flex")):
        yield path.stem, "bf16", 128, "long", ("sm_80",)
        yield path.stem, "bf16", 128, "backward", ("sm_80",)
        yield path.stem, "bf16", 128, "long", ("sm_90a",)
    for instance, dtype, dim in instances_sm90a():
        yield "causal", dtype, dim, instance, ("sm_90a",)
    for dtype in ("bf16", "f16", "f32"):
        for dim in (64, 128, 256):
            for rows in ("long", "short"):
                archs = ARCHS if (dtype, dim, rows) != ("bf16", 128, "long") else ARCHS[1:]
                yield "causal", dtype, dim, rows, archs
        for dim in (64, 128, 256):
            yield "causal", dtype, dim, "backward", ("sm_90",) if (dtype, dim) == ("bf16", 128) else ("sm_80", "sm_90")
    for dim in (32, 96, 192):
        yield "causal", "bf16", dim, "long", ARCHS
        yield "causal", "bf16", dim, "backward", ("sm_80",)


def command_of(flexc, kernel, ptx):
    variant, dtype, dim, name, archs = kernel
    hopper = archs == ("sm_90a",)
    special = {"short": ["--short-queries"], "backward": ["--grad"], "long": []}
    command = [flexc, "build", str(ROOT / "examples" / "gallery" / f"{variant}.flex"), "--emit=ptx", "--dtype", dtype, "-o", ptx]
    command += ["--target", "sm_90a" if hopper else "sm_80"] + special.get(name, ["--instance", name])
    # An instance whose classes of D and DV differ has both in its name.
    dv = re.match(r"sm90a_\w+?_\d+_(\d+)_\d+x", name)
    return command + ["--head-dim", str(dim)] + (["--v-head-dim", dv[1]] if dv else [])


def waits_for_ever(ptx, registers):
    """A fault if warpgroups ask for more registers than the block has, else None."""
    body = ptx.split("_forward(", 1)[-1].split(".visible .entry", 1)[0]
    threads = re.search(r"\.maxntid\s+(\d+)", body)
    more, fewer = (re.search(rf"setmaxnreg\.{which}\.sync\.aligned\.u32\s+(\d+)", body) for which in ("inc", "dec"))
    if not (more and fewer and threads):
        return None
    groups = int(threads[1]) // 128
    wanted = 128 * (int(more[1]) * (groups - 1) + int(fewer[1]))
    return f"setmaxnreg wants {wanted} registers of {128 * groups * registers}" if wanted > 128 * groups * registers else None


def measure(flexc, ptxas, kernel, folder):
    """(lines of the budget for one kernel, faults)"""
    variant, dtype, dim, rows, archs = kernel
    stem = folder / f"{variant}_{dtype}_{dim}_{rows}_{archs[0]}"
    command = command_of(flexc, kernel, f"{stem}.ptx")
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0:
        return [], [f"{' '.join(command)}: {built.stderr.strip()}"]
    lines, faults = [], []
    for arch in archs:
        where = f"{variant} {dtype} {dim} {rows} for {arch}"
        # What has no kernel of its own for sm_90a (too much captured) is made for sm_80 and assembled as such.
        told = arch if arch != "sm_90a" or ".target sm_90a" in pathlib.Path(f"{stem}.ptx").read_text() else "sm_90"
        assembled = subprocess.run([ptxas, f"-arch={told}", "-v", f"{stem}.ptx", "-o", f"{stem}_{arch}.cubin"], capture_output=True, text=True)
        if assembled.returncode != 0:
            return [], [f"{where}: {assembled.stderr.strip()[:300]}"]
        faults += [f"{where}: {warning}" for warning in sorted(set(re.findall(r"[^\n]*\bC75\d\d\b[^\n]*", assembled.stderr)))]
        for name, suffix in ((rows, "_forward"),) if rows != "backward" else (("backward_queries",) * 2, ("backward_keys",) * 2):
            entry = re.search(rf"Compiling entry function '\w+?_?{suffix}'.*?Used (\d+) registers[^\n]*", assembled.stderr, re.S)
            if not entry:
                return [], faults + [f"{where}: ptxas says nothing of the kernel {name}"]
            spilled = re.search(r"(\d+) bytes spill stores", entry[0])
            shared = re.search(r"(\d+) bytes smem", entry[0])
            lines.append((variant, dtype, str(dim), name, arch, int(entry[1]), int(spilled[1]) if spilled else 0, int(shared[1]) if shared else 0))
            if told == "sm_90a":
                if stuck := waits_for_ever(pathlib.Path(f"{stem}.ptx").read_text(), int(entry[1])):
                    faults.append(f"{where}: {stuck}")
    return lines, faults


def table(lines, faults):
    out = ["| variant | type | D | kernel | for | registers | spilled |", "|---|---|---|---|---|---|---|"]
    out += ["| " + " | ".join(map(str, line[:7])) + " |" for line in lines]
    return "\n".join(out + [""] + [f"- {fault}" for fault in faults])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flexc", required=True)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", default="", help="only kernels whose words hold this text: \"causal bf16\", \"sm_90a\"")
    options = parser.parse_args()
    ptxas, words = find_ptxas()
    if not ptxas:
        print(f"skipped: {words}")
        return 77
    budget = {}
    for line in BUDGET.read_text().splitlines() if BUDGET.exists() else []:
        if line and not line.startswith("#"):
            *key, registers, spilled, shared = line.split()
            budget[tuple(key)] = (int(registers), int(spilled), int(shared))
    faults, lines = [], []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        wanted = [kernel for kernel in kernels() if options.only in " ".join(map(str, (*kernel[:4], *kernel[4])))]
        for got, wrong in pool.map(lambda kernel: measure(options.flexc, ptxas, kernel, pathlib.Path(folder)), wanted):
            lines += got
            faults += wrong
    if options.table:
        print(table(lines, faults))
        return 1 if faults else 0
    if options.update and not faults:
        # Of --only, the other lines stay.
        measured = {tuple(line[:5]): line for line in lines}
        kept = [] if not options.only else [(*key, *numbers) for key, numbers in budget.items() if key not in measured]
        head = f"# Of {words}. VARIANT DTYPE HEAD_DIM KERNEL ARCH REGISTERS SPILLED_BYTES SHARED_BYTES; written by run.py --update.\n"
        BUDGET.write_text(head + "".join(" ".join(map(str, line)) + "\n" for line in kept + lines))
        print(f"{len(lines)} kernels written to {BUDGET.name}")
        return 0
    for *key, registers, spilled, shared in lines:
        allowed = budget.get(tuple(key))
        name = " ".join(key)
        if not allowed:
            faults.append(f"{name}: no budget; run with --update and read the diff")
            continue
        if registers > allowed[0] + SLACK:
            faults.append(f"{name}: {registers} registers, {allowed[0]} allowed")
        if spilled > allowed[1] + (0 if allowed[1] == 0 and registers < 255 else 64):
            faults.append(f"{name}: {spilled} bytes spilled, {allowed[1]} allowed")
        if shared > allowed[2]:
            faults.append(f"{name}: {shared} bytes of static shared memory, {allowed[2]} allowed")
    print("\n".join(faults))
    print(f"{words}: {len(lines)} kernels, {sum(line[6] > 0 for line in lines)} of them spill, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
