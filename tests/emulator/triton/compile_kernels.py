#!/usr/bin/env python3
"""Compiles kernels.py and gluon_kernels.py to PTX, without a GPU: compile_kernels.py FOLDER writes FOLDER/triton_NAME.ptx.

The first line of each is a comment with what a launch needs: kernel, warps, bytes of dynamic shared memory. Needs the package `triton`.
"""

import pathlib
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource, GluonJITFunction

import gluon_kernels
import kernels

VARIANTS = kernels.VARIANTS | gluon_kernels.VARIANTS


def compile_variant(name, folder):
    function, types, constants, warps, stages, architecture = VARIANTS[name]
    arguments = [a for a in function.arg_names if a not in constants]
    # Pointers and sizes divisible by 16, as Triton finds them at run time: without it there is no cp.async.
    attributes = {(function.arg_names.index(a),): [["tt.divisibility", 16]] for a, t in zip(arguments, types) if t.startswith("*") or a.startswith("stride") or (function.__name__.startswith("matmul") and a in "MNK")}
    kind = GluonASTSource if isinstance(function, GluonJITFunction) else ASTSource
    source = kind(function, dict(zip(arguments, types)), constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": warps, "num_stages": stages})
    text = "\n".join(line for line in compiled.asm["ptx"].splitlines() if not line.lstrip().startswith((".loc", ".file", "//")))
    # Debug sections would carry the paths of this machine.
    if "\t.section" in text:
        text = text[: text.index("\t.section")]
    head = f"// kernel {compiled.metadata.name} warps {warps} shared {compiled.metadata.shared} triton {triton.__version__}\n"
    (folder / f"triton_{name}.ptx").write_text(head + text.replace(", debug", "").rstrip() + "\n")


if __name__ == "__main__":
    for each in sys.argv[2:] or VARIANTS:
        compile_variant(each, pathlib.Path(sys.argv[1]))
