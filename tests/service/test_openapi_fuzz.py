"""Whatever the OpenAPI document allows, and what it does not: no bare 5xx, no status that it does not declare.

Schemathesis makes requests for every operation; `make nightly` makes many more of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as trials
from hypothesis.errors import Flaky, Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.conftest import BRIDGE, TOWER
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

EXAMPLES = 300 if os.environ.get("LOREBASE_NIGHTLY") else 3
#: Operations that would start processes of their own: `test_workshop*` watch these.
PROCESSES = {
    ("POST", "/runs"), ("POST", "/evaluations"), ("POST", "/models/merge"), ("POST", "/models/export"),
}  # fmt: skip
DECLARED = {502, 503, 504}


@contextlib.asynccontextmanager
async def nothing(_: FastAPI) -> AsyncIterator[None]:
    """Schemathesis starts and ends an application around every request; this one starts and ends once."""
    yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One service for all operations, over fakes; it asks the wire nothing."""
    settings = ServiceSettings(
        model="scripted",
        trusted_hosts=("testserver", "127.0.0.1", "localhost"),
        max_upload_mb=1,
        job_queue_length=1000,
    )
    home = tmp_path_factory.mktemp("home")
    library = MemoryLibrary({"tower.md": TOWER, "bridge.md": BRIDGE})
    app = create_app(settings, home, library, ScriptedGenerator())
    own, app.router.lifespan_context = app.router.lifespan_context, nothing
    app.state.parts.readiness.start()
    assert app.state.parts.readiness.wait(20)
    document = app.openapi()
    assert len([m for methods in document["paths"].values() for m in methods]) >= 40
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    yield schema.exclude(lambda ctx: (ctx.operation.method.upper(), ctx.operation.path) in PROCESSES)
    app.router.lifespan_context = own
    with TestClient(app):  # to its end
        pass


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror("this test asks no name server")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.timeout(3600 if os.environ.get("LOREBASE_NIGHTLY") else 300)
def test_every_operation_answers_as_declared(service: Any) -> None:
    """All operations in one test, so that one report names everything that is wrong."""
    faults: dict[str, str] = {}
    sent: Counter[str] = Counter()
    for found in service.get_all_operations():
        operation = found.ok()
        name = f"{operation.method.upper()} {operation.path}"
        for mode in GenerationMode:
            try:
                fuzz(operation, mode, name, sent)
            except Unsatisfiable:  # nothing about it can be wrong
                continue
            except (AssertionError, FailureGroup, Failure, Flaky) as fault:
                faults[f"{name} ({mode.name.lower()})"] = f"{fault}"[:1500]
    print(f"{sum(sent.values())} requests to {len(sent)} operations")
    assert not faults, "\n\n".join(f"{name}\n{fault}" for name, fault in faults.items())
    assert len(sent) >= 40


CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "How tall is the Eiffel Tower?"}]}
STREAMS = {
    "/ask": {"question": "How tall is the Eiffel Tower?", "stream": True},
    "/v1/chat/completions": CHAT | {"stream": True},
    "/api/chat": CHAT,
    "/api/generate": {"model": "scripted", "prompt": "The tower"},
}


@pytest.mark.parametrize("path", STREAMS)
def test_each_event_of_a_stream_is_as_declared(service: Any, path: str) -> None:
    case = service[path]["POST"].Case(body=STREAMS[path], media_type="application/json")
    response = case.call()
    assert response.status_code == 200 and len(response.text.splitlines()) > 3, response.text
    case.validate_response(
        response, checks=(status_code_conformance, content_type_conformance, response_schema_conformance)
    )


def fuzz(operation: Any, mode: GenerationMode, name: str, sent: Counter[str]) -> None:
    @seed(7731)
    @trials(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: Any) -> None:
        sent[name] += 1
        check(case)

    answers()


def check(case: Any) -> None:
    response = case.call(timeout=120)  # a busy machine is no fault of the service
    assert response.status_code < 500 or response.status_code in DECLARED, response.text
    assert "shutting down" not in response.text  # or nothing behind the queue is tried
    if response.status_code >= 400:
        told = json.loads(response.text)
        assert "error" in told or case.path == "/readyz", response.text
        assert "Traceback" not in response.text and str(Path(__file__).parents[2]) not in response.text
    case.validate_response(
        response, checks=(status_code_conformance, content_type_conformance, response_schema_conformance)
    )
