"""What we hold Ollama to, and it us: the same tests over a stand-in of its wire and, where one is named, a real one.

    LOREBASE_TEST_OLLAMA=http://127.0.0.1:11434 pytest tests/service/test_ollama_contract.py

asks the model in LOREBASE_TEST_OLLAMA_MODEL (default deepseek-r1:1.5b), which must have been pulled there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from model.config import Sampling
from model.errors import Cancelled
from service import errors
from service.app import create_app
from service.generators import Piece
from service.generators.ollama import OllamaServer
from service.models import Models
from service.settings import ServiceSettings
from service.wiring import Given
from tests.service.conftest import leave, serving, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.ollama_stand_in import OllamaStandIn, standing_in

REAL = os.environ.get("LOREBASE_TEST_OLLAMA", "")
MODEL = os.environ.get("LOREBASE_TEST_OLLAMA_MODEL", "deepseek-r1:1.5b")
MESSAGES = [{"role": "user", "content": "Say hello."}]
QUESTION = {"question": "How tall is the Eiffel Tower?", "model": f"ollama/{MODEL}"}


@dataclass
class Upstream:
    """One of the two."""

    address: str
    stand_in: OllamaStandIn | None


@pytest.fixture(params=["stand-in", "real"])
def upstream(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    if request.param == "stand-in":
        with standing_in() as stand_in:
            yield Upstream(stand_in.address, stand_in)
    elif REAL:
        yield Upstream(REAL, None)
    else:
        pytest.skip("LOREBASE_TEST_OLLAMA names no Ollama")


def ask(upstream: Upstream, sampling: Sampling, name: str = MODEL) -> list[Piece]:
    generator = OllamaServer(upstream.address, 2048).generator(name)
    return list(generator.stream(MESSAGES, sampling, threading.Event()))  # type: ignore[arg-type]


class TestBoth:
    def test_what_was_pulled_is_listed(self, upstream: Upstream) -> None:
        server = OllamaServer(upstream.address, 2048)
        assert MODEL in server.models()
        assert MODEL in [m["name"] for m in server.catalogue("/api/tags")]

    def test_a_reply_streams_and_ends_with_its_counts(self, upstream: Upstream) -> None:
        pieces = ask(upstream, Sampling(max_tokens=400))
        assert len(pieces) > 1 and [p.finish_reason for p in pieces[:-1]] == [None] * (len(pieces) - 1)
        last = pieces[-1]
        assert (
            last.finish_reason in ("stop", "length") and last.prompt_tokens > 0 and last.completion_tokens > 0
        )
        assert "".join(p.text + p.reasoning for p in pieces).strip()

    def test_a_limit_is_told(self, upstream: Upstream) -> None:
        if upstream.stand_in:
            upstream.stand_in.finish = "length"
        assert ask(upstream, Sampling(max_tokens=3))[-1].finish_reason == "length"

    def test_a_missing_model_names_the_command(self, upstream: Upstream) -> None:
        missing = "missing" if upstream.stand_in else "lorebase-no-such-model"
        with pytest.raises(errors.ModelNotPulled, match=f"ollama pull {missing}"):
            ask(upstream, Sampling(), missing)

    def test_cancelling_ends_it_and_the_next_is_answered(self, upstream: Upstream) -> None:
        if upstream.stand_in:
            upstream.stand_in.script = "hangs"
        generator = OllamaServer(upstream.address, 2048).generator(MODEL)
        cancel = threading.Event()
        pieces = generator.stream(MESSAGES, Sampling(max_tokens=2000), cancel)  # type: ignore[arg-type]
        begun = upstream.stand_in.answering if upstream.stand_in else threading.Event()
        threading.Thread(target=lambda: (begun.wait(20 if upstream.stand_in else 1), cancel.set())).start()
        with pytest.raises(Cancelled):
            for _ in pieces:
                pass
        if upstream.stand_in:
            assert upstream.stand_in.hung_up.wait(20)
            upstream.stand_in.script = "answer"
        assert ask(upstream, Sampling(max_tokens=3))[-1].finish_reason

    def test_not_streamed_and_left_alone_it_stops_too(
        self, upstream: Upstream, tmp_path: Path, library: MemoryLibrary
    ) -> None:
        if upstream.stand_in:
            upstream.stand_in.script = "hangs"
        app = service(tmp_path, library, upstream)
        with serving(app) as address:
            body = {"model": MODEL, "messages": MESSAGES, "stream": False, "options": {"num_predict": 2000}}
            runner = app.state.parts.upstream_runner
            answering = (
                upstream.stand_in.answering.is_set if upstream.stand_in else lambda: runner.running == 1
            )
            leave(address, "/api/chat", body, answering)
            until(lambda: runner.running == 0)
        if upstream.stand_in:
            assert upstream.stand_in.hung_up.wait(20)

    def test_an_answer_keeps_thinking_apart(
        self, upstream: Upstream, tmp_path: Path, library: MemoryLibrary
    ) -> None:
        with serving(service(tmp_path, library, upstream)) as address:
            reply = httpx.post(f"{address}/ask", json=QUESTION | {"max_tokens": 600}, timeout=300).json()
            assert "<think>" not in reply["answer"] and "</think>" not in reply["answer"]
            assert reply["model"] == f"ollama/{MODEL}" and reply["sources"]


def service(tmp_path: Path, library: MemoryLibrary, upstream: Upstream, **settings: float) -> FastAPI:
    app = create_app(
        ServiceSettings(**{"deadline_s": 300} | settings), tmp_path, library, ScriptedGenerator()
    )  # type: ignore[arg-type]
    models = Models("scripted", Given(ScriptedGenerator()), OllamaServer(upstream.address, 4096))
    models.warm()
    object.__setattr__(app.state.parts, "models", models)
    return app


# --- what a real one does rarely, from the stand-in only -------------------------------------------------


@pytest.fixture
def stand_in() -> Iterator[OllamaStandIn]:
    with standing_in() as stand_in:
        yield stand_in


ANSWER = "The tower is 330 metres tall."


@pytest.mark.parametrize(
    ("thinking", "words", "reasoning"),
    [
        (["Let me ", "see."], [ANSWER], "Let me see."),  # a field of its own, as newer versions send it
        ([], ["<think>Let me", " see.</think>", ANSWER], "Let me see."),
        ([], ["<thi", "nk>Let me see.</", "think>", "\n\n", ANSWER], "Let me see."),
        ([], ["Let me see.", "</think>", ANSWER], "Let me see."),  # the template swallowed the opening tag
        ([], ["<think>", "</think>", ANSWER], ""),
        (["Field."], ["<think>Tag.</think>", ANSWER], None),
        ([], [ANSWER], ""),
    ],
)
def test_thinking_in_every_form_stays_out_of_the_answer(
    stand_in: OllamaStandIn,
    tmp_path: Path,
    library: MemoryLibrary,
    thinking: list[str],
    words: list[str],
    reasoning: str | None,
) -> None:
    stand_in.thinking, stand_in.words = thinking, words
    with serving(service(tmp_path, library, Upstream(stand_in.address, stand_in))) as address:
        for stream in (False, True):
            reply = httpx.post(f"{address}/ask", json=QUESTION | {"stream": stream}, timeout=30)
            final = reply.json() if not stream else reply.text.split("event: final\ndata: ")[1]
            if not stream:
                assert final["answer"] == f"{ANSWER} [1]", words
                if reasoning is not None:
                    assert final["reasoning"] == reasoning
            else:
                assert "think>" not in final.split('"answer":')[1].split('"answer_html"')[0]


def test_a_model_that_loads_past_the_deadline_is_a_504_and_frees_slot_and_upstream(
    stand_in: OllamaStandIn, tmp_path: Path, library: MemoryLibrary
) -> None:
    stand_in.script = "loads"
    app = service(tmp_path, library, Upstream(stand_in.address, stand_in), deadline_s=1.0)
    with serving(app) as address:
        assert httpx.post(f"{address}/ask", json=QUESTION, timeout=30).status_code == 504
        assert stand_in.hung_up.wait(20)
        until(lambda: app.state.parts.upstream_runner.running == 0)


def test_a_model_that_loads_in_time_is_waited_for(
    stand_in: OllamaStandIn, tmp_path: Path, library: MemoryLibrary
) -> None:
    stand_in.script = "loads"
    threading.Timer(0.5, stand_in.loading.set).start()
    with serving(service(tmp_path, library, Upstream(stand_in.address, stand_in))) as address:
        reply = httpx.post(f"{address}/ask", json=QUESTION, timeout=30)
        assert reply.status_code == 200 and reply.json()["answer"] == f"{ANSWER} [1]"


@pytest.mark.parametrize("route", ["/ask", "/api/chat"])
def test_a_line_that_never_ends_is_given_up_and_takes_no_memory(
    stand_in: OllamaStandIn, tmp_path: Path, library: MemoryLibrary, route: str
) -> None:
    stand_in.script = "endless"
    app = service(tmp_path, library, Upstream(stand_in.address, stand_in), deadline_s=20.0)
    body = QUESTION if route == "/ask" else {"model": MODEL, "messages": MESSAGES, "stream": False}
    before = resident_mb()
    with serving(app) as address:
        reply = httpx.post(f"{address}{route}", json=body, timeout=60)
        assert reply.status_code in (502, 504)
        assert stand_in.hung_up.wait(20)
    assert resident_mb() - before < 400


def resident_mb() -> float:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
