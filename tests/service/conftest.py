"""A service over fakes: in process for shapes, on a socket where connections matter."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import ServiceSettings
from tests.postgres import PostgresServer, programs
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

TOWER = """The Eiffel Tower stands in Paris. It was finished in 1889 by the company of Gustave Eiffel.

The tower is 330 metres tall. 🗼 It has three levels for visitors, and 1,665 steps lead to the top.

Painting it takes 60 tonnes of paint every seven years.
"""
BRIDGE = "The old bridge of Mostar crosses the river Neretva. It was rebuilt in 2004.\n"


@pytest.fixture
def plain_calibrator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibrator set by hand in the place of the shipped one: tests do not hang on a fit."""
    monkeypatch.setattr("service.reading.calibrators.SHIPPED", Path(__file__).with_name("calibrator.json"))


@pytest.fixture
def library() -> MemoryLibrary:
    return MemoryLibrary({"tower.md": TOWER, "bridge.md": BRIDGE})


@pytest.fixture
def generator() -> ScriptedGenerator:
    return ScriptedGenerator()


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(model="scripted", shutdown_grace_s=0.5, max_tokens=512)


@pytest.fixture
def app(
    settings: ServiceSettings, tmp_path: Path, library: MemoryLibrary, generator: ScriptedGenerator
) -> FastAPI:
    return create_app(settings, tmp_path, library, generator)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        yield client


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app on a free loopback port, as its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=3)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    with serving(app) as address:
        assert app.state.parts.readiness.wait(10)
        yield address


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a state; the limit only ends a test that would hang."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.005)


def ready(address: str) -> bool:
    """Whether a service answers there; it says its address a moment before it listens."""
    try:
        return httpx.get(address.rstrip("/") + "/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def read_events(response: httpx.Response) -> list[tuple[str, str]]:
    """Names and data of server-sent events."""
    blocks = "".join(response.iter_text()).strip().split("\n\n")
    return [
        (
            next(line[7:] for line in block.split("\n") if line.startswith("event: ")),
            "\n".join(line[6:] for line in block.split("\n") if line.startswith("data: ")),
        )
        for block in blocks
    ]


def leave(address: str, path: str, body: dict[str, Any], begun: Callable[[], bool]) -> None:
    """Send a request and close the connection as soon as `begun` is true."""

    async def sent() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            asked = asyncio.create_task(client.post(path, json=body))
            while not begun():
                await asyncio.sleep(0.01)
            asked.cancel()
            await asyncio.wait({asked})

    asyncio.run(asyncio.wait_for(sent(), 20))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A real PostgreSQL of this module's own."""
    pytest.importorskip("sqlalchemy", reason="the extra postgres is not installed")
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    if programs() is None:
        pytest.skip("no PostgreSQL is installed (Debian: apt install postgresql)")
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    try:
        server.start()
        yield server
    finally:
        server.remove()
