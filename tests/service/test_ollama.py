"""Ollama as generator, over its real client and a stand-in on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from model.config import Sampling
from model.errors import Cancelled
from service import errors
from service.app import create_app
from service.generators.ollama import OllamaServer
from service.models import Models
from service.settings import ServiceSettings
from service.wiring import Given
from tests.service.conftest import serving, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.ollama_stand_in import OllamaStandIn, standing_in

MESSAGES = [{"role": "user", "content": "How tall?"}]


@pytest.fixture
def ollama() -> Iterator[OllamaStandIn]:
    with standing_in() as stand_in:
        yield stand_in


def reply(
    stand_in: OllamaStandIn, name: str = "tiny:1b", sampling: Sampling | None = None
) -> tuple[str, str]:
    generator = OllamaServer(stand_in.address, 4096).generator(name)
    pieces = list(generator.stream(MESSAGES, sampling or Sampling(max_tokens=9), threading.Event()))  # type: ignore[arg-type]
    assert (pieces[-1].finish_reason, pieces[-1].prompt_tokens, pieces[-1].completion_tokens) == (
        "stop",
        42,
        7,
    )
    return "".join(p.text for p in pieces), "".join(p.reasoning for p in pieces)


def test_it_streams_and_sends_its_window_and_sampling(ollama: OllamaStandIn) -> None:
    ollama.thinking = ["Hm. ", "330?"]
    sampling = Sampling(max_tokens=9, temperature=0.5, top_k=3, stop=("\n",), seed=7)
    assert reply(ollama, sampling=sampling) == ("The tower is 330 metres tall.", "Hm. 330?")
    (asked,) = ollama.asked
    assert asked["messages"] == MESSAGES and asked["stream"] is True
    sent = asked["options"]
    assert (sent["num_ctx"], sent["num_predict"], sent["temperature"], sent["top_k"]) == (4096, 9, 0.5, 3)
    assert (sent["stop"], sent["seed"]) == (["\n"], 7)


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("500", errors.UpstreamError, "llama runner"),
        ("html", errors.UpstreamError, "cannot be read"),
        ("error", errors.UpstreamError, "CUDA error"),
        ("breaks", errors.UpstreamError, "Ollama at"),
    ],
)
def test_its_failures_are_named(ollama: OllamaStandIn, script: str, kind: type[Exception], says: str) -> None:
    ollama.script = script
    with pytest.raises(kind, match=says):
        reply(ollama)


def test_a_missing_model_names_the_command_that_pulls_it(ollama: OllamaStandIn) -> None:
    with pytest.raises(errors.ModelNotPulled, match="ollama pull missing"):
        reply(ollama, "missing")


def test_an_absent_server_names_the_address() -> None:
    with standing_in() as stand_in:
        address = stand_in.address
    server = OllamaServer(address, 4096)
    for call in (
        server.models,
        lambda: list(server.generator("x").stream(MESSAGES, Sampling(), threading.Event())),
    ):  # type: ignore[arg-type]
        with pytest.raises(errors.UpstreamUnreachable, match=address):
            call()


def test_cancelling_closes_the_connection(ollama: OllamaStandIn) -> None:
    ollama.script = "hangs"
    cancel = threading.Event()
    generator = OllamaServer(ollama.address, 4096).generator("tiny:1b")
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            list(generator.stream(MESSAGES, Sampling(), cancel))  # type: ignore[arg-type]
        except Cancelled as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert ollama.answering.wait(20)
    cancel.set()
    thread.join(20)
    assert len(failures) == 1 and ollama.hung_up.wait(20)


@pytest.fixture
def app(tmp_path: Path, library: MemoryLibrary, ollama: OllamaStandIn) -> FastAPI:
    app = create_app(ServiceSettings(), tmp_path, library, ScriptedGenerator())
    server = OllamaServer(ollama.address, 4096)
    models = Models("scripted", Given(ScriptedGenerator()), server)
    models.warm()
    object.__setattr__(app.state.parts, "models", models)
    return app


def test_asked_through_the_service(app: FastAPI, ollama: OllamaStandIn) -> None:
    question = {"question": "How tall is the Eiffel Tower?", "model": "ollama/deepseek-r1:1.5b"}
    with serving(app) as address:
        ollama.words = ["<think>Let me ", "see.</th", "ink>The tower is 330 ", "metres tall."]
        answered = httpx.post(f"{address}/ask", json=question, timeout=30).json()
        assert (
            answered["answer"] == "The tower is 330 metres tall. [1]"
            and answered["reasoning"] == "Let me see."
        )
        assert answered["model"] == "ollama/deepseek-r1:1.5b" and answered["usage"]["prompt_tokens"] == 42
        listed = httpx.get(f"{address}/models").json()
        assert [m["name"] for m in listed["models"]] == [
            "scripted",
            "ollama/deepseek-r1:1.5b",
            "ollama/tiny:1b",
        ]
        assert listed["upstreams"][0]["reachable"]
        missing = httpx.post(f"{address}/ask", json=question | {"model": "ollama/missing"}, timeout=30)
        assert missing.status_code == 404 and "ollama pull missing" in missing.json()["error"]["message"]
        ollama.script = "500"
        assert httpx.post(f"{address}/ask", json=question, timeout=30).status_code == 502


def test_thinking_takes_nothing_from_the_answer(app: FastAPI, ollama: OllamaStandIn) -> None:
    question = {"question": "How tall is the Eiffel Tower?", "model": "ollama/deepseek-r1:1.5b"}
    with serving(app) as address:
        ollama.thinking, ollama.words, ollama.finish = ["Hm. "] * 600, [], "length"
        closed = httpx.post(f"{address}/ask", json=question | {"mode": "closed_book"}, timeout=30).json()
        assert ollama.asked[-1]["options"]["num_predict"] == 1024 + 1024 == 1024 + 4096 // 4
        assert not closed["answered"] and "larger max_tokens" in closed["answer"]
        assert closed["reasoning"].startswith("Hm. Hm.") and not closed["llm_generated"]
        quoted = httpx.post(f"{address}/ask", json=question, timeout=30).json()
        assert "330 metres" in quoted["answer"] and not quoted["llm_generated"]
        # What is written is as long as was asked for, whatever was thought.
        ollama.words, ollama.finish = [f"Step {i} is taken. " for i in range(500)], "stop"
        long = httpx.post(
            f"{address}/ask", json=question | {"mode": "closed_book", "max_tokens": 20}, timeout=30
        ).json()
        assert 60 < len(long["answer"]) < 110 and long["answer"].endswith("is taken.")
        whole = httpx.post(f"{address}/ask", json=question | {"mode": "closed_book"}, timeout=30).json()
        assert 4000 < len(whole["answer"]) < 4200  # setting remote_max_tokens, not our small model's


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_it_upstream_too(app: FastAPI, ollama: OllamaStandIn, stream: bool) -> None:
    ollama.script = "hangs"
    body = {"question": "How tall is the Eiffel Tower?", "model": "ollama/tiny:1b", "stream": stream}
    with serving(app) as address, httpx.Client(timeout=0.5) as client:
        with pytest.raises(httpx.ReadTimeout), client.stream("POST", f"{address}/ask", json=body) as response:
            response.read()
        assert ollama.hung_up.wait(20)
        until(lambda: app.state.parts.upstream_runner.running == 0)
