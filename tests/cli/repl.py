"""flexc repl: a session in a pseudo-terminal, its recorded transcript, editing keys, and scripts."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

import numpy as np
from harness import FLEXC, ROOT, FlexcTest
from terminal import Terminal

PAGE = ROOT / "docs" / "repl.md"
BEGIN, END = "<!-- transcript -->\n```text\n", "```\n<!-- end of transcript -->\n"

# The session of docs/repl.md: what is typed, and the text that ends the answer.
SESSION = [
    (":shape Q=16 H=2\n", "Q=16\n"),
    ("attention near(window: i32 = 4) {\n    mask = sliding_window(window);\n}\n", "  time "),
    ("attention near(window: i32 = 4) {\n    mask = q >= k and q - k < window or k == 0;\n}\n", "; before "),
    ("attention near(window: i32 = 4) { mask = q >= k and q - k < windw or k == 0; }\n", "did you mean"),
    ("attention near(window: i32 = 4, slope: f32[H]) {\n    score = score + slope[h] * (k - q);\n    mask = q >= k and q - k < window or k == 0;\n}\n", "help: write"),
    ("attention near(window: i32 = 4, slope: f32[H]) {\n    score = score + slope[h] * f32(k - q);\n    mask = q >= k and q - k < window or k == 0;\n}\n", "; before "),
    ("slope[h]\n", "range"),
    (":set slope=0.5,0.25 window=3\n", None),
    (":time\n", "  time "),
    (":save near.flex\n", "wrote near.flex: 2 declarations"),
    (":reset\n", None),
    (":load near.flex\n", "  time "),
    (":list\n", ":set window=3"),
    (":quit\n", None),
]


def normalised(text):
    """Times are those of a machine."""
    text = re.sub(r"[0-9.e+-]+ ms", "… ms", text)
    return re.sub(r"[0-9.]+ x plain", "… x plain", text)


def squeeze(lines):
    return "".join(lines).replace(" ", "")


class Interactive(FlexcTest):
    def setUp(self):
        super().setUp()
        self.environment.update(TERM="xterm", XDG_STATE_HOME=self.path("state"), COLUMNS="80")
        self.open = []

    def tearDown(self):
        for each in self.open:
            if each.status is None:
                each.signal(signal.SIGKILL)
                each.close()
        super().tearDown()

    def session(self, *arguments, rows=50, columns=80, **environment):
        self.open.append(Terminal([FLEXC, "repl", *arguments], {**self.environment, **environment}, rows, columns, cwd=self.folder))
        self.open[-1].wait_for("flex>")
        self.open[-1].settle(0.05)
        return self.open[-1]

    def ask(self, terminal, text, until=None):
        """Types an input; the prompt is back and, if asked for, a text has come below the input."""
        terminal.wait(terminal.is_editing, "the editor")
        before = len(terminal.screen.lines())
        lines = text.rstrip("\n").split("\n")
        terminal.send(lines[0] + "\r" if len(lines) == 1 else "\x1b[200~" + "\r".join(lines) + "\x1b[201~\r")
        def done():
            lines = terminal.screen.lines()
            return lines[-1:] == ["flex>"] and len(lines) > before and (until is None or until in "\n".join(lines[before - 1:]))
        terminal.wait(done, f"an answer to {text!r}")

    def cancel(self, terminal):
        terminal.settle(0.1)
        before = len(terminal.screen.lines())
        terminal.send("\x03")
        terminal.wait(lambda: len(terminal.screen.lines()) > before and terminal.screen.lines()[-1] == "flex>", "an empty line")

    def quit(self, terminal):
        terminal.send("\x04")
        self.assertEqual(terminal.close(), 0)
        self.assertEqual(terminal.screen.unknown, [])


class Transcript(Interactive):
    def test_transcript_of_the_documentation(self):
        terminal = self.session(rows=60)
        for text, until in SESSION:
            if text == ":quit\n":
                terminal.send(":quit\r")
                self.assertEqual(terminal.close(), 0)
            else:
                self.ask(terminal, text, until)
        self.assertEqual(terminal.screen.unknown, [])
        text = normalised(terminal.screen.text() + "\n")
        for line in text.splitlines():
            self.assertLessEqual(len(line), 80, line)
        page = PAGE.read_text()
        begin = page.index(BEGIN) + len(BEGIN)
        end = page.index(END, begin)
        if "--update" in sys.argv:
            PAGE.write_text(page[:begin] + text + page[end:])
            return
        self.assertEqual(text, page[begin:end], "the transcript differs: read `tests/cli/repl.py --update`'s diff of docs/repl.md")


class Keys(Interactive):
    def test_completion_hints_and_history(self):
        terminal = self.session("--no-time")
        terminal.send(":sha\t")
        terminal.wait(lambda: "flex> :shape [NAME=EXTENT" in terminal.screen.text() or "flex> :shape  [NAME" in terminal.screen.text(), "a hint")
        terminal.send("Q=8\r")
        terminal.wait_for("H=8 Q=8")
        self.ask(terminal, "attention fading(decay: f32 = 0.5) { score = score * decay; mask = causal(); }\n")
        # Of the session's names, of the library's, of the language's, and of parameters.
        for typed, becomes in (("fad\t", "fading"), ("slid\t", "sliding_window"), ("softc\t\t", "softcap"), ("atte\t", "attention"), ("dec\t", "decay")):
            terminal.send(typed)
            terminal.wait(lambda: terminal.screen.lines()[-1].startswith("flex> " + becomes), becomes)
            self.cancel(terminal)
        terminal.send("softc\t\t")
        terminal.wait_for("softcap_approx")   # several: a list
        self.cancel(terminal)
        terminal.send("sliding_window(")
        terminal.wait_for("sliding_window( window: i32)")
        self.cancel(terminal)
        self.quit(terminal)

        again = self.session("--no-time")
        history = pathlib.Path(self.path("state")) / "flexc" / "history"
        self.assertTrue(history.exists())
        self.assertEqual(history.stat().st_mode & 0o077, 0)
        again.send("\x1b[A")
        again.wait_for("flex> attention fading(decay: f32 = 0.5)")
        again.send("\x1b[A")
        again.wait(lambda: again.screen.lines()[-1] == "flex> :shape Q=8", "the line before")
        again.send("\r")
        again.wait_for("H=8 Q=8")
        self.quit(again)

    def test_several_lines_are_one_text(self):
        terminal = self.session("--no-time", "--shape", "Q=8")
        terminal.send("attention a() {\r")
        terminal.settle(0.1)
        terminal.send("mask = q >= k;")
        terminal.wait(lambda: terminal.screen.lines()[-2:] == ["flex> attention a() {", "    mask = q >= k;"], "an indented line")
        terminal.send("\x1b[A\x01\x1b[1;5C b\x7f\x7f")   # up, to the start, a word on: the first line is edited
        terminal.send("\x1b[B\x05\r")
        terminal.settle(0.1)
        terminal.send("}")
        terminal.wait(lambda: terminal.screen.lines()[-1] == "}", "the brace at the margin")
        terminal.send("\r")
        terminal.wait_for("56.25 % kept")
        # From the history it comes back whole.
        terminal.send("\x1b[A")
        terminal.wait(lambda: terminal.screen.lines()[-3:] == ["flex> attention a() {", "    mask = q >= k;", "}"], "three lines")
        self.cancel(terminal)
        terminal.settle(0.2)
        # What is pasted is inserted, tabs and line ends included, and waits for Enter.
        terminal.send("\x1b[200~attention b() {\r\n\tmask = k < 2;\r\n}\r\n\x1b[201~")
        terminal.wait(lambda: terminal.screen.lines()[-3:] == ["flex> attention b() {", "    mask = k < 2;", "}"], "the paste")
        terminal.send("\r")
        terminal.wait_for("b: mask  b 0, h 0, 25 % kept")
        # Enter twice ends a text that is not finished.
        for key in ("fn f(x: i32) -> i32 = x", "\r", "\r"):
            terminal.send(key)
            terminal.settle(0.1)
        terminal.wait_for("missing `;`")
        self.quit(terminal)

    def test_interrupt_stops_the_work_alone(self):
        terminal = self.session("--no-time", "--shape", "Q=8")
        self.ask(terminal, "attention a() { mask = q >= k; }\n", "kept")
        terminal.send("mask half typed")
        terminal.wait_for("half typed")
        self.cancel(terminal)
        # The interpreter takes minutes for this.
        terminal.send(":run o.npz --device interp --shape Q=30000,H=16,D=64\r")
        time.sleep(1.0)
        begin = time.monotonic()
        terminal.send("\x03")
        terminal.wait_for("stopped")
        self.assertLess(time.monotonic() - begin, 20)
        self.assertFalse(os.path.exists(self.path("o.npz")))
        self.ask(terminal, "a\n", "attention a()")
        self.ask(terminal, ":show\n", "56.25 % kept")
        self.quit(terminal)

    def test_narrow_and_resized(self):
        terminal = self.session("--no-time", "--shape", "Q=8", columns=40)
        long = "attention wide(window: i32 = 3) { mask = q >= k and q - k <= window; }"
        terminal.send(long)
        terminal.wait(lambda: squeeze(terminal.screen.lines()[-2:]) == squeeze(["flex> " + long]), "two rows")
        terminal.resize(50, 100)
        terminal.wait(lambda: terminal.screen.lines()[-1] == "flex> " + long, "one row")
        terminal.resize(50, 30)
        terminal.wait(lambda: squeeze(terminal.screen.lines()[-3:]) == squeeze(["flex> " + long]), "three rows")
        terminal.send("\r")
        terminal.wait_for("kept   . masked")
        for line in terminal.screen.lines():
            self.assertLessEqual(len(line), 30 if "#" in line and "kept" not in line else 100)
        self.quit(terminal)

    def test_colours(self):
        environment = {key: value for key, value in self.environment.items() if key != "NO_COLOR"}
        terminal = Terminal([FLEXC, "repl", "--no-time", "--shape", "Q=8"], environment, cwd=self.folder)
        self.open.append(terminal)
        terminal.wait_for("flex>")
        terminal.send("attention a() { mask = q >= 12; }")
        terminal.wait_for("12; }")
        terminal.settle()
        self.assertIn("\x1b[0;1;35mattention", terminal.raw)   # a keyword
        self.assertIn("\x1b[0;32m12", terminal.raw)            # a number
        plain = self.session("--no-time", "--shape", "Q=8")
        plain.send("attention a() { mask = q >= 12; }\r")
        plain.wait_for("masked")
        plain.settle()
        self.assertNotRegex(plain.raw, r"\x1b\[[0-9;]*3[0-9]m")
        self.quit(plain)

    def test_dumb_terminal(self):
        terminal = self.session("--no-time", "--shape", "Q=8", TERM="dumb")
        terminal.send("attention a() {\n")
        terminal.wait_for("  ...")
        terminal.send("mask = q >= k; }\n")
        terminal.wait_for("56.25 % kept")
        self.assertNotIn("\x1b", terminal.raw)
        terminal.send("\x04")
        self.assertEqual(terminal.close(), 0)


class Script(FlexcTest):
    def setUp(self):
        super().setUp()
        self.environment["XDG_STATE_HOME"] = self.path("state")

    def script(self, text, *arguments, code=0):
        return self.flexc("repl", *arguments, code=code, input=text, cwd=self.folder)

    def test_definitions_and_differences_against_numpy(self):
        out = self.script(":shape Q=12 K=20 H=2\nattention a() { mask = q >= k; }\nattention a() { mask = (q + h) % 3 != k % 2; }\n").stdout
        self.assertNotIn("flex>", out)
        self.assertNotIn("\x1b", out)
        h, q, k = np.ogrid[:2, :12, :20]
        before, now = np.broadcast_to(q >= k, (2, 12, 20)), np.broadcast_to((q + h) % 3 != k % 2, (2, 12, 20))
        self.assertIn(f"{100 * before[0].mean():.4g} % kept", out)
        self.assertIn(f"{100 * now[0].mean():.4g} % kept", out)
        self.assertIn(f"mask: +{(now & ~before).sum()} -{(before & ~now).sum()} of 12 x 20 elements, of 2 heads", out)

    def test_expressions(self):
        out = self.script("1 + 2 * 3\n1 / 2\n2147483647\n16777217 * 3\ntrue and 1 < 0\ninf\n-7 // 2\nh * 2\nlog(0.0)\n{ let x = 3; x * x }\n").stdout
        self.assertEqual(out.splitlines()[:7], ["i32 = 7", "f32 = 0.5", "i32 = 2147483647", "i32 = 50331651", "bool = false", "f32 = inf", "i32 = -4"])
        self.assertIn("i32 along h: 0 2 4 6 8 10 12 14", out)
        self.assertIn("i32 = 9", out)
        out = self.script("attention a(c: f32, t: i32[N]) { let twice = c * 2.0; score = score * twice; }\n:set c=1.5 t=4,5,6\ntwice + 1.0\nt[1] + 1\nt\nsoftcap(c)\n").stdout
        self.assertIn("f32 = 4", out)
        self.assertIn("i32 = 6", out)
        self.assertIn("i32[N]: a parameter of `a`", out)
        self.assertIn("f32 of the score, at -10: -1.5", out)
        result = self.script("k - q + 1.0\n", code=1)
        self.assertIn("<stdin>:1:1: error[E2003]", result.stderr)

    def test_functions_recheck_what_uses_them(self):
        text = ":shape Q=8\nfn reach(x: i32) -> i32 = x + 1;\nattention a() { mask = q >= k and q - k < reach(1); }\nattention other() { mask = q - k < reach(0); }\n"
        out = self.script(text + "fn reach(x: i32) -> i32 = x + 2;\n").stdout
        self.assertIn("other", out[out.rindex("fn reach"):])
        self.assertIn("mask: +6 -0 of 8 x 8", out)
        self.assertIn("a, which uses it, changes", out)
        # A fault in what uses it refuses the new definition, and names the place in what was entered.
        result = self.script(text + "fn reach(x: i32) -> f32 = 1.0;\n", code=1)
        self.assertRegex(result.stderr, r"<stdin>:[34]:\d+: error\[E2003\]")
        self.assertIn("as one input", result.stderr)
        # Both in one input.
        self.script(text.replace("attention other() { mask = q - k < reach(0); }\n", "") +
                    "fn reach(x: f32) -> i32 = i32(x); attention a() { mask = q >= k and q - k < reach(2.0); }\n")

    def test_errors_end_a_script_with_their_place(self):
        result = self.script("\n# a comment\n:shape Q=8\nattention a() {\n    mask = q >= windw;\n}\n:list\n", code=1)
        self.assertIn("<stdin>:5:17: error[", result.stderr)
        self.assertIn("<stdin>:4: stopped here", result.stderr)
        self.assertNotIn("import std", result.stdout)
        for line, words, code in ((":shpe Q=1", "did you mean `:shape`?", 2), (":s", "`:s` may be `:shape`", 2), (":shape Q=x", "expected extents", 1), (":set nothing=1", "nothing has a parameter", 1),
                                  (":show nothing", "nothing is called `nothing`", 1), (":load nowhere.flex", "nowhere.flex", 1), (":in nowhere.npz", "there is no file", 1),
                                  (":time", "there is no attention yet", 1), ("attention a() {", "error[", 1), (":diff", "there is no attention yet", 1)):
            with self.subTest(line=line):
                result = self.script(f":seed 1\n{line}\n:list\n", code=code)
                self.assertIn(words, result.stderr)
                self.assertIn("<stdin>:2: stopped here", result.stderr)
        self.source("attention a() { mask = q >= ; }\n", "s.flexs")
        result = self.flexc("repl", "--script", self.path("s.flexs"), code=1)
        self.assertIn(self.path("s.flexs") + ":1:", result.stderr)

    def test_save_and_load_give_the_same_session(self):
        (self.folder / "lib").mkdir()
        (self.folder / "sub").mkdir()
        self.source("mask even() = k % 2 == 0;\n", "lib/masks.flex")
        self.source('import "../lib/masks.flex";\n\n## Keys before it.\nattention first(window: i32) { mask = even() and q - k <= window; }\n', "sub/first.flex")
        text = (":load sub/first.flex\n:shape Q=24 H=2\n:set window=5\nconst STEP: i32 = 3;\n# of every third\nattention third(slope: f32[H]) { mask = k % STEP == 0; score = score * slope[h]; }\n"
                ":use first\n:save out/saved.flex\n")
        result = self.script(text, code=1)
        self.assertIn("cannot write `out/saved.flex`", result.stderr)
        (self.folder / "out").mkdir()
        first = self.script(text + ":list\n:list third\n:show\n").stdout
        self.flexc("check", "saved.flex", cwd=self.folder / "out")
        again = self.script(":load out/saved.flex\n:list\n:list third\n:show\n:save out/again.flex\n").stdout
        listing = first[first.index("wrote"):].split("\n", 1)[1]
        self.assertIn(listing, again)
        self.assertIn("# of every third", listing)
        self.assertIn("Q=24", (self.folder / "out/saved.flex").read_text())
        self.assertEqual((self.folder / "out/saved.flex").read_text(), (self.folder / "out/again.flex").read_text())
        self.assertEqual(sorted(each.name for each in (self.folder / "out").iterdir()), ["again.flex", "saved.flex"])

    def test_commands(self):
        rng = np.random.default_rng(3)
        arrays = {name: rng.standard_normal((1, 2, 16, 8)).astype(np.float32) for name in "qkv"}
        np.savez(self.path("x.npz"), **arrays, slope=np.array([0.5, 0.25], np.float32))
        out = self.script("attention a(slope: grad f32[H]) { score = score + slope[h] * f32(k - q); mask = q >= k; }\n"
                          ":in x.npz\n:run o.npz\n:grad\n:ir\n:asm\n:ptx --head-dim 64\n:explain\n:bench --repeat 3\n:show score\n:show --tiles 8x8\n:help show\n:help tanh\n:shape\n").stdout
        for words in ("wrote o.npz", "d score / d slope[h] = ", "%0: i32", ".target sm_80", "A tile of queries q0 to q1", "GFLOP/s", "a: score  b 0, h 0", "tiles 8x8 over all b and h", ":show [mask|score]",
                      "tanh(x): f32 -> f32", "the rest from x.npz"):
            self.assertIn(words, out)
        from harness import attention
        want, _ = attention(arrays, mask=lambda b, h, q, k: q >= k, score=lambda s, b, h, q, k: s + np.array([0.5, 0.25])[h] * (k - q))
        np.testing.assert_allclose(np.load(self.path("o.npz"))["o"], want, atol=2e-5)
        out = self.script("attention a() { mask = q >= k; }\nattention a() { mask = q > k; }\n:undo\n:list a\n:drop a\n:list\n").stdout
        self.assertIn("attention a() { mask = q >= k; }", out[out.index("as before"):])
        self.assertTrue(out.endswith("  import std\n"))
        for word in ("help", "?", "help()"):
            self.assertIn(":shape", self.script(word + "\n").stdout)
        self.assertEqual(self.script("quit\nattention a() { mask = nothing; }\n").stdout, self.script("exit()\n").stdout)
        self.assertIn("B=1 D=64 H=2 Q=8", self.script(":shape Q = 8, H = 2\n").stdout)
        result = self.script("fn f(x: i32) -> i32 = x;\nattention a() { mask = f(q) >= k; }\n:drop f\n", code=1)
        self.assertIn("what uses it must go with it", result.stderr)
        out = self.script("mask causal() = q > k;\nattention a() { mask = causal(); }\n:list\n").stdout
        self.assertIn("`import std` is left out", out)
        self.assertEqual(out[out.rindex("kept   ."):].splitlines()[1:], ["  mask causal()", "* attention a()"])

    def test_gradients_of_a_file(self):
        rng = np.random.default_rng(5)
        arrays = {name: rng.standard_normal((1, 2, 16, 8)).astype(np.float32) for name in ("q", "k", "v", "do")}
        np.savez(self.path("x.npz"), **arrays, slope=np.array([0.5, 0.25], np.float32))
        program = "attention a(slope: grad f32[H]) { score = score + slope[h] * f32(k - q); mask = q >= k; }\n"
        out = self.script(program + ":in x.npz\n:grad\n:run g.npz\n").stdout
        self.assertRegex(out, r"d score / d slope\[h\] = .*\n\na  on cpu .*\n.*\n.*\ngradients in [\d.e+-]+ ms")
        self.flexc("run", self.source(program), "--in", self.path("x.npz"), "--out", self.path("h.npz"))
        ours, theirs = np.load(self.path("g.npz")), np.load(self.path("h.npz"))
        self.assertEqual(sorted(ours), ["d_slope", "dk", "dq", "dv", "lse", "o"])
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
        # Without `do` the derivatives alone.
        np.savez(self.path("y.npz"), **{name: arrays[name] for name in "qkv"}, slope=np.array([0.5, 0.25], np.float32))
        self.assertNotIn("gradients in", self.script(program + ":in y.npz\n:grad\n").stdout)

    def test_words_of_other_sessions_and_comparisons(self):
        self.assertIn(":shape", self.script("help\n").stdout)
        for word in ("exit", "quit", ":exit"):
            self.assertNotIn("kept", self.script(f"{word}\nattention a() {{ mask = q >= k; }}\n").stdout)
        out = self.script(":shape Q=32 H=2 D=16\nattention near(w: i32) { mask = q >= k and q - k < w; }\nattention steep(slope: f32) { score = score + slope * f32(k - q); }\n"
                          ":set w=4 slope=0.5\n:bench near steep --repeat 2 --against none\n:bench near steep --sweep Q=16,64 --repeat 2 --json\n").stdout
        self.assertRegex(out, r"\nnear +[\d.]+ ")
        self.assertRegex(out, r"\nsteep +[\d.]+ ")
        rows = json.loads(out[out.rindex("\n[{"):])
        self.assertEqual([(row["variant"], row["shape"]["Q"]) for row in rows[:2]], [("near", 16), ("steep", 16)])
        self.assertEqual(rows[0]["unmasked"], 2 * sum(min(q + 1, 4) for q in range(16)))
        result = self.script("attention a() { mask = q >= k; }\nmask m() = q > k;\n:bench a m\n", code=1)
        self.assertIn("`m` is no attention", result.stderr)

    def test_messages_of_commands_have_the_words_of_a_session(self):
        program = "attention a(doc: i32[N], const w: i32 = 3) { mask = doc[q] == doc[k] and q - k < w; }\n"
        for command, words in ((":run\n", "`:set doc=FILE.npy` or in `:in`"), (":bench --repeat 2\n", "`:set doc=FILE.npy`"), (":shape Q=5 K=4 H=3 HKV=2\n:set doc=0,0,0,0,0\n:run\n", None)):
            result = self.script(program + command, code=1)
            self.assertNotRegex(result.stderr, r"`(--(set|shape|in|seed)|-D)\b")
            if words:
                self.assertIn(words, result.stderr)

    def test_values_that_are_missing(self):
        out = self.script(":shape Q=16\nattention a(doc: i32[N], slope: f32[H], cap: f32) { score = softcap(cap) + slope[h]; mask = doc[q] == doc[k]; }\n:shape N=16\n").stdout
        self.assertIn("`doc`", out)   # an index made up would mean nothing: there is no picture
        self.assertIn("image  none", out)
        self.assertIn("`:set", out)
        self.assertNotIn("--set", out)
        out = self.script(":shape Q=4\nattention a(slope: f32[H], doc: i32[Q]) { score = score + slope[h]; mask = doc[q] == doc[k]; }\n:set doc=0,0,1,1\n"
                          "attention a(slope: f32[H], doc: i32[Q]) { score = score + slope[h]; mask = doc[q] >= doc[k]; }\n"
                          "attention a(slope: f32[H], doc: i32[Q]) { score = score + slope[h] * 2.0; mask = doc[q] >= doc[k]; }\n").stdout
        self.assertEqual(out.count("`slope`: random numbers"), 1)
        self.assertIn("75 % kept", out)
        self.assertIn("change score", out)

    def test_echo_and_large_shapes(self):
        out = self.script(":shape Q=200000\nattention a() { mask = q >= k and q - k < 1000; }\nattention a() { mask = q >= k and q - k < 2000; }\n", "--echo").stdout
        self.assertIn("flex> :shape Q=200000", out)
        self.assertIn("about", out)   # sampled: no answer takes minutes
        gained = int(re.search(r"mask: about \+(\d+) -0", out).group(1))
        self.assertAlmostEqual(gained / (200000 * 1000), 1, delta=0.02)


if __name__ == "__main__":
    unittest.main(argv=[each for each in sys.argv if each != "--update"])
