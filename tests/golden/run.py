#!/usr/bin/env python3
"""Runs the golden cases: whole commands with their whole output. README.md here explains the format.

    run.py --flexc build/release/bin/flexc [--update] [--jobs N] [FILTER...]
    run.py --coverage            every diagnostic code must be shown by some case
"""
import argparse
import concurrent.futures
import difflib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent.parent
SECTION = re.compile(rb"^=== (\w+)(?:: (.*))?$")
FINGERPRINT = re.compile(rb"\b0x[0-9a-f]{16}u\b")  # of generated code, in a header
TIMEOUT_S = 60


class Bad(Exception):
    """A case file that does not follow the format."""


def unescape(text: bytes) -> bytes:
    """`\\xff`, `\\r`, `\\n`, `\\t`, `\\\\`; a line end is dropped; `<<TEXT*N>>` repeats."""
    text = text.replace(b"\n", b"")
    text = re.sub(rb"<<(.*?)\*(\d+)>>", lambda m: m[1] * int(m[2]), text)
    plain = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\"}
    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.)", lambda m: bytes([int(m[1][1:], 16)]) if m[1][:1] == b"x" else plain[m[1]], text)


def parse(path):
    """Returns (head, files, commands): head is all that comes before the first run, as written."""
    files, commands, head, body, end = {}, [], [], None, None
    for line in path.read_bytes().splitlines(keepends=True):
        section = SECTION.match(line.rstrip(b"\n"))
        if section and section[1] == b"run":
            commands.append(section[2].decode())
        if not commands:
            head.append(line)
        if section and not commands:
            if section[1] != b"file" or not section[2]:
                raise Bad(f"unknown section {line!r}")
            name, *flags = section[2].decode().split()
            if flags not in ([], ["escaped"]):
                raise Bad(f"unknown flags {flags}")
            body, end = [], bool(flags)
            files[name] = (body, end)
        elif body is not None and not commands:
            body.append(line)
    if not commands:
        raise Bad("no `=== run:` line")
    return b"".join(head), {n: unescape(b"".join(b)) if e else b"".join(b) for n, (b, e) in files.items()}, commands


def execute(command, flexc, folder):
    words = [w.replace("<repo>", str(REPO)) for w in shlex.split(command)]
    if words[0] == "cat" and len(words) == 2:
        made = folder / words[1]
        text = FINGERPRINT.sub(b"<fingerprint>", made.read_bytes()) if made.is_file() else b"no such file\n"
        return 0 if made.is_file() else 1, b"=== run: %b\nexit %d\n=== stdout\n%b" % (command.encode(), not made.is_file(), text)
    if words[0] != "flexc":
        raise Bad(f"`{command}` starts neither with flexc nor with cat")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FLEXC_", "NO_COLOR", "CLICOLOR"))}
    env.update(LC_ALL="C.UTF-8", HOME=str(folder), XDG_CACHE_HOME=str(folder / ".cache"), TERM="dumb", FLEXC_PTXAS="none")
    done = subprocess.run([str(flexc), *words[1:]], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)

    def clean(data):
        data = data.replace(str(folder).encode(), b"<dir>").replace(str(REPO).encode(), b"<repo>")
        return data if not data or data.endswith(b"\n") else data + b"\n=== no newline\n"

    parts = [f"=== run: {command}\nexit {done.returncode}\n".encode()]
    for name, data in (("stdout", done.stdout), ("stderr", done.stderr)):
        if data:
            parts += [f"=== {name}\n".encode(), clean(data)]
    return done.returncode, b"".join(parts)


def run_case(path, flexc, update):
    """Returns the complaint, or an empty string."""
    try:
        head, files, commands = parse(path)
        with tempfile.TemporaryDirectory(prefix="flexc_golden_") as temporary:
            folder = pathlib.Path(temporary).resolve()
            for name, data in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            results = [execute(c, flexc, folder) for c in commands]
    except (Bad, OSError, subprocess.TimeoutExpired, KeyError) as error:
        return f"{path.relative_to(HERE)}: {error}\n"
    actual = head + b"".join(text for _, text in results)
    crashed = [code for code, _ in results if code < 0 or code == 70]
    if crashed:
        return f"{path.relative_to(HERE)}: the compiler broke (exit {crashed[0]})\n{actual.decode(errors='replace')}"
    if any(code for code, _ in results) != path.name.startswith("fail_"):
        return f"{path.relative_to(HERE)}: a case is called fail_* exactly if a command of it fails\n{actual.decode(errors='replace')}"
    expected = path.read_bytes()
    if actual == expected:
        return ""
    if update:
        path.write_bytes(actual)
        return ""
    diff = difflib.unified_diff(expected.decode(errors="replace").splitlines(True), actual.decode(errors="replace").splitlines(True), "expected", "actual")
    return f"{path.relative_to(HERE)} differs:\n{''.join(diff)}"


def coverage():
    table = (REPO / "diag" / "diagnostics.def").read_text()
    declared = dict(re.findall(r'^FLEX_DIAG\("(\w+)", \w+, \w+, "([\w-]+)"', table, re.M))
    shown = set()
    for path in HERE.rglob("*.golden"):
        shown.update(code.decode() for code in re.findall(rb"(?:error|warning)\[(\w+)\]", path.read_bytes()))
    missing = sorted(set(declared) - shown)
    unknown = sorted(shown - set(declared))
    for code in missing:
        print(f"no golden case shows {code} ({declared[code]})")
    for code in unknown:
        print(f"a golden case shows {code}, which diagnostics.def does not declare")
    print(f"{len(declared) - len(missing)} of {len(declared)} diagnostics are shown")
    return bool(missing or unknown)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--flexc", type=pathlib.Path)
    arguments.add_argument("--update", action="store_true", help="write what the commands print into the cases")
    arguments.add_argument("--coverage", action="store_true")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments.add_argument("filter", nargs="*", help="only cases whose path contains one of these")
    options = arguments.parse_args()
    if options.coverage:
        return coverage()
    if not options.flexc or not options.flexc.exists():
        arguments.error("--flexc must name the compiler")
    cases = [p for p in sorted(HERE.rglob("*.golden")) if not options.filter or any(f in str(p.relative_to(HERE)) for f in options.filter)]
    if not cases:
        arguments.error("no case matches")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        complaints = [c for c in pool.map(lambda p: run_case(p, options.flexc.resolve(), options.update), cases) if c]
    print("".join(c + "\n" for c in complaints), end="")
    print(f"{len(cases) - len(complaints)} of {len(cases)} golden cases pass")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
