"""Under load, on a real socket: the queue is bounded, refusals are free, and a client that leaves gives its slot back."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.runner import Runner
from service.settings import ServiceSettings
from tests.service.conftest import until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

QUESTION = {"question": "How tall is the Eiffel Tower?"}


def runner(app: FastAPI) -> Runner:
    found: Runner = app.state.parts.runner
    return found


def test_one_slot_and_a_queue_of_four_serve_five_of_twenty(
    address: str, app: FastAPI, library: MemoryLibrary, generator: ScriptedGenerator
) -> None:
    generator.gate = threading.Event()

    async def twenty() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=30)
        async with httpx.AsyncClient(base_url=address, timeout=30, limits=limits) as client:
            asks = [asyncio.create_task(client.post("/ask", json=QUESTION)) for _ in range(20)]
            refused: set[asyncio.Task[httpx.Response]] = set()
            while len(refused) < 15:  # refusals come back while the one slot is still held
                refused |= (await asyncio.wait(set(asks) - refused, return_when=asyncio.FIRST_COMPLETED))[0]
            assert len(library.searched) <= 1
            assert (await client.get("/healthz")).status_code == 200
            generator.gate.set()
            return list(await asyncio.gather(*asks))

    replies = asyncio.run(twenty())
    assert Counter(r.status_code for r in replies) == {200: 5, 429: 15}
    for refused in (r for r in replies if r.status_code == 429):
        assert int(refused.headers["retry-after"]) >= 1 and refused.json()["error"]["code"] == "busy"
    assert len(library.searched) == len(generator.asked) == 5
    until(lambda: runner(app).running == runner(app).waiting == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_slot(
    address: str, app: FastAPI, generator: ScriptedGenerator, stream: bool
) -> None:
    generator.gate = threading.Event()

    async def leave() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            asked = asyncio.create_task(client.post("/ask", json=QUESTION | {"stream": stream}))
            while not generator.asked:
                await asyncio.sleep(0.01)
            waits = asyncio.create_task(client.post("/ask", json=QUESTION | {"stream": stream}))
            while runner(app).running + runner(app).waiting < 2:
                await asyncio.sleep(0.01)
            for leaves, left in ((waits, 1), (asked, 0)):
                leaves.cancel()
                while runner(app).running + runner(app).waiting > left:
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(leave(), 20))
    assert generator.cancelled == 1 and len(generator.asked) == 1
    generator.gate.set()
    assert httpx.post(f"{address}/ask", json=QUESTION, timeout=30).status_code == 200


class TestDeadline:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return ServiceSettings(deadline_s=0.3, queue_length=1)

    @pytest.mark.parametrize("stream", [False, True])
    def test_past_it_the_reply_is_504_and_the_slot_free(
        self, address: str, app: FastAPI, generator: ScriptedGenerator, stream: bool
    ) -> None:
        generator.gate = threading.Event()
        reply = httpx.post(f"{address}/ask", json=QUESTION | {"stream": stream}, timeout=30)
        if stream:  # the stream had begun with its sources: the error is its last event
            assert reply.status_code == 200 and reply.text.rstrip().split("\n\n")[-1].startswith(
                "event: error"
            )
            assert '"deadline_exceeded"' in reply.text
        else:
            assert reply.status_code == 504 and reply.json()["error"]["code"] == "deadline_exceeded"
        until(lambda: runner(app).running == 0)

    def test_a_generator_that_ignores_it_loses_its_slot(
        self, address: str, app: FastAPI, generator: ScriptedGenerator
    ) -> None:
        generator.gate, generator.ignores_cancel = threading.Event(), True
        assert httpx.post(f"{address}/ask", json=QUESTION, timeout=30).status_code == 504
        until(lambda: runner(app).running == 0)  # its place has been given to a new thread
        stuck, generator.gate = generator.gate, None
        assert httpx.post(f"{address}/ask", json=QUESTION, timeout=30).status_code == 200
        stuck.set()

    def test_it_counts_the_time_in_the_queue(
        self, address: str, app: FastAPI, generator: ScriptedGenerator
    ) -> None:
        generator.gate, generator.ignores_cancel = threading.Event(), True

        async def two() -> list[int]:
            async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                asks = [client.post("/ask", json=QUESTION) for _ in range(2)]
                return [r.status_code for r in await asyncio.gather(*asks)]

        assert asyncio.run(two()) == [504, 504]
        assert len(generator.asked) == 1
        generator.gate.set()


def test_a_client_that_stops_reading_keeps_its_slot_no_longer_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.runner.UNREAD_S", 0.0)
    made = Runner("test")

    def endless(cancel: threading.Event) -> Iterator[int]:
        yield 0
        cancel.wait(20)
        yield 1

    async def unread() -> None:
        events = made.submit(endless, 0.2).events()
        assert await anext(events) == 0 and made.running == 1
        while made.running:  # nobody asks for the next event
            await asyncio.sleep(0.01)
        await events.aclose()

    asyncio.run(asyncio.wait_for(unread(), 15))
    made.close()


def test_live_at_once_ready_when_loaded(app: FastAPI, library: MemoryLibrary) -> None:
    library.warm_gate = threading.Event()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/healthz").json()["status"] == "live"
        waiting = client.get("/readyz")
        assert waiting.status_code == 503 and waiting.json()["parts"]["index"] == "loading"
        asked = client.post("/ask", json=QUESTION)
        assert (
            asked.status_code == 503
            and asked.headers["retry-after"]
            and asked.json()["error"]["code"] == "not_ready"
        )
        library.warm_gate.set()
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/ask", json=QUESTION).status_code == 200


def test_a_panic_of_a_native_library_does_not_take_the_worker_along(
    client: TestClient, generator: ScriptedGenerator
) -> None:
    class Panic(BaseException):
        pass

    def panics(_: object) -> str:
        raise Panic("index out of range")

    generator.reply = panics
    failed = client.post("/ask", json=QUESTION)
    assert failed.status_code == 500 and failed.json()["error"]["code"] == "internal"
    assert "index out of range" not in failed.text
    generator.reply = "The tower is 330 metres tall."
    assert client.post("/ask", json=QUESTION).status_code == 200


def test_closing_ends_what_runs_and_accepts_nothing_more(app: FastAPI, generator: ScriptedGenerator) -> None:
    generator.gate = threading.Event()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        thread = threading.Thread(target=lambda: client.post("/ask", json=QUESTION), daemon=True)
        thread.start()
        until(lambda: runner(app).running == 1)
        runner(app).close()
        assert client.post("/ask", json=QUESTION).status_code == 503
        thread.join(10)
    until(lambda: runner(app).running == 0)
