#!/usr/bin/env python3
"""Compiles the .cu files of a folder with nvcc, for several architectures, and runs their kernels on a driver library.

    nvcc_test.py FOLDER EMULATOR_KERNELS LIBRARY [--write FOLDER]

Files whose name begins with hopper are for compute_90a alone. --write keeps the PTX for compute_80 (or that), as it stands in tests/emulator/ptx. Exit status 77 where there is no nvcc, or no host compiler for it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile


def find_nvcc():
    found = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    return found if pathlib.Path(found).exists() else None


def compile_all(nvcc, sources, target, folder):
    for source in sources:
        hopper = source.stem.startswith("hopper")
        if hopper != (target == "compute_90a"):
            continue
        out = folder / f"{'' if hopper else 'nvcc_'}{source.stem}.ptx"
        subprocess.run([nvcc, "-std=c++17", "-w", f"-arch={target}", "-ptx", str(source), "-o", str(out)], check=True)


def run_fatbins(nvcc, source, kernels, library):
    """The same kernels out of containers: plain, and compressed in the ways that nvcc has."""
    status = 0
    for mode in ("none", "size", "speed"):
        with tempfile.TemporaryDirectory() as name:
            out = pathlib.Path(name) / f"nvcc_{source.stem}.ptx"
            # A cubin beside the PTX, as programs carry them, must be passed over.
            command = [nvcc, "-arch=sm_80", "-fatbin", f"--compress-mode={mode}", str(source), "-o", str(out)]
            if subprocess.run(command, capture_output=True).returncode:
                print(f"this nvcc does not know --compress-mode={mode}")
                continue
            print(f"fatbin, compressed for {mode}", flush=True)
            status |= subprocess.run([kernels, library, name, "--compiler", out.stem, "--seeds", "1"]).returncode
    return status


def main():
    nvcc = find_nvcc()
    if not nvcc or not shutil.which("g++"):
        print("skipped: there is no nvcc with a host compiler")
        return 77
    sources = sorted(pathlib.Path(sys.argv[1]).glob("*.cu"))
    if "--write" in sys.argv:
        for target in ("compute_80", "compute_90a"):
            compile_all(nvcc, sources, target, pathlib.Path(sys.argv[sys.argv.index("--write") + 1]))
        return 0
    status = run_fatbins(nvcc, next(s for s in sources if s.stem == "basic"), sys.argv[2], sys.argv[3])
    # From compute_90 on libcu++ copies in bulk.
    for target in ("compute_80", "compute_90", "compute_90a"):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            compile_all(nvcc, sources, target, folder)
            print(target, flush=True)
            status |= subprocess.run([sys.argv[2], sys.argv[3], name, "--compiler", "hopper" if target == "compute_90a" else "nvcc", "--seeds", "2"]).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
