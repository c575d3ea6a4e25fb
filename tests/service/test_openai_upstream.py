"""vLLM, llama.cpp and their like as generators, over the official client and a stand-in on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from model.config import Sampling
from model.errors import Cancelled, UnknownModel
from service import errors
from service.app import create_app
from service.generators import ollama, openai
from service.generators.openai import OpenAIServer
from service.models import Models
from service.settings import ServiceSettings
from service.wiring import Given, openai_servers
from tests.service.conftest import leave, serving, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.openai_stand_in import OpenAIStandIn, standing_in
from tests.service.test_ollama_contract import resident_mb

MESSAGES = [{"role": "user", "content": "How tall?"}]
QUESTION = {"question": "How tall is the Eiffel Tower?", "model": "openai/tiny"}


@pytest.fixture
def upstream() -> Iterator[OpenAIStandIn]:
    with standing_in() as stand_in:
        yield stand_in


def reply(stand_in: OpenAIStandIn, name: str = "tiny", sampling: Sampling | None = None) -> tuple[str, str]:
    generator = OpenAIServer(stand_in.address, 4096).generator(name)
    pieces = list(generator.stream(MESSAGES, sampling or Sampling(max_tokens=9), threading.Event()))  # type: ignore[arg-type]
    last = pieces[-1]
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("stop", 42, 7)
    return "".join(p.text for p in pieces), "".join(p.reasoning for p in pieces)


def test_beams_are_refused_before_anything_is_sent(upstream: OpenAIStandIn) -> None:
    generator = OpenAIServer(upstream.address, 4096).generator("tiny")
    with pytest.raises(errors.UnsupportedField, match="num_beams: openai/tiny has no beam search"):
        generator.stream(MESSAGES, Sampling(num_beams=2), threading.Event())  # type: ignore[arg-type]
    assert upstream.asked == []


def test_it_streams_and_sends_what_was_wanted_and_no_more(
    upstream: OpenAIStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-somebody-else")
    upstream.thinking = ["Hm. ", "330?"]
    assert reply(upstream) == ("The tower is 330 metres tall.", "Hm. 330?")
    (asked,) = upstream.asked
    assert asked["messages"] == MESSAGES and (asked["max_tokens"], asked["temperature"]) == (9, 0.0)
    assert not {"top_p", "top_k", "min_p", "repetition_penalty", "stop", "seed"} & set(asked)
    sampling = Sampling(max_tokens=9, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, stop=("\n",), seed=7)
    reply(upstream, sampling=sampling)
    sent = upstream.asked[1]
    assert {k: sent[k] for k in ("top_k", "top_p", "min_p", "stop", "seed")} == {
        "top_k": 3, "top_p": 0.9, "min_p": 0.1, "stop": ["\n"], "seed": 7,
    }  # fmt: skip
    assert upstream.keys == ["Bearer none"] * 2  # the environment's key is not for them


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("500", errors.UpstreamError, "told 500"),
        ("400", errors.UpstreamRefused, "told 400"),
        ("401", errors.UpstreamError, "KEY_FILE"),
        ("html", errors.UpstreamError, "broke off"),
        ("error", errors.UpstreamError, "CUDA error"),
        ("breaks", errors.UpstreamError, "broke off"),
    ],
)
def test_its_failures_are_named(
    upstream: OpenAIStandIn, script: str, kind: type[Exception], says: str
) -> None:
    upstream.script = script
    with pytest.raises(kind, match=says) as failed:
        reply(upstream)
    assert type(failed.value) is kind and upstream.address in str(failed.value)


@pytest.mark.parametrize("script", ["endless line", "endless event"])
def test_an_event_that_never_ends_is_given_up_and_takes_no_memory(
    upstream: OpenAIStandIn, script: str
) -> None:
    upstream.script = script
    before = resident_mb()
    cancel = threading.Event()
    timer = threading.Timer(20, cancel.set)
    timer.start()
    with pytest.raises(errors.UpstreamError, match="cannot be read"):
        list(OpenAIServer(upstream.address, 4096).generator("tiny").stream(MESSAGES, Sampling(), cancel))  # type: ignore[arg-type]
    timer.cancel()
    assert upstream.hung_up.wait(20) and resident_mb() - before < 400


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", openai.EVENT_ENDS)
def test_events_that_end_are_let_through_wherever_the_packets_cut_them(
    monkeypatch: pytest.MonkeyPatch, cut: int, end: bytes
) -> None:
    monkeypatch.setattr(ollama, "LINE_BYTES", 20)
    short, long = b"data: 0123456789" + end, b"data: " + b"x" * 20 + end

    class Packets(httpx.AsyncByteStream):
        def __init__(self, whole: bytes) -> None:
            self.whole = whole

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for at in range(0, len(self.whole), cut):
                yield self.whole[at : at + cut]

    async def read(whole: bytes) -> bytes:
        stream = ollama._Ended(Packets(whole), "it", openai.EVENT_ENDS)
        return b"".join([chunk async for chunk in stream])

    assert asyncio.run(read(short * 9)) == short * 9
    if cut < len(long):
        with pytest.raises(errors.UpstreamError, match="without an end"):
            asyncio.run(read(short + long * 2))


def test_a_model_that_it_lacks_and_a_server_that_is_away(upstream: OpenAIStandIn) -> None:
    with pytest.raises(errors.ModelNotServed, match="does not serve 'missing'"):
        reply(upstream, "missing")
    with standing_in() as gone:
        away = OpenAIServer(gone.address, 4096)
    for call in (
        away.models,
        lambda: list(away.generator("x").stream(MESSAGES, Sampling(), threading.Event())),  # type: ignore[arg-type]
    ):
        with pytest.raises(errors.UpstreamUnreachable, match=away.address):
            call()


def test_cancelling_closes_the_connection(upstream: OpenAIStandIn) -> None:
    upstream.script = "hangs"
    cancel = threading.Event()
    generator = OpenAIServer(upstream.address, 4096).generator("tiny")
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            list(generator.stream(MESSAGES, Sampling(), cancel))  # type: ignore[arg-type]
        except Cancelled as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert upstream.answering.wait(20)
    cancel.set()
    thread.join(20)
    assert len(ended) == 1 and upstream.hung_up.wait(20)


@pytest.mark.parametrize(
    "address", ["", "ftp://x/v1", "127.0.0.1:8000", "http://", "http://u:p@host/v1", "file:///x"]
)
def test_what_is_no_address_is_refused_at_the_start(address: str, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="HOST:PORT"):
        openai_servers(ServiceSettings(openai_upstreams=(address,)))


def test_settings_name_servers_and_their_key(upstream: OpenAIStandIn, tmp_path: Path) -> None:
    file = tmp_path / "upstream-key"
    file.write_text("sk-test-123\n")
    bare = upstream.address.removesuffix("/v1")
    read = ServiceSettings.model_validate(
        {"openai_upstreams": f"{bare}/, http://127.0.0.1:9/v1", "openai_key_file": file}
    )
    first, second = openai_servers(read)
    assert (first.address, second.address) == (upstream.address, "http://127.0.0.1:9/v1")
    list(first.generator("tiny").stream(MESSAGES, Sampling(), threading.Event()))  # type: ignore[arg-type]
    assert upstream.keys == ["Bearer sk-test-123"]
    with pytest.raises(errors.BadKeyFile):
        openai_servers(read.model_copy(update={"openai_key_file": tmp_path / "none"}))


class TestThroughTheService:
    @pytest.fixture
    def app(self, tmp_path: Path, library: MemoryLibrary, upstream: OpenAIStandIn) -> FastAPI:
        app = create_app(ServiceSettings(deadline_s=30), tmp_path, library, ScriptedGenerator())
        with standing_in() as gone:
            away = OpenAIServer(gone.address, 4096)
        servers = (away, OpenAIServer(upstream.address, 4096))
        models = Models("scripted", Given(ScriptedGenerator()), None, openai=servers)
        models.warm()
        object.__setattr__(app.state.parts, "models", models)
        return app

    def test_asked_listed_and_missed(self, app: FastAPI, upstream: OpenAIStandIn) -> None:
        with serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
            upstream.words = ["<think>Let me ", "see.</th", "ink>The tower is 330 ", "metres tall."]
            answered = client.post("/ask", json=QUESTION).json()
            assert (
                answered["answer"] == "The tower is 330 metres tall. [1]"
                and answered["reasoning"] == "Let me see."
            )
            assert answered["model"] == "openai/tiny" and answered["usage"]["prompt_tokens"] == 42
            listed = client.get("/models").json()
            assert [(m["name"], m["kind"]) for m in listed["models"]] == [
                ("scripted", "own"), ("openai/org/model-7b", "openai"), ("openai/tiny", "openai"),
            ]  # fmt: skip
            assert [u["reachable"] for u in listed["upstreams"]] == [False, True]
            assert "openai/org/model-7b" in [m["id"] for m in client.get("/v1/models").json()["data"]]
            upstream.words = ["Hi."]
            turns = [{"role": "user", "content": "Hello"}]
            chat = client.post(
                "/v1/chat/completions", json={"model": "openai/org/model-7b", "messages": turns}
            ).json()
            assert (
                chat["choices"][0]["message"]["content"] == "Hi." and chat["usage"]["completion_tokens"] == 7
            )
            said = client.post(
                "/api/chat", json={"model": "openai/tiny", "messages": turns, "stream": False}
            ).json()
            assert said["message"]["content"] == "Hi."
            missing = client.post("/ask", json=QUESTION | {"model": "openai/missing"})
            assert missing.status_code == 404 and missing.json()["error"]["code"] == "model_not_served"
            upstream.script = "500"
            assert client.post("/ask", json=QUESTION).status_code == 502

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_client_that_leaves_ends_it_upstream_too(
        self, app: FastAPI, upstream: OpenAIStandIn, stream: bool
    ) -> None:
        upstream.script = "hangs"
        with serving(app) as address:
            leave(address, "/ask", QUESTION | {"stream": stream}, upstream.answering.is_set)
            assert upstream.hung_up.wait(20)
            until(lambda: app.state.parts.upstream_runner.running == 0)


def test_without_one_the_name_says_what_to_set() -> None:
    with pytest.raises(UnknownModel, match="openai_upstreams"):
        Models("scripted", Given(ScriptedGenerator()), None).choose("openai/tiny")
