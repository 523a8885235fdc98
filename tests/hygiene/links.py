#!/usr/bin/env python3
"""Checks that what the pages point at exists: links to files, and paths in `code` that begin with a folder of the repository.

    links.py ROOT
"""

import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"`([\w./-]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1]).resolve()
    listed = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "*.md"], capture_output=True, text=True, check=True)
    folders = {path.name for path in root.iterdir() if path.is_dir() and path.name != "build"}
    faults, seen = [], 0
    for page in listed.stdout.splitlines():
        text = FENCE.sub("", (root / page).read_text(encoding="utf-8"))
        for target in LINK.findall(text):
            if "://" not in target:
                seen += 1
                if not ((root / page).parent / target).exists():
                    faults.append(f"{page}: the link to {target} leads nowhere")
        for path in CODE.findall(text):
            if "/" in path and path.split("/")[0] in folders:
                seen += 1
                if not (root / path).exists():
                    faults.append(f"{page}: `{path}` does not exist")
    print("\n".join(faults + [f"{seen} references, {len(faults)} wrong"]))
    return seen > 0 and not faults


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
