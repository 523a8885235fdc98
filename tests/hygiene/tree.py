#!/usr/bin/env python3
"""Checks the tree that git tracks.

    tree.py ROOT clean     a build and the tests before this one left no file that git would report
    tree.py ROOT text      line counts, stray markers, machine paths, trailing blanks, scripts that cannot be run
    tree.py --self-test    shows that each text rule catches what it is there for
"""

import pathlib
import re
import subprocess
import sys

MAX_LINES = 700
# A kernel skeleton may be longer where its head says why.
MAY_BE_LONG = re.compile(r"LICENSE|backend/skeletons/.*")
TEXT = re.compile(r".*\.(h|cpp|def|inc|py|sh|cmake|txt|md|flex|g4|json|ir|yml)|dev|\.ci/run|LICENSE")

# Written in pieces, so that this file does not match itself.
STRAY = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|DO NOT COM" r"MIT|<<<<" r"<<< |>>>>" r">>> ")
# Places that exist on one machine only: a home directory or a workspace, followed by a name.
MACHINE_PATH = re.compile(r"(?<![\w./$}{*-])/(home|root|Users|work|workspace)/[\w.-]+")


def git(root, *args):
    # The checkout may belong to another user (a container's root, for one), which git refuses unless told.
    result = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(root), *args], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"git {args[0]}: {result.stderr.strip()}")
    return result.stdout


def text_faults(name, text):
    """(line, what) of each fault of one file."""
    lines = text.split("\n")
    if len(lines) - 1 > MAX_LINES and not MAY_BE_LONG.fullmatch(name):
        yield MAX_LINES + 1, f"{len(lines) - 1} lines; {MAX_LINES} is the limit"
    if text and not text.endswith("\n") and not name.endswith(".json"):
        yield len(lines), "no newline at the end"
    for number, line in enumerate(lines, 1):
        if STRAY.search(line):
            yield number, "a marker of unfinished work"
        if MACHINE_PATH.search(line):
            yield number, f"a path of one machine: {MACHINE_PATH.search(line)[0]}"
        if name.endswith((".h", ".cpp", ".py", ".flex", ".cmake")) and line != line.rstrip():
            yield number, "blanks at the end of the line"


def check_text(root):
    faults = []
    for entry in git(root, "ls-files", "-s", "-z").split("\0")[:-1]:
        mode, name = entry.split(" ", 1)[0], entry.split("\t", 1)[1]
        # Inputs and expected outputs of tests hold whatever the test needs.
        if not TEXT.fullmatch(name) or name.startswith(("tests/golden/", "tests/fuzz/")) and not name.endswith((".py", ".cpp", ".h")):
            continue
        path = root / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8")
        faults += [f"{name}:{line}: {what}" for line, what in text_faults(name, text)]
        if text.startswith("#!") and mode != "100755" and not name.endswith(".py"):
            faults.append(f"{name}:1: a script without the right to be run")
    print("\n".join(faults + [f"{len(faults)} faults"]))
    return not faults


def check_clean(root):
    # Compared with the state before the build if ./dev recorded one: a developer's own edits are no fault of the build.
    now = git(root, "status", "--porcelain").splitlines()
    before_file = root / "build" / "status-before"
    before = before_file.read_text().splitlines() if before_file.is_file() else []
    new = [line for line in now if line not in before]
    print("\n".join(new + [f"{len(new)} files changed or left behind since the build began (edits made meanwhile count too)"]))
    return not new


def self_test():
    wrong = [("a.cpp", "int x;\n" * (MAX_LINES + 1)), ("a.cpp", "// TO" "DO: later\n"), ("a.py", "open('/home" "/ann/x')\n"),
             ("a.md", "see /work" "/main/x\n"), ("a.cpp", "int x; \n"), ("a.h", "int x;"), ("a.md", "<<<<" "<<< HEAD\n")]
    right = [("a.cpp", "int x;\n" * MAX_LINES), ("a.md", "build/release/bin, $HOME/x, /usr/bin/env, ~/.cache/flexc\n"), ("LICENSE", "x\n" * 900)]
    bad = [pair for pair in wrong if not list(text_faults(*pair))] + [pair for pair in right if list(text_faults(*pair))]
    print(f"self-test: {len(wrong) + len(right)} cases, wrong answers: {bad}")
    return not bad


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) != 3 or sys.argv[2] not in ("clean", "text"):
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1]).resolve()
    return check_clean(root) if sys.argv[2] == "clean" else check_text(root)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
