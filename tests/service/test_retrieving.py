"""How passages are looked for: reranking and sections over our own routes, and the same fields in other dialects."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ingest.errors import RerankerError, UnknownDocument
from ingest.types import Document, Section
from model.errors import Cancelled
from service.app import create_app
from service.reranking import LikelihoodReranker, Reranking
from service.settings import ServiceSettings
from tests.service.conftest import TOWER, leave, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator, document_id

QUESTION = "How tall is the tower?"


class Shortest:
    """A reranker that prefers short passages; `read` is what it was given."""

    def __init__(self) -> None:
        self.read: list[tuple[str, list[str]]] = []

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        self.read.append((query, list(passages)))
        return [1 / len(passage) for passage in passages]


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(model="scripted", shutdown_grace_s=0.5, reranker="shortest", k=2)


@pytest.fixture
def shortest(app: FastAPI) -> Shortest:
    app.state.parts.reranking._found = found = Shortest()
    return found


@pytest.fixture
def asking(client: TestClient, shortest: Shortest) -> TestClient:
    return client


@pytest.fixture
def sectioned(library: MemoryLibrary, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tower's first two paragraphs are one section."""
    plain = library.source
    middle = TOWER.index("Painting")
    parsed = Document(TOWER, "t", (Section(("a",), 0, middle), Section(("b",), middle, len(TOWER))))

    def one(found: str) -> Document:
        if found != document_id("tower.md"):
            raise UnknownDocument(found)
        return parsed

    monkeypatch.setattr(library, "source", lambda collection: replace(plain(collection), parsed=one))
    yield


def texts(hits: list[dict]) -> list[str]:
    return [hit["text"] for hit in hits]


def test_a_search_is_reranked_where_that_is_asked_for(asking: TestClient, shortest: Shortest) -> None:
    body = {"query": QUESTION, "k": 2}
    plain = asking.post("/search", json=body).json()["hits"]
    assert not shortest.read
    deep = asking.post("/search", json=body | {"k": 20}).json()["hits"]
    found = asking.post("/search", json=body | {"rerank": True}).json()["hits"]
    assert texts(found) == sorted(texts(deep), key=len)[:2] != texts(plain)
    assert shortest.read[0][0] == QUESTION and len(shortest.read[0][1]) == len(deep)


def test_a_question_is_answered_from_the_reranked_passages_with_the_scores_of_the_search(
    asking: TestClient, shortest: Shortest
) -> None:
    plain = asking.post("/ask", json={"question": QUESTION, "k": 20, "mode": "quote"}).json()
    found = asking.post("/ask", json={"question": QUESTION, "k": 2, "mode": "quote", "rerank": True}).json()
    by_length = sorted(plain["sources"], key=lambda hit: len(hit["text"]))[:2]
    assert found["sources"] == by_length != plain["sources"][:2]
    assert shortest.read


def test_the_setting_reranks_what_does_not_say(tmp_path: Path, library: MemoryLibrary) -> None:
    settings = ServiceSettings(model="scripted", reranker="shortest", rerank=True)
    app = create_app(settings, tmp_path, library, ScriptedGenerator())
    app.state.parts.reranking._found = shortest = Shortest()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert app.state.parts.readiness.wait(10)
        client.post("/search", json={"query": QUESTION, "rerank": False})
        assert not shortest.read
        client.post("/search", json={"query": QUESTION})
        assert shortest.read


def test_who_is_not_there_to_rerank_is_said(tmp_path: Path, client: TestClient, app: FastAPI) -> None:
    body = {"query": QUESTION, "rerank": True}
    missing = client.post("/search", json=body)
    assert missing.status_code == 503 and "shortest" in missing.json()["error"]["message"]
    app.state.parts.reranking._name = ""
    for path, asked in (("/search", body), ("/ask", {"question": QUESTION, "rerank": True})):
        reply = client.post(path, json=asked)
        assert reply.status_code == 422 and "reranker" in reply.json()["error"]["message"]
    assert Reranking("", False, tmp_path, ScriptedGenerator).wanted(None) is None


def test_a_passage_brings_its_section(asking: TestClient, sectioned: None) -> None:
    body = {"query": "330 metres tall levels", "k": 2}
    first = asking.post("/search", json=body).json()["hits"][0]
    assert first["section"] is None and first["text"].startswith("The tower is 330")
    wide = asking.post("/search", json=body | {"context": "section"}).json()["hits"][0]
    section = wide["section"]
    assert section["text"] == TOWER[section["char_start"] : section["char_end"]]
    assert section["text"].startswith("The Eiffel") and section["text"].rstrip().endswith("to the top.")
    assert {**wide, "section": None} == first


