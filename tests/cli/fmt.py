"""flexc fmt, end to end: every .flex file of the repository is in the canonical layout; files, links, pipes and permissions."""

import os
import pathlib
import re
import stat
import unittest

from harness import ROOT, FlexcTest

UGLY = "attention   a(w:i32=4){mask=q-k<=w and k<=q;# near\n}\n"
NEAT = "attention a(w: i32 = 4) {\n    mask = q - k <= w and k <= q;  # near\n}\n"


class Fmt(FlexcTest):
    def test_repository_is_formatted(self):
        for folder in ("stdlib", "examples", "bench", "tests/unit"):
            self.flexc("fmt", "--check", ROOT / folder)

    def test_documentation_is_formatted(self):
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
            for text in re.findall(r"^```flex\n(.*?)^```", page.read_text(), re.M | re.S):
                self.assertEqual(self.flexc("fmt", "-", input=text).stdout, text, page)

    def test_file_is_rewritten(self):
        path = self.source(UGLY)
        os.chmod(path, 0o640)
        self.assertEqual(self.flexc("fmt", path).stdout, "")
        self.assertEqual(pathlib.Path(path).read_text(), NEAT)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        before = os.stat(path)
        self.flexc("fmt", path)
        self.assertEqual(os.stat(path).st_ino, before.st_ino, "a file that is formatted is not written")
        self.assertEqual(sorted(os.listdir(self.folder)), ["x.flex"])

    def test_check(self):
        ugly, neat = self.source(UGLY), self.source(NEAT, "y.flex")
        result = self.flexc("fmt", "--check", neat, ugly, code=1)
        self.assertIn(f"{ugly}: not in the canonical layout\n", result.stdout)
        self.assertNotIn(neat, result.stdout)
        self.assertIn("\n-attention   a(w:i32=4){", result.stdout)
        self.assertIn("\n+    mask = q - k <= w and k <= q;  # near\n", result.stdout)
        self.assertIn("1 of 2 files", result.stderr)
        self.assertEqual(pathlib.Path(ugly).read_text(), UGLY)
        self.assertEqual(self.flexc("fmt", "--check", neat).stdout, "")

    def test_pipe(self):
        self.assertEqual(self.flexc("fmt", "-", input=UGLY).stdout, NEAT)
        self.assertEqual(self.flexc("fmt", "--check", "-", input=NEAT).stdout, "")
        self.flexc("fmt", "--check", "-", input=UGLY, code=1)
        self.assertEqual(self.flexc("fmt", "-", input="").stdout, "")

    def test_crlf_and_byte_order_mark(self):
        path = self.folder / "x.flex"
        path.write_bytes(b"\xef\xbb\xbf" + UGLY.replace("\n", "\r\n").encode())
        self.flexc("fmt", path)
        self.assertEqual(path.read_bytes(), NEAT.replace("\n", "\r\n").encode())
        self.flexc("fmt", "--check", path)

    def test_syntax_error_leaves_the_file(self):
        wrong, ugly = self.source("attention a() { mask = causal() }", "a.flex"), self.source(UGLY)
        result = self.flexc("fmt", wrong, ugly, code=1)
        self.assertIn("error[E1010]", result.stderr)
        self.assertEqual(pathlib.Path(wrong).read_text(), "attention a() { mask = causal() }")
        self.assertEqual(pathlib.Path(ugly).read_text(), NEAT, "the others are formatted")
        self.assertEqual(self.flexc("fmt", "-", input="attention", code=1).stdout, "")

    def test_type_errors_do_not_matter(self):
        self.assertEqual(self.flexc("fmt", "-", input="mask m()=score+nothing;").stdout, "mask m() = score + nothing;\n")

    def test_folder_and_link(self):
        (self.folder / "sub").mkdir()
        target = pathlib.Path(self.source(UGLY, "sub/x.flex"))
        self.source("not a program", "sub/x.txt")
        link = self.folder / "link.flex"
        link.symlink_to(target)
        self.flexc("fmt", link)
        self.assertTrue(link.is_symlink())
        self.assertEqual(target.read_text(), NEAT)
        target.write_text(UGLY)
        self.flexc("fmt", self.folder / "sub")
        self.assertEqual(target.read_text(), NEAT)

    def test_unreadable_and_unwritable(self):
        self.assertIn("error[E0001]", self.flexc("fmt", self.path("none.flex"), code=1).stderr)
        self.assertIn("FILE is required", self.flexc("fmt", code=2).stderr)
        if os.geteuid() != 0:
            path = self.source(UGLY)
            os.chmod(path, 0o444)
            self.assertIn("error[E0002]", self.flexc("fmt", path, code=1).stderr)


if __name__ == "__main__":
    unittest.main()
