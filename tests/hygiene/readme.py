#!/usr/bin/env python3
"""Runs the commands that README.md and the pages of docs/ show, so that each works as printed, and checks the programs that all pages show.

    readme.py ROOT BUILD   BUILD, the build's folder, stands in for build/release

A block of shell commands (```sh) after a line `<!-- run -->` is run from the root of the repository and must succeed. One that is not run says why: `<!-- not run: REASON -->`. Commands
stand in such blocks, not in indented lines. A block after
`<!-- output -->` is what the commands before it print; `...` on a line of its own stands for any lines, within a line for any text. A block after
`<!-- file PATH -->` is that file. A ```flex block is a whole file, except in docs/language.md, which shows parts (tests/language has the whole).
"""

import pathlib
import re
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"<!-- (run|output|file \S+) -->\n+```\w*\n(.*?)```", re.DOTALL)
SHELL = re.compile(r"^(.*)\n+```sh\n", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4,}((?:[A-Z_]+=\S+ )*(?:\./|build/|flexc |cmake |ctest |git |python3 |emulator_)\S*.*)$", re.MULTILINE)
PROGRAM = re.compile(r"^```flex\n(.*?)^```", re.DOTALL | re.MULTILINE)


def check_programs(root, flexc):
    """Faults in the programs that the pages show."""
    faults = seen = 0
    for page in [root / "README.md", *sorted(set((root / "docs").glob("*.md")) - {root / "docs" / "language.md"}), *sorted((root / "examples").rglob("*.md"))]:
        for text in PROGRAM.findall(page.read_text(encoding="utf-8")):
            seen += 1
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder) / "shown.flex"
                file.write_text(text, encoding="utf-8")
                result = subprocess.run([str(flexc), "check", str(file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
            if result.returncode != 0 or "warning[" in result.stdout:
                faults += 1
                print(f"{page.relative_to(root)} shows a program that is refused or warned of:\n{result.stdout}")
    print(f"{seen} programs, {faults} faults")
    return seen > 0 and faults == 0


def check_marks(page, text):
    """Commands that are neither run nor said to be none."""
    faults = 0
    for before in SHELL.findall(text):
        if before != "<!-- run -->" and not re.fullmatch(r"<!-- not run: \S.* -->", before):
            faults += 1
            print(f"{page.name}: the commands after the line `{before}` are neither run nor is said why not")
    for command in INDENTED.findall(FENCED.sub("", text)):
        faults += 1
        print(f"{page.name}: `{command}` stands in an indented line: write a block of ```sh")
    return faults


def matches(expected, actual):
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ \t]*\n" for line in expected.splitlines())
    return re.fullmatch(pattern, actual if actual.endswith("\n") or not actual else actual + "\n") is not None


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, build = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    faults = commands = 0
    for page in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        printed = ""
        faults += check_marks(page, page.read_text(encoding="utf-8"))
        for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if kind.startswith("file"):
                if (root / kind.split()[1]).read_text(encoding="utf-8") != body:
                    faults += 1
                    print(f"{page.name} does not show {kind.split()[1]} as it is")
                continue
            if kind == "output":
                if not matches(body, printed):
                    faults += 1
                    print(f"{page.name} shows:\n{body}\nbut it prints:\n{printed}")
                continue
            commands += 1
            result = subprocess.run(["bash", "-euc", body.replace("build/release", str(build))], cwd=root, stdin=subprocess.DEVNULL, timeout=300,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            printed = result.stdout
            if result.returncode != 0:
                faults += 1
                print(f"{page.name}: failed with {result.returncode}:\n{body}\n{printed}")
    print(f"{commands} blocks of commands, {faults} faults")
    return check_programs(root, build / "bin" / "flexc") and commands > 0 and faults == 0


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
