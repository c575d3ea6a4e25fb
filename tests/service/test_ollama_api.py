"""Ollama's own client, and LangChain's, against a running service; behind it a stand-in for Ollama itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.errors import UpstreamError
from service.generators.ollama import OllamaServer
from service.models import Models
from service.schemas import Passage
from service.settings import ServiceSettings
from service.wiring import Given
from tests.service.conftest import leave, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.ollama_stand_in import OllamaStandIn, standing_in

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How tall is it?"}]
QUESTION = [{"role": "user", "content": "How tall is the Eiffel Tower?"}]
REPLY = "The tower is 330 metres tall."


@pytest.fixture
def upstream() -> Iterator[OllamaStandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture
def app(
    tmp_path: Path, library: MemoryLibrary, generator: ScriptedGenerator, upstream: OllamaStandIn
) -> FastAPI:
    app = create_app(ServiceSettings(shutdown_grace_s=0.5), tmp_path, library, generator)
    models = Models("scripted", Given(generator), OllamaServer(upstream.address, 4096))
    models.warm()
    object.__setattr__(app.state.parts, "models", models)
    return app


@pytest.fixture
def client(address: str) -> ollama.Client:
    return ollama.Client(address, timeout=30)


def test_a_chat_and_its_stream_say_the_same(client: ollama.Client, generator: ScriptedGenerator) -> None:
    whole = client.chat("scripted:latest", TURNS)
    assert generator.asked == [TURNS] and whole.message.content == REPLY and whole.message.role == "assistant"
    assert (whole.done, whole.done_reason, whole.prompt_eval_count, whole.eval_count) == (True, "stop", 14, 6)
    spent = (whole.load_duration or 0) + (whole.prompt_eval_duration or 0) + (whole.eval_duration or 0)
    assert spent == whole.total_duration  # nanoseconds, and nothing is lost between them
    lines = list(client.chat("scripted", TURNS, stream=True))
    assert len(lines) == 7 and "".join(line.message.content or "" for line in lines) == REPLY
    assert [line.done for line in lines] == [False] * 6 + [True]
    assert lines[-1].done_reason == "stop" and lines[-1].eval_count == 6


def test_generate_loads_says_and_keeps_reasoning_apart(
    client: ollama.Client, generator: ScriptedGenerator
) -> None:
    loaded = client.generate("scripted")
    assert loaded.done_reason == "load" and loaded.response == "" and generator.asked == []
    for name in ("lorebase", "lorebase:default"):  # what its own client asks first
        assert client.generate(name, keep_alive="5m").done_reason == "load"
        assert client.chat(name, []).done_reason == "load"
        assert client.show(name).modelinfo is not None
    assert generator.asked == []
    generator.reply = "<think>Hm.</think>It is tall."
    reply = client.generate(
        "scripted", "How tall?", system="Be brief.", options={"num_predict": 99_999, "num_ctx": 5}
    )
    assert (reply.response, reply.thinking) == ("It is tall.", "Hm.")
    assert [m["role"] for m in generator.asked[0]] == ["system", "user"]
    generator.finish_reason = "length"
    *_, last = client.generate("scripted", "How tall?", stream=True, options={"num_predict": -1, "seed": -3})
    assert last.done and last.done_reason == "length"


def test_an_answer_from_documents_keeps_its_sources(
    client: ollama.Client, address: str, library: MemoryLibrary
) -> None:
    *drafts, last = client.chat("lorebase:default", QUESTION, stream=True)
    assert "".join(d.message.content or "" for d in drafts) == f"{REPLY} [1]" and last.done
    body = {"model": "lorebase", "messages": QUESTION, "stream": False}
    reply = httpx.post(f"{address}/api/chat", json=body).json()
    (citation,) = reply["citations"]
    assert {frozenset(s) for s in reply["sources"]} == {frozenset(Passage.model_fields)}  # empty fields, too
    assert any(s["keyword_score"] is None for s in reply["sources"])
    text = library.text("default", citation["document_id"])
    assert text[citation["char_start"] : citation["char_end"]] == REPLY
    assert reply["sources"][0]["path"] == "tower.md" and reply["message"]["content"] == f"{REPLY} [1]"


def test_errors_are_a_sentence(client: ollama.Client, address: str, library: MemoryLibrary) -> None:
    refused: list[dict[str, Any]] = [
        {"tools": [{"type": "function"}]}, {"format": "json"}, {"think": True}, {"options": {"mirostat": 1}},
        {"options": {"temperature": -1}}, {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, {"messages": 3},
    ]  # fmt: skip
    for change in refused:
        reply = httpx.post(f"{address}/api/chat", json={"model": "scripted", "messages": TURNS} | change)
        assert reply.status_code == 400 and set(reply.json()) == {"error"}, change
        assert isinstance(reply.json()["error"], str) and next(iter(change)) in reply.json()["error"]
    with pytest.raises(ollama.ResponseError, match="no collection") as missing:
        client.chat("lorebase:nope", QUESTION)
    assert missing.value.status_code == 404
    library.failure = RuntimeError("secret")
    with pytest.raises(ollama.ResponseError) as inside:
        client.chat("lorebase", QUESTION)
    assert inside.value.status_code == 500 and "secret" not in str(inside.value)


def test_what_goes_wrong_in_a_stream_is_its_last_line(
    client: ollama.Client, generator: ScriptedGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = generator.stream

    def breaks(*asked: Any) -> Iterator[Any]:
        yield next(stream(*asked))
        raise UpstreamError("the other server broke off")

    monkeypatch.setattr(generator, "stream", breaks)
    with pytest.raises(ollama.ResponseError, match="broke off"):
        list(client.chat("scripted", TURNS, stream=True))


def test_management_is_not_there_and_nothing_behind_hears_of_it(
    client: ollama.Client, address: str, upstream: OllamaStandIn
) -> None:
    calls = (
        lambda: client.pull("tiny:1b"), lambda: client.push("tiny:1b"), lambda: client.delete("tiny:1b"),
        lambda: client.copy("tiny:1b", "x"), lambda: client.create("x", from_="tiny:1b"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ollama.ResponseError) as refused:
            call()
        assert refused.value.status_code == 404
    for path in (
        "blobs/sha256:00",
        "%70ull",
        "pull/",
        "Pull",
        "./pull",
        "chat/../pull",
        "generate%2F..%2Fdelete",
    ):
        for method in ("POST", "HEAD", "GET", "DELETE"):
            assert (
                httpx.request(
                    method, f"{address}/api/{path}", json={"model": "tiny:1b"} if method == "POST" else None
                ).status_code
                == 404
            ), path
    assert upstream.asked == []


def test_other_names_go_to_ollama_as_they_are(
    client: ollama.Client, upstream: OllamaStandIn, generator: ScriptedGenerator
) -> None:
    upstream.thinking = ["Hm."]
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
    lines = list(
        client.chat("deepseek-r1:1.5b", TURNS, stream=True, tools=[tool], think=True, options={"num_ctx": 77})
    )
    assert (
        "".join(line.message.content or "" for line in lines) == REPLY and lines[0].message.thinking == "Hm."
    )
    assert lines[-1].done and lines[-1].prompt_eval_count == 42
    (asked,) = upstream.asked
    assert asked["model"] == "deepseek-r1:1.5b" and asked["messages"] == TURNS
    assert (
        asked["think"] is True
        and asked["options"] == {"num_ctx": 77}
        and asked["tools"][0]["function"]["name"] == "f"
    )
    client.chat("ollama/tiny:1b", TURNS, stream=True).__next__()
    assert upstream.asked[-1]["model"] == "tiny:1b" and generator.asked == []


@pytest.mark.parametrize("odd", ["NaN", "1e999", '"\\ud800"'])
def test_what_is_wrong_with_a_request_is_not_laid_at_its_door(
    address: str, upstream: OllamaStandIn, odd: str
) -> None:
    for path in ("/api/chat", "/api/generate", "/api/embed", "/api/show"):
        body = (
            f'{{"model": "tiny:1b", "messages": [], "prompt": "x", "input": "x", "options": {{"x": {odd}}}}}'
        )
        headers = {"Content-Type": "application/json"}
        reply = httpx.post(address + path, content=body, headers=headers, timeout=30)
        assert reply.status_code == 400 and "Ollama" not in reply.text, (path, reply.text)
    assert not upstream.asked


def test_a_reply_of_ollama_that_is_not_streamed(client: ollama.Client, upstream: OllamaStandIn) -> None:
    upstream.words = []
    assert client.chat("tiny:1b", TURNS).done_reason == "stop"  # one line is one document
    assert upstream.asked[0]["stream"] is False


@pytest.mark.parametrize(
    ("script", "model", "status", "says"),
    [
        ("500", "tiny:1b", 502, "llama runner"),
        ("html", "tiny:1b", 502, "cannot be read"),
        ("answer", "missing", 404, "ollama pull missing"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_its_failures_are_named(
    client: ollama.Client,
    upstream: OllamaStandIn,
    script: str,
    model: str,
    status: int,
    says: str,
    stream: bool,
) -> None:
    upstream.script = script
    with pytest.raises(ollama.ResponseError, match=says) as failed:
        list(client.chat(model, TURNS, stream=stream))  # type: ignore[call-overload]
    assert failed.value.status_code == status


@pytest.mark.parametrize("script", ["error", "breaks"])
def test_what_breaks_off_upstream_is_the_last_line(
    client: ollama.Client, upstream: OllamaStandIn, script: str
) -> None:
    upstream.script = script
    with pytest.raises(ollama.ResponseError, match="CUDA error" if script == "error" else "Ollama at"):
        list(client.chat("tiny:1b", TURNS, stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_ends_it_upstream_too(
    address: str, app: FastAPI, upstream: OllamaStandIn, stream: bool
) -> None:
    upstream.script = "hangs"
    body = {"model": "tiny:1b", "messages": TURNS, "stream": stream}
    leave(address, "/api/chat", body, upstream.answering.is_set)
    assert upstream.hung_up.wait(20)
    until(lambda: app.state.parts.upstream_runner.running == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_slot(
    address: str, app: FastAPI, generator: ScriptedGenerator, stream: bool
) -> None:
    generator.gate = threading.Event()
    body = {"model": "scripted", "messages": TURNS, "stream": stream}
    leave(address, "/api/chat", body, lambda: bool(generator.asked))
    until(lambda: app.state.parts.runner.running == 0)
    assert generator.cancelled == 1


def test_a_full_queue_refuses_before_any_work(
    address: str, app: FastAPI, generator: ScriptedGenerator
) -> None:
    generator.gate = threading.Event()
    body = {"model": "scripted", "messages": TURNS, "stream": False}
    threads = [
        threading.Thread(target=lambda: httpx.post(f"{address}/api/chat", json=body, timeout=30))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    until(lambda: app.state.parts.runner.running + app.state.parts.runner.waiting == 5)
    refused = httpx.post(f"{address}/api/chat", json=body)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert "queue is full" in refused.json()["error"] and len(generator.asked) <= 1
    generator.gate.set()
    for thread in threads:
        thread.join(20)


def test_embeddings_are_the_embedders_own(
    client: ollama.Client, library: MemoryLibrary, address: str, upstream: OllamaStandIn
) -> None:
    want = library.hashes.encode_passages(["the tower", "a bridge"])
    found = client.embed("hash:latest", ["the tower", "a bridge"])
    np.testing.assert_allclose(found.embeddings, want, rtol=1e-6)
    assert found.prompt_eval_count == sum(library.hashes.count_tokens(["the tower", "a bridge"]))
    np.testing.assert_allclose(client.embeddings("hash", "the tower").embedding, want[0], rtol=1e-6)
    assert len(client.embed("hash", "word " * 999).embeddings) == 1  # cut, as Ollama does
    with pytest.raises(ollama.ResponseError, match="cut it into pieces"):
        client.embed("hash", "word " * 999, truncate=False)
    assert upstream.asked == []
    with pytest.raises(ollama.ResponseError, match="ollama pull missing"):
        client.embed("missing", "x")
    assert upstream.asked == [{"model": "missing", "input": "x"}]


def test_everything_that_can_be_named_is_listed(
    client: ollama.Client, address: str, upstream: OllamaStandIn
) -> None:
    listed = [model.model for model in client.list().models]
    assert listed == ["scripted", "lorebase:default", "hash", "tiny:1b", "deepseek-r1:1.5b"]
    assert "scripted" in [model.model for model in client.ps().models]
    shown = client.show("lorebase:default")
    assert (
        shown.capabilities == ["completion"]
        and shown.details
        and shown.details.family == "lorebase-collection"
    )
    assert client.show("hash").capabilities == ["embedding"]
    assert client.show("scripted").modelinfo["lorebase.context_length"] == 2048
    with pytest.raises(ollama.ResponseError, match="ollama pull missing"):
        client.show("missing")
    assert json.loads(httpx.get(f"{address}/api/version").text)["version"]


def test_langchain_talks_to_it(address: str, library: MemoryLibrary) -> None:
    clients = pytest.importorskip("langchain_ollama", reason="LangChain's client is not installed")
    model = clients.ChatOllama(base_url=address, model="scripted")
    reply = model.invoke("How tall?")
    assert reply.content == REPLY and reply.response_metadata["done_reason"] == "stop"
    assert "".join(piece.content for piece in model.stream("How tall?")) == REPLY
    cited = clients.ChatOllama(base_url=address, model="lorebase:default").invoke(QUESTION[0]["content"])
    assert cited.content == f"{REPLY} [1]"
    embeddings = clients.OllamaEmbeddings(base_url=address, model="hash")
    np.testing.assert_allclose(
        embeddings.embed_documents(["a tower"]), library.hashes.encode_passages(["a tower"]), rtol=1e-6
    )


def test_without_ollama_the_rest_goes_on(
    client: ollama.Client, app: FastAPI, generator: ScriptedGenerator
) -> None:
    with standing_in() as gone:
        address = gone.address
    models = Models("scripted", Given(generator), OllamaServer(address, 4096))
    models.warm()
    object.__setattr__(app.state.parts, "models", models)
    assert [model.model for model in client.list().models] == ["scripted", "lorebase:default", "hash"]
    with pytest.raises(ollama.ResponseError, match="does not answer") as away:
        client.chat("tiny:1b", TURNS)
    assert away.value.status_code == 502 and client.chat("scripted", TURNS).message.content == REPLY
