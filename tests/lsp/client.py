"""A small client of the language server protocol, strict about what the server sends: framing, ids, and the shape of every message."""

import json
import os
import pathlib
import queue
import subprocess
import threading
import time

FLEXC = os.environ["FLEXC"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failure(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]


def units(text, encoding):
    return len(text.encode("utf-16-le")) // 2 if encoding == "utf-16" else len(text.encode("utf-8"))


class Client:
    def __init__(self, capabilities=None, environment=None, initialize=True):
        self.process = subprocess.Popen([FLEXC, "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})})
        self.messages = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.next_id = 0
        self.diagnostics = {}  # URI -> the last published parameters
        self.published = 0
        self.texts = {}
        self.versions = {}
        self.encoding = "utf-16"
        if initialize:
            result = self.request("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities or {}})
            self.capabilities = result["capabilities"]
            self.encoding = self.capabilities["positionEncoding"]
            self.notify("initialized", {})

    # ---- transport ----

    def _read(self):
        out = self.process.stdout
        try:
            while True:
                header = b""
                while not header.endswith(b"\r\n\r\n"):
                    byte = out.read(1)
                    if not byte:
                        if header:
                            raise AssertionError(f"the output ends in a header: {header!r}")
                        self.messages.put(None)
                        return
                    header += byte
                assert header.startswith(b"Content-Length: ") and header.count(b"\r\n") == 2, header
                length = int(header.split(b":")[1])
                body = out.read(length)
                assert len(body) == length, "a message breaks off"
                message = json.loads(body.decode("utf-8"))
                assert message["jsonrpc"] == "2.0", message
                self.messages.put(message)
        except Exception as error:  # shown by the thread that waits
            self.messages.put(error)

    def raw(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, message):
        body = json.dumps(message).encode()
        self.raw(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def receive(self, timeout=20):
        message = self.messages.get(timeout=timeout)
        if isinstance(message, Exception):
            raise message
        if message is None:
            raise EOFError
        if message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]
            self.published += 1
        return message

    def request(self, method, params=None):
        self.next_id += 1
        self.send({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params if params is not None else {}})
        while True:
            message = self.receive()
            if "id" not in message:
                continue
            assert message["id"] == self.next_id, message
            assert ("result" in message) != ("error" in message), message
            if "error" in message:
                raise Failure(message["error"])
            return message["result"]

    def notify(self, method, params):
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def settle(self):
        """Waits for diagnostics of what was sent."""
        before = self.published
        deadline = time.time() + 20
        while self.published == before and time.time() < deadline:
            self.receive()

    def close(self):
        """Ends the server as the protocol says; the exit code."""
        try:
            self.request("shutdown")
            self.notify("exit", {})
            return self.process.wait(timeout=20)
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.reader.join(timeout=5)
        self.process.stdout.close()

    # ---- documents ----

    def open(self, uri, text):
        self.texts[uri], self.versions[uri] = text, 1
        self.notify("textDocument/didOpen", {"textDocument": {"uri": uri, "languageId": "flex", "version": 1, "text": text}})
        self.diagnostics.pop(uri, None)
        self.catch_up(uri)
        return self.of(uri)

    def change(self, uri, text, wait=True):
        """The whole text."""
        self.texts[uri] = text
        self.versions[uri] += 1
        self.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": self.versions[uri]}, "contentChanges": [{"text": text}]})
        if wait:
            self.catch_up(uri)
        return self.of(uri)

    def edit(self, uri, begin, end, replacement, wait=True):
        """Characters [begin, end) of the text."""
        start, stop = self.position(uri, begin), self.position(uri, end)
        self.texts[uri] = self.texts[uri][:begin] + replacement + self.texts[uri][end:]
        self.versions[uri] += 1
        self.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": self.versions[uri]},
                                               "contentChanges": [{"range": {"start": start, "end": stop}, "text": replacement}]})
        if wait:
            self.catch_up(uri)
        return self.of(uri)

    def catch_up(self, uri):
        """Waits for the diagnostics of the document's last version."""
        while self.diagnostics.get(uri, {}).get("version") != self.versions[uri]:
            self.receive()

    def of(self, uri):
        return self.diagnostics.get(uri, {}).get("diagnostics")

    def codes(self, uri):
        return [each["code"] for each in self.of(uri)]

    def position(self, uri, index):
        before = self.texts[uri][:index]
        line = before.count("\n")
        return {"line": line, "character": units(before[before.rfind("\n") + 1:], self.encoding)}

    def index(self, text, position):
        """The character of a position in a text."""
        lines = text.split("\n")
        at = sum(len(line) + 1 for line in lines[:position["line"]])
        column = 0
        for c in lines[position["line"]]:
            if column >= position["character"]:
                break
            column += units(c, self.encoding)
            at += 1
        assert column == position["character"], "a position within a character"
        return at

    def text_of(self, uri, span, text=None):
        text = self.texts[uri] if text is None else text
        return text[self.index(text, span["start"]):self.index(text, span["end"])]

    def ask(self, method, uri, index, **more):
        return self.request("textDocument/" + method, {"textDocument": {"uri": uri}, "position": self.position(uri, index), **more})

    def at(self, method, uri, needle, offset=0, **more):
        """Asks at the place of a part of the text, which occurs once."""
        assert self.texts[uri].count(needle) == 1, (needle, self.texts[uri].count(needle))
        return self.ask(method, uri, self.texts[uri].index(needle) + offset, **more)


    def apply(self, uri, edits):
        text = self.texts[uri]
        for edit in sorted(edits, key=lambda e: (e["range"]["start"]["line"], e["range"]["start"]["character"]), reverse=True):
            text = text[:self.index(text, edit["range"]["start"])] + edit["newText"] + text[self.index(text, edit["range"]["end"]):]
        return text
