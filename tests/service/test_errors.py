"""Every error of every route has one form, says nothing of the inside, and bad input never becomes a 500."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from ingest import errors as ingest_errors
from ingest.transfer import InvalidArchive
from model import errors as model_errors
from service import errors, problems
from service.evaluation.replies import AnswersUnwritable
from service.settings import ServiceSettings, check_bind, ollama_host
from service.tuning.build import NothingToTune
from service.tuning.pairs import PairsUnwritable
from service.tuning.train import TuningFailed
from tests.service.fakes import MemoryLibrary

JSON_ROUTES = {"/ask": "question", "/search": "query"}


def operations(app: FastAPI) -> list[tuple[str, str]]:
    paths: dict[str, Any] = app.openapi()["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


def filled(path: str) -> str:
    return (
        path.replace("{document_id}", "no-such").replace("{job_id}", "no-such").replace("{name}", "no-such")
    )


def assert_form(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}, response.text
    if response.url.path.startswith("/v1/"):
        assert set(body["error"]) == {"message", "type", "param", "code"}, response.text
    elif response.url.path.startswith("/api/"):
        assert isinstance(body["error"], str) and body["error"] and "Traceback" not in response.text
        return {"message": body["error"], "code": None}
    else:
        assert set(body["error"]) == {"code", "message", "detail"}, response.text
    assert body["error"]["message"] and "Traceback" not in response.text
    return dict(body["error"])


def test_every_operation_refuses_a_strange_host_and_a_foreign_page(client: TestClient, app: FastAPI) -> None:
    assert len(operations(app)) >= 14
    for method, path in operations(app):
        for host in ("evil.test", "127.0.0.1/healthz?", "localhost:80:80", "127.0.0.1@evil.test", ""):
            reply = client.request(method, filled(path), headers={"Host": host})
            assert reply.status_code == 400 and assert_form(reply)["code"] in ("untrusted_host", None), (
                path,
                host,
            )
        if method != "get":
            reply = client.request(method, filled(path), headers={"Origin": "http://evil.test"})
            assert reply.status_code == 403 and assert_form(reply)["code"] in ("foreign_origin", None), path
            assert "access-control-allow-origin" not in reply.headers


def test_every_unknown_thing_is_404_in_the_same_form(client: TestClient, app: FastAPI) -> None:
    for method, path in operations(app):
        if "{" in path and method not in ("put", "patch"):  # these want a body, or make what is not there
            reply = client.request(method, filled(path))
            assert reply.status_code == 404, path
            assert_form(reply)
    for method, path in (
        ("GET", "/nothing"),
        ("GET", "/web/nothing.js"),
        ("GET", "/web/../app.py"),
        ("POST", "/healthz"),
    ):
        assert_form(client.request(method, path))


def test_every_operation_reports_a_damaged_index_as_503(
    client: TestClient, library: MemoryLibrary, app: FastAPI
) -> None:
    library.failure = ingest_errors.IndexDamaged("kb.sqlite is damaged. Run: python -m ingest verify")
    bodies: dict[str, Any] = {"/ask": {"question": "x"}, "/search": {"query": "x"}}
    bodies["/documents/sync"] = {"files": [{"path": "a.md", "hash": "0" * 64}]}
    seen = 0
    for method, path in operations(app):
        if method == "patch":
            continue
        if path.startswith("/documents/") or path in bodies or (method, path) == ("get", "/documents"):
            reply = client.request(method, filled(path), json=bodies.get(path))
            assert reply.status_code == 503 and assert_form(reply)["code"] == "index_damaged", path
            seen += 1
    assert seen >= 7
    streamed = client.post("/ask", json={"question": "x", "stream": True})
    assert streamed.status_code == 503 and assert_form(streamed)["code"] == "index_damaged"


@pytest.mark.parametrize("path", JSON_ROUTES)
def test_bad_bodies_are_422_and_name_the_field(client: TestClient, path: str) -> None:
    field = JSON_ROUTES[path]
    bad: list[tuple[str, Any]] = [
        ("surprise", True), ("collection", ""), ("collection", "x" * 65), ("k", 0), ("k", -1), ("k", 51), ("k", 2**31),
        ("k", 2**63), ("k", "many"), ("search_mode", "magic"), (field, ""), (field, "  \n "), (field, None), (field, ["x"]),
    ]  # fmt: skip
    if path == "/ask":
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", "max_tokens", "top_k", "seed"):
            bad += [(name, -1), (name, 2**63), (name, 1e308), (name, "nan")]
        bad += [
            ("mode", "magic"),
            ("top_p", 0),
            ("stop", ["x"] * 17),
            ("stop", [""]),
            ("model", ""),
            ("stream", 3),
        ]
    for name, value in bad:
        reply = client.post(path, json={field: "words"} | {name: value})
        assert reply.status_code == 422, (name, value, reply.text)
        assert name in assert_form(reply)["message"], (name, value)
    for raw in (b"", b"{", b"[]", b"null", b'{"k": NaN}', b'{"%b": "\\ud800"}' % field.encode(), b"\xff\xfe"):
        assert (
            client.post(path, content=raw, headers={"Content-Type": "application/json"}).status_code == 422
        ), raw


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"question": "x", "kk": 3}', "body.kk: there is no such field"),
        ('{"question": " "}', "body.question: is empty"),
        ("{bad", "body.1: this is no JSON: Expecting property name enclosed in double quotes"),
        ('{"question": "x", "k": 51}', "body.k: Input should be less than or equal to 50"),
    ],
)
def test_a_bad_body_is_told_in_words_about_what_was_sent(client: TestClient, body: str, message: str) -> None:
    reply = client.post("/ask", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422 and assert_form(reply)["message"] == message


@pytest.mark.parametrize("path", JSON_ROUTES)
def test_a_question_of_100_kb_is_refused_with_the_limit(
    client: TestClient, path: str, library: MemoryLibrary
) -> None:
    reply = client.post(path, json={JSON_ROUTES[path]: "word " * 19_999})
    assert reply.status_code == 422 and "8,000" in assert_form(reply)["message"]
    huge = client.post(path, json={JSON_ROUTES[path]: "x" * 1_000_001})
    assert huge.status_code == 413 and "200 MB" in assert_form(huge)["message"]
    assert library.searched == []


def test_an_unknown_collection_and_an_unknown_model_are_404(client: TestClient) -> None:
    for path, field in JSON_ROUTES.items():
        reply = client.post(path, json={field: "tower", "collection": "nope"})
        assert reply.status_code == 404 and assert_form(reply)["code"] == "unknown_collection"
    reply = client.post("/ask", json={"question": "tower", "model": "gpt-99"})
    assert reply.status_code == 404 and "scripted" in assert_form(reply)["message"]


def test_an_unexpected_error_tells_nothing_of_the_inside(
    client: TestClient, library: MemoryLibrary, tmp_path: Path
) -> None:
    library.failure = RuntimeError(f"secret {tmp_path}")
    for path, field in JSON_ROUTES.items():
        reply = client.post(path, json={field: "tower"})
        assert reply.status_code == 500 and "secret" not in reply.text
    library.failure = ingest_errors.StorageFull(f"no space left in {tmp_path}/collections")
    reply = client.get("/documents")
    assert reply.status_code == 507 and str(tmp_path) not in reply.text and "LOREBASE_HOME" in reply.text


def test_every_error_of_the_three_wings_has_its_row() -> None:
    def family(root: type[Exception]) -> set[type[Exception]]:
        return {root}.union(
            *(
                family(c)
                for c in root.__subclasses__()
                if c.__module__.split(".")[0] in ("ingest", "model", "service")
            )
        )

    served = {
        "UnknownModel",
        "AdapterError",
        "CheckpointError",
        "UnsupportedModel",
        "TokenizerError",
        "ContextOverflow",
        "InvalidSampling",
    }
    model = {c for c in family(model_errors.ModelError) if c.__name__ in served}
    starting = {
        errors.UnsafeBind,
        errors.PortInUse,
        errors.BadKeyFile,
        AnswersUnwritable,
        InvalidArchive,
        NothingToTune,
        PairsUnwritable,
        TuningFailed,
    }  # they end a command, no request meets them
    kinds = family(ingest_errors.IngestError) | family(errors.ServiceError) | model
    assert len(model) == len(served)
    for kind in kinds - starting - {ingest_errors.IngestError, errors.ServiceError}:
        row = next(c for c in kind.__mro__ if c in problems.TABLE)
        assert row not in (ingest_errors.IngestError, model_errors.ModelError, errors.ServiceError), (
            f"{kind} is a bare 500"
        )


def test_openapi_declares_what_is_answered(app: FastAPI) -> None:
    document = json.dumps(app.openapi())
    for method, path in operations(app):
        operation = app.openapi()["paths"][path][method]
        assert operation["summary"] and "HTTPValidationError" not in json.dumps(operation), path
    assert '"examples"' in document and '"maximum": 50' in document


def test_loopback_only() -> None:
    for host in ("127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"):
        check_bind(ServiceSettings(host=host))
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.evil.test"):
        with pytest.raises(errors.UnsafeBind, match="key keeps"):
            check_bind(ServiceSettings(host=host))


def test_ollama_host_keeps_its_owners_meaning() -> None:
    assert ollama_host({}) == "127.0.0.1:11434"
    assert ollama_host({"OLLAMA_HOST": "0.0.0.0:5000"}) == "127.0.0.1:5000"
    assert ollama_host({"OLLAMA_HOST": "https://gpu.example:8443"}) == "https://gpu.example:8443"


def test_headers_of_every_reply(client: TestClient) -> None:
    for path in ("/", "/healthz", "/nothing", "/documents"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
