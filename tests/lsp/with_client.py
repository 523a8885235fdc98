"""Drives `flexc lsp` by the client of pygls (PyPI), which knows the protocol from lsprotocol's types and refuses messages that are not of them.

    with_client.py FLEXC [FOLDER]    makes a virtual environment in FOLDER (or uses it), runs the session, prints what was driven

Not part of ctest: it needs the network, or FOLDER with pygls installed.
"""

import asyncio
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "examples/demo/alibi_window.flex").read_text()


async def session(flexc):
    from lsprotocol import types as lsp
    from pygls.lsp.client import LanguageClient

    client = LanguageClient("flexc-test", "1")
    published = asyncio.Queue()
    client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(lambda params: published.put_nowait(params))
    await client.start_io(flexc, "lsp")
    steps = []

    def done(step):
        steps.append(step)

    result = await client.initialize_async(lsp.InitializeParams(
        capabilities=lsp.ClientCapabilities(general=lsp.GeneralClientCapabilities(position_encodings=[lsp.PositionEncodingKind.Utf16])), process_id=os.getpid(), root_uri=None))
    assert result.server_info.name == "flexc" and result.capabilities.position_encoding == lsp.PositionEncodingKind.Utf16
    client.initialized(lsp.InitializedParams())
    done("initialize")

    with tempfile.TemporaryDirectory() as folder:
        uri = (pathlib.Path(folder) / "x.flex").as_uri()
        document = lsp.TextDocumentIdentifier(uri=uri)

        def at(text, needle, offset=0):
            index = text.index(needle) + offset
            return lsp.Position(line=text.count("\n", 0, index), character=index - (text.rfind("\n", 0, index) + 1))

        client.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(uri=uri, language_id="flex", version=1, text=TEXT)))
        assert not (await asyncio.wait_for(published.get(), 20)).diagnostics
        done("open: no diagnostics")

        # The conversion is taken out, and put back by the fix that the server offers.
        needle = "f32(k - q)"
        begin = at(TEXT, needle)
        client.text_document_did_change(lsp.DidChangeTextDocumentParams(
            text_document=lsp.VersionedTextDocumentIdentifier(uri=uri, version=2),
            content_changes=[lsp.TextDocumentContentChangePartial(
                range=lsp.Range(start=begin, end=lsp.Position(begin.line, begin.character + len(needle))), text="(k - q)")]))
        report = await asyncio.wait_for(published.get(), 20)
        assert report.version == 2 and [d.code for d in report.diagnostics] == ["E2003"], report
        done("change: " + report.diagnostics[0].message.split("\n")[0])
        actions = await client.text_document_code_action_async(lsp.CodeActionParams(
            text_document=document, range=report.diagnostics[0].range, context=lsp.CodeActionContext(diagnostics=report.diagnostics)))
        assert actions[0].edit.changes[uri][0].new_text == "f32(k - q)"
        done("code action: " + actions[0].title)
        client.text_document_did_change(lsp.DidChangeTextDocumentParams(
            text_document=lsp.VersionedTextDocumentIdentifier(uri=uri, version=3), content_changes=[lsp.TextDocumentContentChangeWholeDocument(text=TEXT)]))
        assert not (await asyncio.wait_for(published.get(), 20)).diagnostics

        hover = await client.text_document_hover_async(lsp.HoverParams(document, at(TEXT, "sliding_window(")))
        assert "mask sliding_window(window: i32)" in hover.contents.value
        done("hover: " + hover.contents.value.split("\n")[1])
        place = await client.text_document_definition_async(lsp.DefinitionParams(document, at(TEXT, "slope[h]")))
        assert place.range.start == at(TEXT, "slope: ")
        place = await client.text_document_definition_async(lsp.DefinitionParams(document, at(TEXT, "sliding_window(")))
        assert pathlib.Path(place.uri.removeprefix("file://")).name == "std.flex"
        done("definition: a parameter, and into the standard library")
        items = (await client.text_document_completion_async(lsp.CompletionParams(document, at(TEXT, "sliding_window(", 3)))).items
        assert {"sliding_window", "slope", "q", "causal"} <= {i.label for i in items}
        done(f"completion: {len(items)} items")
        signature = await client.text_document_signature_help_async(lsp.SignatureHelpParams(document, at(TEXT, "window);")))
        assert signature.signatures[0].label == "mask sliding_window(window: i32)"
        done("signature help")
        symbols = await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
        assert [s.name for s in symbols] == ["alibi_window"] and [c.name for c in symbols[0].children] == ["score", "mask"]
        done("document symbols")
        references = await client.text_document_references_async(lsp.ReferenceParams(lsp.ReferenceContext(True), document, at(TEXT, "window: i32")))
        assert len(references) == 2
        edit = await client.text_document_rename_async(lsp.RenameParams(document, at(TEXT, "window: i32"), "w"))
        assert [e.new_text for e in edit.changes[uri]] == ["w", "w"]
        done("references and rename")

        ugly = TEXT.replace(" = ", "=").replace("    mask", "mask")
        client.text_document_did_change(lsp.DidChangeTextDocumentParams(
            text_document=lsp.VersionedTextDocumentIdentifier(uri=uri, version=4), content_changes=[lsp.TextDocumentContentChangeWholeDocument(text=ugly)]))
        edits = await client.text_document_formatting_async(lsp.DocumentFormattingParams(document, lsp.FormattingOptions(tab_size=4, insert_spaces=True)))
        lines = ugly.split("\n")
        first, last = edits[0].range.start, edits[0].range.end
        assert first.character == last.character == 0
        assert "\n".join(lines[:first.line] + [""]) + edits[0].new_text + "\n".join(lines[last.line:]) == TEXT
        done("formatting")

        times = []
        for i in range(50):
            while not published.empty():
                published.get_nowait()
            start = time.perf_counter()
            client.text_document_did_change(lsp.DidChangeTextDocumentParams(
                text_document=lsp.VersionedTextDocumentIdentifier(uri=uri, version=5 + i), content_changes=[lsp.TextDocumentContentChangeWholeDocument(text=TEXT + "\n" * i)]))
            while (await asyncio.wait_for(published.get(), 20)).version != 5 + i:
                pass
            times.append((time.perf_counter() - start) * 1e3)
        done(f"50 changes to diagnostics: median {sorted(times)[25]:.1f} ms, worst {max(times):.1f} ms")

    await client.shutdown_async(None)
    client.exit(None)
    code = await asyncio.wait_for(client._server.wait(), 20)
    assert code == 0, code
    done("shutdown and exit: 0")
    return steps


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        import pygls  # noqa: F401
    except ImportError:
        folder = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else tempfile.mkdtemp(prefix="flexc_pygls_"))
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        if subprocess.run([python, "-c", "import pygls"], capture_output=True, check=False).returncode != 0:
            subprocess.run([python, "-m", "pip", "-q", "install", "pygls>=2"], check=True)
        os.execv(python, [str(python), "-B", *sys.argv])
    for step in asyncio.run(session(sys.argv[1])):
        print("ok  " + step)


if __name__ == "__main__":
    main()
