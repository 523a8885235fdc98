#!/usr/bin/env python3
"""Runs the commands that README.md shows, so that each works as printed.

    readme.py ROOT BUILD   BUILD, the build's folder, stands in for build/release

A block of shell commands after a line `<!-- run -->` is run from the root of the repository and must succeed. A block after
`<!-- output -->` is what the commands before it print; `...` on a line of its own stands for any lines.
"""

import pathlib
import re
import subprocess
import sys

BLOCK = re.compile(r"<!-- (run|output) -->\n+```\w*\n(.*?)```", re.DOTALL)


def matches(expected, actual):
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()) + r"[ \t]*\n" for line in expected.splitlines())
    return re.fullmatch(pattern, actual if actual.endswith("\n") or not actual else actual + "\n") is not None


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, build = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    blocks = BLOCK.findall((root / "README.md").read_text(encoding="utf-8"))
    faults, printed, commands = 0, "", 0
    for kind, body in blocks:
        if kind == "output":
            if not matches(body, printed):
                faults += 1
                print(f"README shows:\n{body}\nbut it prints:\n{printed}")
            continue
        commands += 1
        result = subprocess.run(["bash", "-euc", body.replace("build/release", str(build))], cwd=root, stdin=subprocess.DEVNULL, timeout=300,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        printed = result.stdout
        if result.returncode != 0:
            faults += 1
            print(f"failed with {result.returncode}:\n{body}\n{printed}")
    print(f"{commands} blocks of commands, {faults} faults")
    return commands > 0 and faults == 0


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
