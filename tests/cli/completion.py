"""flexc completion: what the shells complete, and that the man page has every command and option."""

import re
import shutil
import subprocess
import unittest

from harness import FLEXC, FlexcTest


class Completion(FlexcTest):
    def script(self, kind):
        result = subprocess.run([FLEXC, "completion", kind], capture_output=True, text=True, env=self.environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def options(self):
        """(command, long options) as the help pages have them."""
        commands = re.findall(r"^  (\w+) {2,}", self.help().split("Subcommands:")[1], re.MULTILINE)
        self.assertGreaterEqual(len(commands), 7)
        return [(command, re.findall(r"^  (?:-\w,)?(--[\w-]+)", self.help(command), re.MULTILINE)) for command in commands]

    def help(self, *command):
        return subprocess.run([FLEXC, *command, "--help"], capture_output=True, text=True, env=self.environment).stdout

    def complete(self, *words):
        """What bash offers for the last word."""
        quoted = " ".join("'" + word + "'" for word in ("flexc", *words))
        program = f"{self.script('bash')}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _flexc; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=self.folder)
        self.assertEqual(result.stderr, "")
        return set(result.stdout.split("\n")) - {""}

    def test_bash(self):
        self.assertLessEqual({"run", "repl", "bench"} & {c for c, _ in self.options()}, self.complete(""))
        self.assertEqual(self.complete("expl"), {"explain"})
        for command, options in self.options():
            self.assertLessEqual(set(options), self.complete(command, "--"), command)
        self.assertEqual(self.complete("run", "--device", ""), {"cpu", "interp", "emulated", "cuda"})
        self.assertEqual(self.complete("run", "x.flex", "--dtype", "b"), {"bf16"})
        self.source("attention a { mask = q >= k; }", "a mask.flex")
        self.source("no source", "notes.txt")
        (self.folder / "folder").mkdir()
        self.assertEqual(self.complete("run", ""), {"a mask.flex", "folder"})
        self.assertEqual(self.complete("run", "--in", "n"), {"notes.txt"})

    def test_zsh_and_fish(self):
        for shell in ("zsh", "fish"):
            text = self.script(shell)
            for command, options in self.options():
                self.assertIn(command, text)
                for option in options:
                    self.assertIn(option if shell == "zsh" else f"-l {option[2:]}", text)
            if shutil.which(shell):
                result = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True)
                self.assertEqual((result.returncode, result.stderr), (0, ""), shell)

    def test_man(self):
        text = self.script("man")
        plain = text.replace("\\-", "-")
        for command, options in self.options():
            self.assertIn(f'.SH "COMMAND {command}"', text)
            for option in options:
                self.assertIn(f"\\fB{option}\\fR", plain)
        if shutil.which("groff"):
            result = subprocess.run(["groff", "-man", "-Tascii", "-ww"], input=text, capture_output=True, text=True)
            self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_unknown_shell(self):
        result = subprocess.run([FLEXC, "completion", "tcsh"], capture_output=True, text=True, env=self.environment)
        self.assertEqual(result.returncode, 2)
        self.assertEqual(result.stdout, "")


if __name__ == "__main__":
    unittest.main()
