"""A client for a YAML language server, as an editor is one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / ".engines/node/node_modules/yaml-language-server/bin/yaml-language-server"
INSTALL = "npm install --prefix .engines/node yaml-language-server@1.25.0   (make engines)"


class Editor:
    """Speaks the language server protocol over a server's stdin and stdout."""

    def __init__(self, process):
        self._process = process
        self._number = 0
        self._request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self._send("initialized", {})

    def diagnostics(self, path):
        """What the server says about a file: the 1-based lines, and the messages."""
        text = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": path.read_text()}
        self._send("textDocument/didOpen", {"textDocument": text})
        said = self._until(
            lambda message: (
                message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == path.as_uri()
            )
        )["params"]["diagnostics"]
        self._send("textDocument/didClose", {"textDocument": {"uri": path.as_uri()}})
        self._until(lambda message: message.get("method") == "textDocument/publishDiagnostics")
        return {one["range"]["start"]["line"] + 1 for one in said}, [one["message"] for one in said]

    def completions(self, path, line, character):
        """The labels that the server offers at a place (0-based)."""
        text = {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": path.read_text()}
        self._send("textDocument/didOpen", {"textDocument": text})
        place = {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": character}}
        found = self._request("textDocument/completion", place)
        return {item["label"] for item in (found["items"] if isinstance(found, dict) else found)}

    def hover(self, path, line, character):
        """The text that the server shows at a place (0-based)."""
        place = {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": character}}
        return str(self._request("textDocument/hover", place))

    def close(self):
        self._request("shutdown", None)
        self._send("exit", None)
        self._process.communicate(timeout=30)

    def _request(self, method, params):
        self._number += 1
        number = self._number
        self._write({"id": number, "method": method, "params": params})
        return self._until(lambda message: message.get("id") == number and "method" not in message)["result"]

    def _send(self, method, params):
        self._write({"method": method, "params": params})

    def _write(self, message):
        raw = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(raw), raw))
        self._process.stdin.flush()

    def _until(self, wanted):
        """The next message that is wanted; questions of the server on the way are answered with nothing."""
        while True:
            message = self._read()
            if "id" in message and "method" in message:
                items = (message.get("params") or {}).get("items", [])
                answer = [None for _ in items] if message["method"] == "workspace/configuration" else None
                self._write({"id": message["id"], "result": answer})
            elif wanted(message):
                return message

    def _read(self):
        length = 0
        while (line := self._process.stdout.readline().strip()) or not length:
            assert line or self._process.poll() is None, "the server has ended"
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return json.loads(self._process.stdout.read(length))


@pytest.fixture(scope="module")
def editor():
    """A running server that speaks to us."""
    node = shutil.which("node")
    if node is None or not SERVER.exists():
        pytest.skip(f"no YAML language server: {INSTALL}")
    process = subprocess.Popen(
        [node, SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    client = Editor(process)
    yield client
    client.close()
