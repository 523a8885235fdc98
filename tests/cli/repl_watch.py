"""flexc watch: runs again on a save, however an editor saves, and on a save of an import."""

import os
import re
import signal
import subprocess
import threading
import time
import unittest

from harness import FLEXC, FlexcTest


class Watch(FlexcTest):
    def start(self, *arguments):
        process = subprocess.Popen([FLEXC, "watch", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment, cwd=self.folder)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.output = []
        reader = threading.Thread(target=lambda: [self.output.append(line) for line in process.stdout], daemon=True)
        reader.start()
        return process

    def text(self):
        return "".join(self.output)

    def wait_runs(self, count):
        """So many runs have ended."""
        end = time.monotonic() + 60
        while len(re.findall(r"^-- (?:ok|exit \d+), \d+ ms$", self.text(), re.MULTILINE)) < count:
            self.assertLess(time.monotonic(), end, self.text())
            time.sleep(0.02)

    def test_saves_of_all_kinds(self):
        (self.folder / "lib").mkdir()
        self.source("mask near(n: i32) = q - k < n;\n", "lib/masks.flex")
        text = 'import "lib/masks.flex";\nattention a() { mask = q >= k and near(4); }\n'
        source = self.source(text, "a.flex")
        process = self.start("a.flex")
        self.wait_runs(1)
        self.assertRegex(self.text(), r"^-- \d\d:\d\d:\d\d a\.flex check\nok: 1 attention: a\n-- ok, \d+ ms\n")
        # In place.
        self.source(text.replace("attention a", "attention b"), "a.flex")
        self.wait_runs(2)
        self.assertIn("ok: 1 attention: b", self.text())
        # Another file, renamed over it.
        self.source(text.replace("attention a", "attention c"), "a.flex.tmp")
        os.rename(self.path("a.flex.tmp"), source)
        self.wait_runs(3)
        self.assertIn("ok: 1 attention: c", self.text())
        # Away for a moment, as editors with backups do.
        os.rename(source, self.path("a.flex~"))
        time.sleep(0.1)
        self.source(text.replace("attention a", "attention d"), "a.flex")
        self.wait_runs(4)
        self.assertIn("ok: 1 attention: d", self.text())
        # An import, to a fault and back; the import is still known when nothing checks.
        self.source("mask near(n: i32) = q - k < ;\n", "lib/masks.flex")
        self.wait_runs(5)
        self.assertIn("-- exit 1,", self.text())
        self.assertIn("lib/masks.flex:1:", self.text())
        self.source("mask near(n: i32) = q - k < n;\n", "lib/masks.flex")
        self.wait_runs(6)
        # Several writes in one go are one run; other files are none.
        for i in range(5):
            self.source(text.replace("attention a", f"attention e{i}"), "a.flex")
        self.source("nothing", "other.flex")
        self.wait_runs(7)
        time.sleep(0.4)
        self.assertEqual(len(re.findall("ok: 1 attention: e", self.text())), 1, self.text())
        self.assertIn("ok: 1 attention: e4", self.text())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=30), 130)

    def test_commands_with_options(self):
        self.source("attention a() { mask = q >= k; }\n")
        self.start("x.flex", "show", "--shape", "Q=8", "--tiles", "4x4")
        self.wait_runs(1)
        self.assertIn("56.25 % kept", self.text())
        self.assertIn("tiles 4x4", self.text())
        self.source("attention a() { mask = q > k; }\n")
        self.wait_runs(2)
        self.assertIn("43.75 % kept", self.text())

    def test_a_save_stops_a_long_run(self):
        self.source("attention a() { mask = q >= k; }\n")
        process = self.start("x.flex", "run", "--device", "interp", "--shape", "Q=30000,H=16")
        time.sleep(1.0)
        self.assertNotIn("-- ok", self.text())
        self.source("attention a() { mask = q >= ; }\n")
        self.wait_runs(1)
        self.assertIn("-- exit 1", self.text())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=30), 130)

    def test_usage(self):
        source = self.source("attention a() {}\n")
        self.assertIn("did you mean `show`?", self.flexc("watch", source, "shw", code=2).stderr)
        self.assertIn("nowhere", self.flexc("watch", "nowhere/x.flex", code=1, cwd=self.folder).stderr)


if __name__ == "__main__":
    unittest.main()
