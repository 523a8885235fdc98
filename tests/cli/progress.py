"""Long work says on a terminal how far it is, and nowhere else; Ctrl-C ends it without a trace."""

import re
import signal
import subprocess
import time
import unittest

from harness import FLEXC, GALLERY, FlexcTest
from terminal import Terminal

LONG = ["run", GALLERY / "causal.flex", "--device", "interp", "--shape", "H=64,Q=512,D=64"]
LINE = re.compile(r"flexc run.*?(\d+) %(?:, (?:\d+ min )?\d+ s left)?")


class Progress(FlexcTest):
    def start(self, *arguments, columns=80, **environment):
        environment = {**self.environment, "TERM": "xterm", **environment}
        return Terminal([FLEXC, *map(str, arguments)], environment, columns=columns)

    def test_share_and_time_left(self):
        terminal = self.start(*LONG)
        terminal.wait(lambda: len(set(LINE.findall(terminal.raw))) >= 4, "a share")
        shares = [int(each) for each in LINE.findall(terminal.raw)]
        self.assertEqual(shares, sorted(shares))
        self.assertLessEqual(shares[-1], 100)
        self.assertIn(" s left", terminal.screen.text())
        self.assertRegex(terminal.screen.text(), r"\[#*\.*\]")
        self.assertEqual(len(terminal.screen.lines()), 1)   # in place
        begin = time.monotonic()
        terminal.signal(signal.SIGINT)
        self.assertEqual(terminal.close(), 130)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertEqual(terminal.screen.text().replace("^C", ""), "")

    def test_goes_away_at_the_end_and_at_an_error(self):
        arguments = ["run", GALLERY / "causal.flex", "--device", "interp", "--shape", "H=48,Q=512,D=64"]
        terminal = self.start(*arguments)
        self.assertEqual(terminal.close(), 0)
        self.assertRegex(terminal.raw, LINE)
        self.assertNotIn("%", terminal.screen.text())
        self.assertEqual(terminal.screen.lines()[0], "causal  on interp")
        terminal = self.start(*arguments, "--out", self.folder / "none" / "o.npz")
        self.assertEqual(terminal.close(), 1)
        self.assertRegex(terminal.raw, LINE)
        self.assertTrue(terminal.screen.lines()[0].startswith("error[E0002]: cannot write"), terminal.screen.text())
        terminal = self.start(*LONG)
        terminal.wait(lambda: "%" in terminal.screen.text(), "a share")
        terminal.signal(signal.SIGTERM)
        self.assertEqual(terminal.close(), 143)
        self.assertEqual(terminal.screen.text(), "")

    def test_width(self):
        for columns in (18, 30, 50):
            terminal = self.start(*LONG, columns=columns)
            terminal.wait(lambda: "%" in terminal.screen.text(), "a share")
            terminal.resize(20, 25)
            terminal.raw = ""
            terminal.wait(lambda: terminal.raw.count("%") >= 2, "more")
            self.assertEqual(len(terminal.screen.lines()), 1)
            for line in re.findall(r"\r([^\r\x1b]*)", terminal.raw)[1:]:
                self.assertLess(len(line), 25)
            terminal.signal(signal.SIGINT)
            self.assertEqual(terminal.close(), 130)

    def test_emulated_device_and_cpu(self):
        for arguments, name in ((["run", GALLERY / "causal.flex", "--device", "emulated", "--shape", "H=16,Q=1024,D=64", "--dtype", "bf16"], "flexc run"),
                                (["run", GALLERY / "causal.flex", "--shape", "H=16,Q=8192,D=128", "--repeat", "20"], "flexc run"),
                                (["bench", GALLERY / "causal.flex", "--shape", "H=2,D=64", "--sweep", "Q=256,512,1024,2048"], "flexc bench")):
            terminal = self.start(*arguments, FLEXEMU_DEVICE="sm_80")   # whose kernels have many blocks
            terminal.wait(lambda: re.search(name + r"[^\r]*\[#+\.*\]  \d+ %, ", terminal.raw), f"{name}: a share")
            terminal.signal(signal.SIGINT)
            self.assertEqual(terminal.close(), 130)
            self.assertNotIn("%", terminal.screen.text())

    def test_nothing_elsewhere(self):
        quick = ["run", GALLERY / "causal.flex", "--device", "interp", "--shape", "H=8,Q=384,D=64"]
        self.assertEqual(self.flexc(*quick).stderr, "")
        for arguments, environment in ((quick, {"TERM": "dumb"}), ([*quick, "--json"], {})):
            terminal = self.start(*arguments, **environment)
            self.assertEqual(terminal.close(), 0)
            self.assertNotIn("%", terminal.raw)
            self.assertNotIn("\x1b", terminal.raw)

    def test_interrupted_before_a_file_is_there(self):
        for arguments in ([*LONG, "--out", self.path("o.npz")], ["bench", GALLERY / "causal.flex", "--shape", "H=8,D=64", "--sweep", "Q=1024,4096", "--plot", self.path("o.svg")]):
            process = subprocess.Popen([FLEXC, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment)
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            self.assertEqual((process.wait(timeout=60), process.stdout.read(), process.stderr.read()), (130, b"", b""))
            process.stdout.close()
            process.stderr.close()
        self.assertEqual([each.name for each in self.folder.iterdir() if each.is_file()], [])


if __name__ == "__main__":
    unittest.main()
