"""Speaks Ollama's wire on loopback as its documentation and its server do: NDJSON lines, cut anywhere."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class OllamaStandIn:
    """Notes what it was sent; `script` says how `/api/chat` answers."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.script = "answer"
        self.words = ["The tower ", "is 330 ", "metres tall."]
        self.thinking: list[str] = []
        self.loading = threading.Event()  #: with the script "loads", nothing is sent before it is set
        self.finish = "stop"
        self.hung_up = threading.Event()  #: the client closed its connection in mid-reply
        self.answering = threading.Event()
        self.address = ""

    def lines(self) -> Iterator[bytes]:
        for thought in self.thinking:
            yield self._line(
                {"message": {"role": "assistant", "content": "", "thinking": thought}, "done": False}
            )
        for word in self.words:
            yield self._line({"message": {"role": "assistant", "content": word}, "done": False})
        if self.script == "error":
            yield self._line({"error": "an error was encountered while running the model: CUDA error"})
        elif self.script != "breaks":
            yield self._line({"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": self.finish,
                              "prompt_eval_count": 42, "eval_count": 7})  # fmt: skip

    @staticmethod
    def _line(body: dict[str, Any]) -> bytes:
        return json.dumps({"model": "tiny:1b", "created_at": "2026-01-01T00:00:00Z", **body}).encode() + b"\n"


@contextmanager
def standing_in() -> Iterator[OllamaStandIn]:
    stand_in = OllamaStandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            models = [
                {"model": "tiny:1b", "name": "tiny:1b"},
                {"model": "deepseek-r1:1.5b", "name": "deepseek-r1:1.5b"},
            ]
            self._json(200, {"models": models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.asked.append(body)
            if body["model"] == "missing":
                self._json(404, {"error": "model 'missing' not found"})
                return
            if stand_in.script == "500":
                self._json(500, {"error": "llama runner process has terminated"})
                return
            if stand_in.script == "loads":  # a cold model: not even a status until it is in memory
                stand_in.answering.set()
                while not stand_in.loading.wait(0.01):
                    if self._left():
                        stand_in.hung_up.set()
                        return
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                if stand_in.script == "endless":  # one line that never ends
                    while True:
                        self._chunk(b"x" * 65_536)
                if stand_in.script == "html":
                    self._chunk(b"<html>bad gateway</html>\n")
                else:
                    whole = b"".join(stand_in.lines())
                    for at in range(0, len(whole), 37):  # lines are cut wherever a packet ends
                        self._chunk(whole[at : at + 37])
                        stand_in.answering.set()
                        while stand_in.script == "hangs":
                            self._chunk(b" ")
                            threading.Event().wait(0.01)
                if stand_in.script != "breaks":
                    self._chunk(b"")
            except OSError:
                stand_in.hung_up.set()
            self.close_connection = True

        def _left(self) -> bool:
            """Whether the client has closed its connection."""
            self.connection.settimeout(0.001)
            try:
                return self.connection.recv(1, socket.MSG_PEEK) == b""
            except TimeoutError:
                return False
            except OSError:
                return True
            finally:
                self.connection.settimeout(None)

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

        def _json(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
