#!/usr/bin/env python3
"""Writes the seed corpus of fuzz_frontend: every .flex file of the repository and every input of the golden cases."""
import importlib.util
import pathlib
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent.parent
MAX_BYTES = 4096


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.spec_from_file_location("run", REPO / "tests" / "golden" / "run.py")
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    texts = {}
    for path in sorted([*(REPO / "stdlib").rglob("*.flex"), *(REPO / "examples").rglob("*.flex")]):
        texts[path.stem] = path.read_bytes()
    for path in sorted((REPO / "tests" / "golden").rglob("*.golden")):
        for name, text in golden.parse(path)[1].items():
            if name.endswith(".flex"):
                texts[f"{path.stem}_{pathlib.Path(name).stem}"] = text
    for name, text in texts.items():
        # Long files in pieces: each declaration is of interest, not their number.
        for at in range(0, min(len(text), 16 * MAX_BYTES), MAX_BYTES):
            (folder / f"{name}_{at}").write_bytes(text[at:at + MAX_BYTES])
    print(f"{len(texts)} seeds")


if __name__ == "__main__":
    sys.exit(main())
