"""The TextMate grammar of editors/: every word of the repository's .flex files gets the scope that its place wants, and nothing is left plain.

    grammar.py                 by the small engine below (match, begin and end, captures, include), which editors' engines agree with
    grammar.py --with-engine   by textmate-grammar-python (PyPI), on Oniguruma, and compares
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
GRAMMAR = ROOT / "editors" / "vscode" / "syntaxes" / "flex.tmLanguage.json"
FILES = sorted(p for folder in ("stdlib", "examples", "bench", "tests/unit") for p in (ROOT / folder).rglob("*.flex"))

EXTRA = '''import "masks.flex"; import std;
const TILE: i32 = 0xff_0; fn ramp(d: i32) -> f32 = { let x = 1.5e-3; x * .5 };
mask near(inner: mask, w: i32 = 4) = inner(q = k, k = q) and not (q - k > w) or k == 1_000;
score s() = score |> softcap(c = 2.0) + (if q >= k then 1. else -inf);
attention full(const n: i32, t: grad f32[H, 2 * N - 1]) {
    normalize = sigmoid;
    emit e = mean(-log(weight));  # behind
    query = query[d] << 2;
    mask = any(j in 0..n: j != k);
}
'''
EXPECTED = {  # (word, occurrence): a scope
    ("import", 0): "keyword.control.import", ('masks.flex', 0): "string.quoted", ("std", 0): "entity.name.namespace", ("const", 0): "storage.type.const",
    ("TILE", 0): "variable.other.constant", ("0xff_0", 0): "constant.numeric.hex", ("fn", 0): "storage.type.function", ("ramp", 0): "entity.name.function",
    ("1.5e-3", 0): "constant.numeric.float", (".5", 1): "constant.numeric.float", ("mask", 1): "storage.type.function", ("mask", 2): "storage.type.primitive",
    ("inner", 0): "variable.parameter", ("inner", 1): "entity.name.function.call", ("not", 0): "keyword.operator.logical", ("1_000", 0): "constant.numeric.integer",
    ("score", 1): "variable.language.score", ("|>", 0): "keyword.operator.pipe", ("if", 0): "keyword.control.conditional", ("1.", 1): "constant.numeric.float",
    ("inf", 0): "constant.language", ("attention", 0): "storage.type.attention", ("full", 0): "entity.name.function.attention", ("const", 1): "storage.modifier",
    ("grad", 0): "storage.modifier", ("H", 0): "constant.other.extent", ("normalize", 0): "keyword.other.clause", ("sigmoid", 0): "support.constant",
    ("emit", 0): "keyword.other.clause", ("mean", 0): "support.function", ("log", 0): "support.function.builtin", ("weight", 0): "variable.language",
    ("# behind", 0): "comment.line", ("query", 0): "keyword.other.clause", ("query", 1): "variable.language", ("<<", 0): "keyword.operator.bitwise",
    ("mask", 3): "keyword.other.clause", ("any", 0): "support.function.reduction", ("in 0", 0): "keyword.control.in", ("..", 0): "keyword.operator.range",
    ("0", 2): "constant.numeric.integer",
}


class Engine:
    def __init__(self, grammar):
        self.grammar = grammar
        self.compiled = {}

    def regex(self, text):
        return self.compiled.setdefault(text, re.compile(text))

    def rules(self, patterns):
        for p in patterns:
            if "include" in p:
                target = self.grammar["repository"][p["include"][1:]]
                yield from self.rules([target] if "match" in target or "begin" in target else target["patterns"])
            else:
                yield p

    def tokenise(self, text):
        """For each line, the scopes of each character."""
        stack, lines = [({"patterns": self.grammar["patterns"]}, [])], []
        for line in text.split("\n"):
            scopes, at = [[] for _ in line], 0
            while at <= len(line):
                rule, inside = stack[-1]
                best = None
                if "end" in rule:
                    found = self.regex(rule["end"]).search(line, at)
                    best = (found, None) if found else None
                for each in self.rules(rule.get("patterns", [])):
                    found = self.regex(each.get("match") or each["begin"]).search(line, at)
                    if found and (best is None or found.start() < best[0].start()):
                        best = (found, each)
                begin, end = best[0].span() if best else (len(line), len(line) + 1)
                for i in range(at, min(begin, len(line))):
                    scopes[i] = list(inside)
                if not best:
                    break
                found, each = best
                base = inside if each is None else inside + ([each["name"]] if "name" in each else [])
                for i in range(begin, end):
                    scopes[i] = list(base)
                captures = rule.get("endCaptures", {}) if each is None else each.get("captures", each.get("beginCaptures", {}))
                for group, capture in captures.items():
                    for i in range(*found.span(int(group))):
                        if i >= 0:
                            scopes[i].append(capture["name"])
                if each is None:
                    stack.pop()
                elif "begin" in each:
                    stack.append((each, base))
                if begin == end and each is not None:
                    raise AssertionError(f"a rule matches nothing: {each}")
                at = end
            lines.append(scopes)
        return lines


def check(text, lines, name):
    faults = []
    for number, (line, scopes) in enumerate(zip(text.split("\n"), lines), 1):
        for i, c in enumerate(line):
            if not c.isspace() and not [s for s in scopes[i] if not s.startswith("meta.")]:
                faults.append(f"{name}:{number}:{i + 1}: `{c}` has no scope")
                break
        comment = line.find("#")
        if comment >= 0 and '"' not in line[:comment]:
            kind = "comment.line.documentation" if line[comment:].startswith("##") else "comment.line.number-sign"
            if not all(any(s.startswith(kind) for s in each) for each in scopes[comment:]):
                faults.append(f"{name}:{number}: a comment is not `{kind}`")
        clause = re.match(r"    (scale|score|mask|sink|blocks|query|key|output|emit|normalize)\b[^=(]*=", line)
        if clause and not any(s.startswith("keyword.other.clause") for s in scopes[4]):
            faults.append(f"{name}:{number}: `{clause[1]}` is no clause: {scopes[4]}")
        code = line if comment < 0 else line[:comment]
        for number_at in re.finditer(r"(?<![\w.])\d[\w.]*?(?=\.\.|[^\w.]|$)", code):
            if not any(s.startswith("constant.numeric") for s in scopes[number_at.start()]) and '"' not in code:
                faults.append(f"{name}:{number}: `{number_at[0]}` is no number")
    return faults


def main():
    grammar = json.loads(GRAMMAR.read_text())
    engine = Engine(grammar)
    faults = []
    for path in FILES:
        text = path.read_text()
        faults += check(text, engine.tokenise(text), path.relative_to(ROOT))
    lines = engine.tokenise(EXTRA)
    faults += check(EXTRA, lines, "EXTRA")
    flat = [scopes for line in lines for scopes in line + [[]]]
    for (word, occurrence), scope in EXPECTED.items():
        at = -1
        for _ in range(occurrence + 1):
            at = EXTRA.index(word, at + 1)
        if not any(s.startswith(scope) for s in flat[at]):
            faults.append(f"`{word}` ({occurrence}) is not `{scope}`: {flat[at]} in {EXTRA[at - 10:at + 10]!r}")
    # Names that the compiler knows and the grammar does not.
    names = re.findall(r'Builtin\{"(\w+)"', (ROOT / "frontend" / "sema_names.cpp").read_text())
    for name in names:
        scopes = engine.tokenise(f"score s() = {name}(1.0);")[0][12]
        if not any(s.startswith("support.function") for s in scopes):
            faults.append(f"the builtin `{name}` is {scopes}")
    if sys.argv[1:] == ["--with-engine"]:
        from textmate_grammar.parsers.base import LanguageParser
        parser, compared = LanguageParser(grammar), 0
        for path in [*FILES, None]:
            text = path.read_text() if path else EXTRA
            mine = engine.tokenise(text)
            for (line, column), token, scopes in parser.parse_string(text).flatten():
                if token.strip():
                    compared += 1
                    own = mine[line][column + len(token) - len(token.lstrip())]
                    if own[-1:] != scopes[-1:]:
                        faults.append(f"{path}:{line + 1}:{column + 1}: `{token}` is {own} here, {scopes} there")
        print(f"{compared} tokens compared")
    print("\n".join(faults[:40] + [f"{len(FILES)} files, {len(names)} builtins, {len(faults)} faults"]))
    return 1 if faults or not names or len(FILES) < 40 else 0


if __name__ == "__main__":
    sys.exit(main())