def test_an_answer_may_be_read_from_sections(
    asking: TestClient, sectioned: None, generator: ScriptedGenerator
) -> None:
    body = {"question": QUESTION, "mode": "quote", "k": 3}
    narrow = asking.post("/ask", json=body).json()
    wide = asking.post("/ask", json=body | {"context": "section"}).json()
    assert len(wide["sources"]) < len(narrow["sources"]), "two passages of one section are one now"
    for hit in wide["sources"]:
        if hit["path"] == "tower.md":
            assert hit["text"] == TOWER[hit["char_start"] : hit["char_end"]]
    for citation in wide["citations"]:
        assert citation["text"] == TOWER[citation["char_start"] : citation["char_end"]]
    assert wide["answered"]


@pytest.mark.parametrize("route", ["openai", "ollama"])
def test_other_dialects_take_the_same_fields(asking: TestClient, shortest: Shortest, route: str) -> None:
    def sources(**more: object) -> list[dict]:
        turns = [{"role": "user", "content": QUESTION}]
        body = {"model": "lorebase:default", "messages": turns, "stream": False, **more}
        if route == "openai":
            reply = asking.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            return (
                reply.json()["lorebase"]["sources"] if "lorebase" in reply.json() else reply.json()["sources"]
            )
        reply = asking.post("/api/chat", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["sources"]

    assert {hit["path"] for hit in sources(k=9)} == {"tower.md", "bridge.md"}
    assert {hit["path"] for hit in sources(k=9, filters="path = 'bridge.md'")} == {"bridge.md"}
    assert len(sources(k=1)) == 1 and not shortest.read
    assert len(sources(rerank=True)[0]["text"]) < len(sources()[0]["text"])
    where = "/v1/chat/completions" if route == "openai" else "/api/chat"
    refused = asking.post(
        where,
        json={"model": "scripted", "messages": [{"role": "user", "content": "x"}], "filters": "path = 'a'"},
    )
    assert refused.status_code == 400 and "lorebase:COLLECTION" in refused.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {"query": QUESTION, "rerank": True}),
        ("/ask", {"question": QUESTION, "rerank": True}),
        (
            "/v1/chat/completions",
            {"model": "lorebase", "messages": [{"role": "user", "content": QUESTION}], "rerank": True},
        ),
    ],
)
def test_a_client_that_leaves_ends_the_reranking_too(
    address: str, app: FastAPI, path: str, body: dict[str, object]
) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Stub:
        tokenizer = SimpleNamespace(encode=lambda text: list(text.encode()))

        def score(self, prompt: object, continuations: object, *, cancel: threading.Event | None) -> NoReturn:
            begun.set()
            assert cancel is not None and cancel.wait(20)
            ended.set()
            raise Cancelled("withdrawn")

    generator = SimpleNamespace(name="stub", engine=Stub())
    for name in ("context_tokens", "capabilities", "writes_cjk", "focus_sentences", "count_tokens", "stream"):
        setattr(generator, name, lambda *_: None)
    app.state.parts.reranking._found = LikelihoodReranker(lambda: generator)
    leave(address, path, body, begun.is_set)
    assert ended.wait(20)
    until(lambda: all(runner.running == 0 for runner in app.state.parts.runners))


def test_likelihood_is_the_geometric_mean_of_the_questions_tokens() -> None:
    asked: list[tuple[list[int], list[list[int]]]] = []

    class Stub:
        tokenizer = SimpleNamespace(encode=lambda text: list(text.encode()))

        def score(self, prompt, continuations, *, cancel):
            asked.append((prompt, continuations))
            right = b"330" in bytes(prompt)
            return [[math.log(0.5 if right else 0.1), math.log(0.125 if right else 0.1)]]

    generator = SimpleNamespace(name="stub", engine=Stub())
    for name in ("context_tokens", "capabilities", "writes_cjk", "focus_sentences", "count_tokens", "stream"):
        setattr(generator, name, lambda *_: None)
    passages = ["The bridge.", "It is 330 metres tall. " + "x" * 1000]
    assert LikelihoodReranker(lambda: generator).scores(QUESTION, passages) == pytest.approx([0.1, 0.25])
    assert all(bytes(tail[0]).decode() == " " + QUESTION for _, tail in asked)
    assert max(len(prompt) for prompt, _ in asked) < 500, "a long passage is cut"
    with pytest.raises(RerankerError, match="cannot score"):
        LikelihoodReranker(ScriptedGenerator).scores(QUESTION, passages)
