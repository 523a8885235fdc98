#!/usr/bin/env python3
"""Checks the arrows between the layers: which folder includes which header.

    layers.py ROOT         exit 1 and one line a fault if an #include breaks a rule
    layers.py --self-test  shows that each rule catches what it is there for

A rule names, for a layer, the project headers and the outside libraries that it may include. The standard library and a layer's own
headers are always allowed. Tests stand outside the layers and may include anything. Read with docs/architecture.md.
"""

import pathlib
import re
import sys

# Prefixes of project paths; a file name allows that header alone.
LAUNCH_INTERFACE = ["runtime/abi.h", "runtime/gpu_abi.h", "runtime/gpu_layout.h", "runtime/kernel.h", "runtime/launch.h", "runtime/linked.h", "runtime/status.h", "runtime/summary.h", "runtime/tensor.h"]
PROJECT = {
    "diag": [],
    "ir": ["diag/"],
    "frontend": ["diag/", "ir/"],
    "runtime": [],
    "backend": ["diag/", "ir/"] + LAUNCH_INTERFACE,
    "driver": ["diag/", "ir/", "frontend/", "backend/", "runtime/"],
    "flexc": ["diag/", "ir/", "frontend/", "driver/", "runtime/"],
    "lsp": ["diag/", "frontend/"],
    "tools": ["diag/", "ir/", "frontend/", "runtime/", "driver/", "lsp/"],
    "emulator": [],
}

# Outside libraries by the start of the include, and the layers that may use each.
LIBRARIES = {
    "antlr4": ["frontend"],
    "llvm": ["backend"],
    "clang": ["backend"],
    "fmt/": ["diag", "ir", "frontend", "backend", "driver", "tools", "emulator"],
    "CLI/": ["tools"],
    "nlohmann/": ["tools", "driver", "lsp"],
    "png.h": ["tools"],
    "histedit.h": ["tools"],
    "zip.h": ["tools"],
    "zlib.h": ["tools"],
    "zstd.h": ["tools", "driver", "emulator"],
    "xxhash.h": ["driver"],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def fault(layer, opening, path):
    """Why a file of `layer` may not include `path`; None if it may. `opening` is < or \"."""
    top = path.split("/")[0]
    for library, users in LIBRARIES.items():
        if path.startswith(library):
            return None if layer in users else f"{library.rstrip('/')} belongs to {', '.join(users)}"
    if top == layer and "/" in path:
        return None
    if top in PROJECT and "/" in path:
        if any(path == allowed or (allowed.endswith("/") and path.startswith(allowed)) for allowed in PROJECT[layer]):
            return None
        return f"{layer}/ may include of the project only: {', '.join(PROJECT[layer]) or 'itself'}"
    if top in ("tests", "bench", "examples"):
        return f"{top}/ is not for the layers"
    if opening == '"' and "/" in path:
        return "unknown folder: paths are written from the root of the repository"
    if layer == "runtime" and opening == "<" and "." in path and not SYSTEM_HEADER.match(path):
        return "the runtime uses the standard library and the system only"
    return None


# C and POSIX headers that the runtime may use besides the standard library's, which have no ending.
SYSTEM_HEADER = re.compile(r"(std(int|def|bool|lib|io)|string|math|errno|dlfcn|pthread|sched|unistd|cpuid|\w*intrin|sys/\w+|linux/\w+|asm/\w+)\.h$")


def check_text(layer, text):
    """(line, include, reason) of each fault."""
    for match in INCLUDE.finditer(text):
        reason = fault(layer, match[1], match[2])
        if reason:
            yield text.count("\n", 0, match.start(2)) + 1, match[2], reason


def check(root):
    faults, seen = [], 0
    for layer in PROJECT:
        for file in sorted((root / layer).rglob("*")):
            if file.suffix not in (".h", ".cpp", ".def", ".inc") or not file.is_file():
                continue
            seen += 1
            for line, path, reason in check_text(layer, file.read_text(encoding="utf-8")):
                faults.append(f"{file.relative_to(root)}:{line}: {path}: {reason}")
    if seen == 0:
        faults.append(f"no source files under {root}")
    print("\n".join(faults + [f"{seen} files, {len(faults)} wrong includes"]))
    return not faults


def self_test():
    wrong = [("diag", '"ir/ir.h"'), ("ir", '"frontend/ast.h"'), ("ir", "<llvm/IR/Module.h>"), ("ir", "<antlr4-runtime.h>"),
             ("frontend", '"backend/cpu/compile.h"'), ("frontend", '"runtime/kernel.h"'), ("backend", '"frontend/frontend.h"'),
             ("backend", '"runtime/cpu/pack.h"'), ("backend", "<antlr4-runtime/antlr4-runtime.h>"), ("runtime", "<fmt/format.h>"),
             ("runtime", '"diag/check.h"'), ("runtime", "<png.h>"), ("runtime", "<curl/curl.h>"), ("driver", '"tools/io/array.h"'),
             ("driver", "<llvm/ADT/StringRef.h>"), ("tools", '"backend/cpu/compile.h"'), ("tools", '"flexc/flexc.h"'), ("flexc", '"backend/cpu/compile.h"'), ("ir", '"tests/oracle.h"'),
             ("lsp", '"driver/compiler.h"'), ("lsp", '"tools/cli.h"'), ("frontend", "<nlohmann/json.hpp>")]
    right = [("ir", '"diag/check.h"'), ("ir", "<vector>"), ("ir", "<fmt/format.h>"), ("frontend", "<antlr4-runtime.h>"),
             ("backend", "<llvm/IR/Module.h>"), ("backend", '"llvm/IR/Module.h"'), ("backend", '"runtime/abi.h"'),
             ("runtime", "<immintrin.h>"), ("runtime", '"runtime/cpu/pack.h"'), ("driver", '"backend/cpu/compile.h"'),
             ("tools", '"driver/compiler.h"'), ("tools", '"lsp/server.h"'), ("lsp", "<nlohmann/json.hpp>")]
    bad = [pair for pair in wrong if not list(check_text(pair[0], f"#include {pair[1]}\n"))]
    bad += [pair for pair in right if list(check_text(pair[0], f"  # include {pair[1]} // x\n"))]
    print(f"self-test: {len(wrong) + len(right)} cases, wrong answers: {bad}")
    return not bad


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(0 if (self_test() if sys.argv[1] == "--self-test" else check(pathlib.Path(sys.argv[1]))) else 1)
