#!/usr/bin/env python3
"""Writes unicode_tables.h: what BERT's text normalisation needs of Unicode, from Python's unicodedata.

    make_unicode_tables.py > unicode_tables.h

Folding is canonical decomposition, without non-spacing marks (Mn), in lower case. Hangul syllables decompose by a formula and are left out.
"""

import sys
import unicodedata


def fold(c):
    return "".join(x for x in unicodedata.normalize("NFD", c) if unicodedata.category(x) != "Mn").lower()


def ranges(wanted):
    """[first, last] of the code points whose category `wanted` accepts."""
    out = []
    for code in range(0x110000):
        if not wanted(unicodedata.category(chr(code))):
            continue
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def rows(items, width=140):
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            yield line
            line = "   "
        line += " " + item + ","
    yield line


def table(kind, name, comment, items):
    print(f"\n// {comment}\nconstexpr {kind} {name}[] = {{")
    print("\n".join(rows(items)))
    print("};")


def main():
    folds = []
    for code in range(0x80, 0x110000):
        if 0xAC00 <= code < 0xD7A4 or 0xD800 <= code < 0xE000 or unicodedata.category(chr(code)) == "Mn":
            continue
        to = fold(chr(code))
        if to != chr(code):
            if len(to) > 3:
                sys.exit(f"U+{code:04X} folds to {len(to)} code points")
            folds.append("{" + ", ".join([f"{code:#x}"] + [f"{ord(x):#x}" for x in to]) + "}")
    print(f"// Made by make_unicode_tables.py from Unicode {unicodedata.unidata_version}.\n#pragma once\n")
    print("struct CodeRange {\n    char32_t first, last;\n};\nstruct CodeFold {\n    char32_t from, first, second = 0, third = 0;\n};")
    print("\n// clang-format off")
    table("CodeRange", "kMarks", "Non-spacing marks: dropped.", [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(lambda c: c == "Mn")])
    table("CodeRange", "kPunctuation", "Punctuation: words of their own. ASCII signs are added by the tokeniser.",
          [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(lambda c: c[0] == "P")])
    table("CodeRange", "kControls", "Controls, formats and private use: dropped.", [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(lambda c: c in ("Cc", "Cf", "Co"))])
    table("CodeRange", "kSpaces", "Spaces.", [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(lambda c: c == "Zs")])
    table("CodeFold", "kFolds", "What else than itself a code point becomes.", folds)


if __name__ == "__main__":
    main()
