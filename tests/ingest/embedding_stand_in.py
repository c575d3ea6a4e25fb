"""Speaks the embedding wires of Ollama and of OpenAI-style servers on loopback, over the fake embedder's vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fakes import HashEmbedder
from tests.loopback import LoopbackHandler, serving


class EmbeddingStandIn:
    """Notes the texts of each request; `failures` are statuses that it answers with first."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[list[str]] = []
        self.keys: list[str] = []
        self.failures: list[int] = []
        self.digest = "sha256:" + "a" * 64
        self.window = 256
        self.vectors = HashEmbedder()
        self.spoil: Any = lambda rows: rows  #: what becomes of the vectors on their way out

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/api/tags":
            return 200, {"models": [{"model": "tiny:latest", "digest": self.digest}]}
        if path == "/v1/models":
            return 200, {
                "object": "list",
                "data": [{"id": "tiny", "object": "model", "max_model_len": self.window}],
            }
        name = body.get("model", "")
        if name != "tiny":
            return 404, {"error": f'model "{name}" not found'}
        if path == "/api/show":
            return 200, {"model_info": {"general.architecture": "bert", "bert.context_length": self.window}}
        self.asked.append(body["input"])
        if self.failures:
            told: Any = "the input length exceeds the context length"
            return self.failures.pop(0), {"error": told if path == "/api/embed" else {"message": told}}
        if any(len(text) > 10 * self.window for text in body["input"]):
            assert body.get("truncate", False) is False, "a server that may cut does so silently"
        rows = self.spoil(
            [[3.0 * float(x) for x in row] for row in self.vectors.encode_queries(body["input"])]
        )
        if path == "/api/embed":
            return 200, {"model": name, "embeddings": rows}
        assert body["encoding_format"] == "float"
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        return 200, {
            "object": "list",
            "model": name,
            "data": data[::-1],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }


@contextmanager
def embedding_stand_in() -> Iterator[EmbeddingStandIn]:
    stand_in = EmbeddingStandIn()

    class Handler(LoopbackHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            self._reply(self.sent_json())

        def _reply(self, body: dict[str, Any]) -> None:
            stand_in.keys.append(self.headers.get("Authorization", ""))
            self.reply_json(*stand_in.answer(self.path, body))

    with serving(Handler) as address:
        stand_in.address = address
        yield stand_in
