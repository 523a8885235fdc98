#!/usr/bin/env python3
"""flexc explain CODE: every diagnostic has a longer text, and its examples do what they say. And diagnostics as a SARIF log.

The executable is named by the environment variable FLEXC.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

DEFINITIONS = pathlib.Path(__file__).resolve().parents[2] / "diag" / "diagnostics.def"
# What a few lines of source cannot show: limits, imports of several files, and what follows from the command line, arrays or devices.
WITHOUT_EXAMPLE = re.compile(r"[EW]0|E100[1-5]|E200[789]|E2041|E3|W3|E4|W4")


def main():
    flexc = pathlib.Path(os.environ["FLEXC"]).resolve()
    folder = pathlib.Path(tempfile.mkdtemp())
    failures = []

    def run(*args):
        return subprocess.run([flexc, *args], cwd=folder, capture_output=True, text=True)

    def codes_of(source):
        (folder / "example.flex").write_text(source, encoding="utf-8")
        result = run("check", "example.flex")
        return set(re.findall(r"\[([EW]\d{4})\]", result.stderr)), result

    codes = re.findall(r'FLEX_DIAG\("(\w+)", \w+, \w+, "([^"]+)"', DEFINITIONS.read_text(encoding="utf-8"))
    for code, name in codes:
        result = run("explain", code, "--json")
        if result.returncode != 0:
            failures.append(f"explain {code}: exit {result.returncode}: {result.stderr}")
            continue
        entry = json.loads(result.stdout)
        if entry["name"] != name or not entry["text"] or len(entry["text"][0]) < 40:
            failures.append(f"{code}: no text: {entry}")
        if ("wrong" in entry) != ("right" in entry) or ("wrong" in entry) == bool(WITHOUT_EXAMPLE.match(code)):
            failures.append(f"{code}: an example that is missing, or more than is expected")
        if "wrong" in entry:
            found, result = codes_of(entry["wrong"])
            if found != {code}:
                failures.append(f"{code}: its wrong example gives {sorted(found)}: {result.stderr}")
            found, result = codes_of(entry["right"])
            if found or result.returncode != 0:
                failures.append(f"{code}: its right example gives {sorted(found)}: {result.stderr}")
    page = run("explain", "e2003").stdout
    if page != run("explain", "type-mismatch").stdout or "This gives it:" not in page or max(map(len, page.splitlines()[1:])) > 100:
        failures.append("explain e2003: " + page)
    unknown = run("explain", "E9999")
    if unknown.returncode != 1 or "E9999" not in unknown.stderr:
        failures.append(f"explain E9999: exit {unknown.returncode}: {unknown.stderr}")
    (folder / "E2003").write_text("attention a { mask = q >= k; }\n", encoding="utf-8")
    if "type-mismatch" in run("explain", "E2003").stdout:
        failures.append("a file called E2003 comes before the code")

    (folder / "sarif.flex").write_text("attention a(s: f32[H]) {\n  mask = q => k;\n  score = score + s[q_idx];\n}\n", encoding="utf-8")
    result = run("check", "sarif.flex", "--sarif")
    log = json.loads(result.stdout)
    results = log["runs"][0]["results"]
    rules = {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]}
    places = [r["locations"][0]["physicalLocation"]["region"]["startLine"] for r in results]
    if result.returncode != 1 or log["version"] != "2.1.0" or places != sorted(places) or {r["ruleId"] for r in results} != rules or not rules:
        failures.append("check --sarif: " + result.stdout)
    (folder / "sarif.flex").write_text("attention a(s: f32[Q]) { score = score + s[q_idx]; }\n", encoding="utf-8")
    entry = json.loads(run("check", "sarif.flex", "--sarif").stdout)["runs"][0]["results"][0]
    replacement = entry["fixes"][0]["artifactChanges"][0]["replacements"][0]
    if replacement["insertedContent"]["text"] != "q" or replacement["deletedRegion"]["startColumn"] != 44:
        failures.append(f"check --sarif: the fix of q_idx: {replacement}")
    if json.loads(run("check", "example.flex", "--sarif").stdout)["runs"][0]["results"]:
        failures.append("check --sarif: a correct file has results")

    for failure in failures:
        print(failure)
    print(f"{len(codes)} codes, {len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
