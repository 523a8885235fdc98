"""A program in a pseudo-terminal, and what its screen shows: the part of a VT100 that line editors use, written down once.

`Terminal` starts the program, types into it, and waits for text. `lines()` are the rows of the screen with what has scrolled off above them.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

SEQUENCE = re.compile(r"\x1b(?:\[([?>=]*)([0-9;]*)([@A-Za-z`])|([()][A-Z0-9])|([78=>DEM]))")


class Screen:
    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.above, self.cells = [], [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.wrap = self.insert = False   # wrap: the cursor stands behind the last column
        self.saved = (0, 0, False)
        self.rest = ""
        self.unknown = []

    def line_feed(self):
        if self.row + 1 < self.rows:
            self.row += 1
            return
        self.above.append(self.cells.pop(0))
        self.cells.append([" "] * self.columns)

    def put(self, letter):
        if self.wrap:
            self.column, self.wrap = 0, False
            self.line_feed()
        line = self.cells[self.row]
        if self.insert:
            line.insert(self.column, " ")
            line.pop()
        line[self.column] = letter
        if self.column + 1 < self.columns:
            self.column += 1
        else:
            self.wrap = True

    def control(self, parameters, final):
        numbers = [int(each) if each else 0 for each in parameters.split(";")] if parameters else []
        n = max(1, numbers[0] if numbers else 1)
        line = self.cells[self.row]
        if final in "ABCDGHfd":
            self.wrap = False
        if final == "A":
            self.row = max(0, self.row - n)
        elif final == "B":
            self.row = min(self.rows - 1, self.row + n)
        elif final == "C":
            self.column = min(self.columns - 1, self.column + n)
        elif final == "D":
            self.column = max(0, self.column - n)
        elif final in "G`":
            self.column = min(self.columns, n) - 1
        elif final in "Hf":
            self.row, self.column = min(self.rows, n) - 1, min(self.columns, max(1, numbers[1] if len(numbers) > 1 else 1)) - 1
        elif final == "K":
            how = numbers[0] if numbers else 0
            begin, end = (self.column, self.columns) if how == 0 else (0, self.column + 1) if how == 1 else (0, self.columns)
            line[begin:end] = [" "] * (end - begin)
        elif final == "J":
            how = numbers[0] if numbers else 0
            if how == 0:
                line[self.column:] = [" "] * (self.columns - self.column)
            for row in range(self.row + 1 if how == 0 else 0, self.rows):
                self.cells[row] = [" "] * self.columns
        elif final == "P":
            del line[self.column:self.column + n]
            line.extend([" "] * (self.columns - len(line)))
        elif final == "@":
            line[self.column:self.column] = [" "] * n
            del line[self.columns:]
        elif final in "hl" and parameters == "4":
            self.insert = final == "h"
        elif final not in "mhlrn":
            self.unknown.append((parameters, final))

    def feed(self, text):
        text = self.rest + text
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                match = SEQUENCE.match(text, at)
                if not match:
                    if len(text) - at > 20:
                        self.unknown.append(text[at:at + 5])
                        at += 1
                        continue
                    break   # the rest of the sequence has not come yet
                private, parameters, final, _, single = match.groups()
                if final and not private:
                    self.control(parameters, final)
                elif single == "7":
                    self.saved = (self.row, self.column, self.wrap)
                elif single == "8":
                    self.row, self.column, self.wrap = self.saved
                at = match.end()
                continue
            letter = text[at]
            at += 1
            if letter == "\r":
                self.column, self.wrap = 0, False
            elif letter == "\n":
                self.line_feed()
            elif letter == "\b":
                self.column, self.wrap = max(0, self.column - 1), False
            elif letter == "\t":
                self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
            elif letter >= " ":
                self.put(letter)
        self.rest = text[at:]

    def resize(self, rows, columns):
        """As a terminal that cuts lines and does not fold them anew."""
        self.cells = [(line + [" "] * columns)[:columns] for line in self.cells]
        while len(self.cells) > rows:
            if self.row + 1 < len(self.cells):
                self.cells.pop()
            else:
                self.above.append(self.cells.pop(0))
                self.row -= 1
        while len(self.cells) < rows:
            self.cells.append([" "] * columns)
        self.rows, self.columns = rows, columns
        self.column = min(self.column, columns - 1)

    def lines(self):
        out = ["".join(line).rstrip() for line in self.above + self.cells]
        while out and not out[-1]:
            out.pop()
        return out

    def text(self):
        return "\n".join(self.lines())


class Terminal:
    def __init__(self, arguments, environment, rows=40, columns=80, cwd=None, patience=int(os.environ.get("FLEXC_PATIENCE", "60"))):
        self.screen, self.raw, self.patience = Screen(rows, columns), "", patience
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.child, self.file = pty.fork()
        if self.child == 0:
            if cwd:
                os.chdir(cwd)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvpe(arguments[0], arguments, environment)
        self.status = None
        self.resize_kernel(rows, columns)

    def resize_kernel(self, rows, columns):
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        self.resize_kernel(rows, columns)   # which sends SIGWINCH

    def pump(self, seconds):
        """Reads what has come, for at most so long. False at the end."""
        if not select.select([self.file], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.file, 1 << 16)
        except OSError:
            data = b""
        text = self.decoder.decode(data)
        self.raw += text
        self.screen.feed(text)
        return bool(data)

    def is_editing(self):
        """Whether a line editor reads keys: then the terminal does not echo what is typed."""
        return not termios.tcgetattr(self.file)[3] & termios.ECHO

    def send(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.file, data):]

    def wait(self, condition, what):
        end = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > end or not self.pump(0.2):
                self.pump(0)
                if condition():
                    return
                raise AssertionError(f"{what} did not come; the screen shows\n{self.screen.text()}")

    def wait_for(self, text):
        self.wait(lambda: text in self.screen.text(), f"`{text}`")

    def settle(self, seconds=0.3):
        """Until nothing has come for so long."""
        before = None
        while before != len(self.raw):
            before = len(self.raw)
            self.pump(seconds)

    def signal(self, which):
        os.kill(self.child, which)

    def close(self):
        """The exit code; minus the signal."""
        if self.status is None:
            end = time.monotonic() + self.patience
            while True:
                pid, status = os.waitpid(self.child, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > end:
                    os.kill(self.child, signal.SIGKILL)
                self.pump(0.05)
            while self.pump(0):
                if not select.select([self.file], [], [], 0)[0]:
                    break
            self.status = os.waitstatus_to_exitcode(status)
            os.close(self.file)
        return self.status
