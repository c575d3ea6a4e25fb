"""Speaks Ollama's wire on loopback as its documentation and its server do: NDJSON lines, cut anywhere."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.loopback import LoopbackHandler, serving


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

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            models = [
                {"model": "tiny:1b", "name": "tiny:1b"},
                {"model": "deepseek-r1:1.5b", "name": "deepseek-r1:1.5b"},
            ]
            self.reply_json(200, {"models": models})

        def do_POST(self) -> None:
            body = self.sent_json()
            stand_in.asked.append(body)
            if body["model"] == "missing":
                self.reply_json(404, {"error": "model 'missing' not found"})
                return
            if stand_in.script == "500":
                self.reply_json(500, {"error": "llama runner process has terminated"})
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
                        self.send_chunk(b"x" * 65_536)
                if stand_in.script == "html":
                    self.send_chunk(b"<html>bad gateway</html>\n")
                else:
                    whole = b"".join(stand_in.lines())
                    for at in range(0, len(whole), 37):  # lines are cut wherever a packet ends
                        self.send_chunk(whole[at : at + 37])
                        stand_in.answering.set()
                        while stand_in.script == "hangs":
                            self.send_chunk(b" ")
                            threading.Event().wait(0.01)
                if stand_in.script != "breaks":
                    self.send_chunk(b"")
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

    with serving(Handler) as address:
        stand_in.address = f"http://{address}"
        yield stand_in
