"""Traces: what is a step of what, that nothing of documents or questions is in them, and that off is off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ingest.settings import IngestSettings
from service import tracing
from service.app import create_app
from service.errors import InvalidRequest
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import TOWER, until
from tests.service.fakes import ScriptedGenerator

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
from opentelemetry.sdk.trace import ReadableSpan  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

SECRET = "Zyxwvut"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider.get_tracer("test"), provider)
    yield exporter
    tracing.flush()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = IngestSettings(workers=1, embedder="hash")
    shelves = Shelves(tmp_path, "default", settings, lambda _: HashEmbedder())
    app = create_app(
        ServiceSettings(refuse_below=0.0), tmp_path, shelves, ScriptedGenerator(f"{SECRET} is tall.")
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def parent_of(spans: InMemorySpanExporter, span: ReadableSpan) -> str:
    assert span.parent is not None
    ids = {s.context.span_id: s.name for s in spans.get_finished_spans() if s.context}
    return ids[span.parent.span_id]


def test_each_step_belongs_to_its_request_and_tells_no_text(
    spans: InMemorySpanExporter, client: TestClient
) -> None:
    job = client.post("/documents", json={"text": f"{TOWER} {SECRET}.", "path": f"{SECRET}.md"}).json()
    until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] == "done")
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    traceparent = {"traceparent": f"00-{trace}-{caller}-01"}
    body = {"question": f"How tall is {SECRET}?", "session_id": "s1"}
    assert client.post("/ask", json=body, headers=traceparent).status_code == 200
    client.post("/search", json={"query": SECRET}).raise_for_status()
    client.post("/v1/chat/completions", json={
        "model": "scripted", "messages": [{"role": "user", "content": SECRET}]
    })  # fmt: skip
    client.post("/embed", json={"texts": [SECRET]}).raise_for_status()
    client.get("/documents", params={"filter": f'author = "{SECRET}"'})
    client.get(f"/documents/{SECRET}/text")
    client.get(f"/{SECRET}")

    (ask,) = named(spans, "POST /ask")
    assert ask.context is not None and f"{ask.context.trace_id:032x}" == trace
    assert ask.parent is not None and f"{ask.parent.span_id:016x}" == caller
    assert ask.attributes is not None and ask.attributes["http.response.status_code"] == 200
    mine = [s for s in spans.get_finished_spans() if s.context and s.context.trace_id == ask.context.trace_id]
    steps = {s.name: parent_of(spans, s) for s in mine if s is not ask}
    assert steps == {"answers": "POST /ask", "retrieval": "answers", "generation": "answers"}
    told = {s.name: dict(s.attributes or {}) for s in mine}
    assert told["retrieval"]["lorebase.hits"] == 1 and told["retrieval"]["lorebase.collection"] == "default"
    assert told["generation"]["gen_ai.request.model"] and told["generation"]["lorebase.answered"] in (
        True,
        False,
    )
    (ingest,) = named(spans, "ingest")
    assert parent_of(spans, ingest) == "POST /documents"
    assert ingest.attributes is not None and ingest.attributes["lorebase.files"] == 1
    assert len(named(spans, "generation")) == 2 and len(named(spans, "embedding")) == 1
    assert {parent_of(spans, s) for s in named(spans, "retrieval")} == {"answers", "search"}
    assert named(spans, "GET none")  # what led to no route has no path
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    assert SECRET not in everything and "Eiffel" not in everything


def test_a_failure_tells_its_kind_and_not_its_message(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match=SECRET), tracing.span("outer"), tracing.span("inner"):
        raise ValueError(f"{SECRET} stands in the document")
    inner, outer = named(spans, "inner")[0], named(spans, "outer")[0]
    assert parent_of(spans, inner) == "outer" and outer.parent is None
    for span in (inner, outer):
        assert not span.status.is_ok and (span.attributes or {})["error.type"] == "ValueError"
        assert not span.events and SECRET not in span.to_json()
    assert tracing.here() is None


def test_it_is_off_unless_a_collector_is_named() -> None:
    for environ in (
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
    ):
        tracing.configure(environ)
        with tracing.span("step"):
            assert tracing.here() is None
    with pytest.raises(InvalidRequest, match="http/protobuf"):
        tracing.configure(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        )
    # nothing of it is imported by a step, nor by the module
    code = (
        "import sys\nfrom service import tracing\nbefore = set(sys.modules)\n"
        "with tracing.span('x') as s: s.set(a=1)\n"
        "assert not any('opentelemetry.sdk' in m or 'exporter' in m for m in sys.modules), 'imported'\n"
        "assert set(sys.modules) == before"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
