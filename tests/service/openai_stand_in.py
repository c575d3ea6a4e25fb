"""Speaks the wire of an OpenAI-style server on loopback, as vLLM and llama.cpp do: server-sent events, cut anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.loopback import LoopbackHandler, serving


class OpenAIStandIn:
    """Notes what it was sent; `script` says how `/v1/chat/completions` answers."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.script = "answer"
        self.words = ["The tower ", "is 330 ", "metres tall."]
        self.thinking: list[str] = []
        self.serves = ["tiny", "org/model-7b"]
        self.hung_up = threading.Event()
        self.answering = threading.Event()
        self.address = ""

    def events(self) -> Iterator[bytes]:
        yield self._event(
            [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
        )
        for thought in self.thinking:
            yield self._event([{"index": 0, "delta": {"reasoning_content": thought}, "finish_reason": None}])
        for word in self.words:
            yield self._event([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        if self.script == "error":
            yield b'data: {"error": {"message": "CUDA error: out of memory", "code": 500}}\n\n'
        elif self.script != "breaks":
            yield self._event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
            yield self._event([], usage={"prompt_tokens": 42, "completion_tokens": 7, "total_tokens": 49})
            yield b"data: [DONE]\n\n"

    @staticmethod
    def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "tiny",
            "choices": choices,
        }
        return b"data: " + json.dumps(chunk | more).encode() + b"\n\n"


@contextmanager
def standing_in() -> Iterator[OpenAIStandIn]:
    stand_in = OpenAIStandIn()

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            items = [
                {"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in stand_in.serves
            ]
            self.reply_json(200, {"object": "list", "data": items})

        def do_POST(self) -> None:
            body = self.sent_json()
            stand_in.asked.append(body)
            stand_in.keys.append(self.headers.get("Authorization", ""))
            if body["model"] not in stand_in.serves:
                message = f"The model `{body['model']}` does not exist."
                self.reply_json(404, {"error": {"message": message, "type": "NotFoundError", "code": 404}})
            elif stand_in.script in ("400", "401", "500"):
                self.reply_json(
                    int(stand_in.script), {"error": {"message": f"told {stand_in.script}", "code": 1}}
                )
            else:
                self._stream()

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header(
                "Content-Type", "text/html" if stand_in.script == "html" else "text/event-stream"
            )
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                whole = (
                    b"<html>bad gateway</html>\n"
                    if stand_in.script == "html"
                    else b"".join(stand_in.events())
                )
                while stand_in.script.startswith("endless"):  # one event, of one line or of many
                    self.send_chunk(b"data: " + b"x" * 65_530 + b"\n" * (stand_in.script == "endless event"))
                if stand_in.script == "hangs":
                    self.send_chunk(next(stand_in.events()))
                    stand_in.answering.set()
                    while True:
                        self.send_chunk(b": still here\n\n")
                        threading.Event().wait(0.01)
                for at in range(0, len(whole), 41):  # events are cut wherever a packet ends
                    self.send_chunk(whole[at : at + 41])
                if stand_in.script != "breaks":
                    self.send_chunk(b"")
            except OSError:
                stand_in.hung_up.set()
            self.close_connection = True

    with serving(Handler) as address:
        stand_in.address = f"http://{address}/v1"
        yield stand_in
