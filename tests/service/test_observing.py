"""What the service tells about itself: ids, figures and logs, and never what was asked or stored."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ingest.settings import IngestSettings
from service import logs
from service.access import NEEDS
from service.app import create_app
from service.database import Database
from service.keys import Keys
from service.rates import MOST_CALLERS, Rates
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import TOWER, until
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

QUESTION = {"question": "How tall is the Eiffel Tower?"}


def figures(client: TestClient, headers: dict[str, str] | None = None) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    reply = client.get("/metrics", headers=headers or {})
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(reply.text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


class TestMetrics:
    def test_requests_latencies_tokens_and_answers_are_counted(self, client: TestClient) -> None:
        for _ in range(3):
            client.post("/ask", json=QUESTION)
        client.post("/ask", json={"question": "Who painted the Mona Lisa?"})
        client.post(
            "/v1/chat/completions",
            json={"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]},
        )
        client.post("/ask", json={})
        client.get("/documents/no-such-document")
        client.get("/no/such/path")
        found = figures(client)
        assert found["lorebase_requests_total", "POST", "/ask", "200"] == 4
        assert found["lorebase_requests_total", "POST", "/ask", "422"] == 1
        assert found["lorebase_requests_total", "GET", "/documents/{document_id}", "404"] == 1
        assert found["lorebase_requests_total", "GET", "none", "404"] == 1
        assert found["lorebase_request_seconds_count", "/ask"] == 5
        assert found["lorebase_answers_total", "answered"] == 3
        assert sum(v for k, v in found.items() if k[0] == "lorebase_answers_total") == 4
        assert found["lorebase_tokens_total", "completion"] >= 4 * 6
        assert found["lorebase_requests_in_progress",] == 1  # this one

    def test_levels_are_read_when_asked(
        self, client: TestClient, app: FastAPI, library: MemoryLibrary
    ) -> None:
        found = figures(client)
        assert found["lorebase_slots", "answers"] == 1 and found["lorebase_slots_busy", "answers"] == 0
        assert found["lorebase_queue_limit", "answers"] == 4 and found["lorebase_ready", "generator"] == 1
        assert (
            found["lorebase_index_generation", "default"] == 1
            and found["lorebase_index_documents", "default"] == 2
        )
        assert found["process_open_fds",] > 0 and found["lorebase_cache_bytes", "passages"] == 0
        job = client.post("/documents", json={"text": "x", "path": "x.md"}).json()
        until(lambda: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)
        found = figures(client)
        assert found["lorebase_index_generation", "default"] == 2 and found["lorebase_jobs", "done"] == 1

    def test_no_caller_can_make_labels(self, client: TestClient, library: MemoryLibrary) -> None:
        for n in range(20):
            client.get(f"/documents/secret-{n}", params={"collection": f"secret-{n}"})
            client.get(f"/secret-{n}")
            client.get(f"/web/secret-{n}.js")
            client.request(f"SECRET{n}", "/ask")
            client.post("/v1/chat/completions", json={"model": f"secret-{n}", "messages": []})
        assert "ecret" not in client.get("/metrics").text.lower()

    def test_a_reader_may_scrape_unless_it_is_held_to_collections(
        self, client: TestClient, tmp_path: Path
    ) -> None:
        keys = Keys(Database(tmp_path))
        whole, held = keys.create("prometheus", "reader")[1], keys.create("ann", "reader", ["default"])[1]
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": f"Bearer {held}"}).status_code == 403
        assert figures(client, {"Authorization": f"Bearer {whole}"})


def test_a_reply_to_the_unforeseen_is_dressed_like_any_other(
    client: TestClient, library: MemoryLibrary
) -> None:
    library.failure = RuntimeError("secret")
    for path in ("/documents", "/documents/x/text"):
        reply = client.get(path)
        assert reply.status_code == 500 and "secret" not in reply.text
        assert reply.headers["x-request-id"] and "default-src" in reply.headers["content-security-policy"]
    assert figures_of(client, "lorebase_requests_total", "GET", "/documents", "500") == 1


def figures_of(client: TestClient, *name: str) -> float:
    return figures(client)[name]


class TestRequestIds:
    def test_every_reply_carries_one_and_a_callers_is_kept(self, client: TestClient) -> None:
        mine = "trace-1/2:3"
        for method, path, headers in (
            ("GET", "/healthz", {}), ("GET", "/nothing", {}), ("POST", "/ask", {}), ("GET", "/", {}),
            ("GET", "/documents", {"Host": "evil.test"}), ("POST", "/ask", {"Origin": "http://evil.test"}),
        ):  # fmt: skip
            reply = client.request(method, path, headers=headers | {"X-Request-ID": mine})
            assert reply.headers.get_list("x-request-id") == [mine], path
            assert len(client.request(method, path, headers=headers).headers["x-request-id"]) == 32

    @pytest.mark.parametrize("odd", ["", "a b", "x" * 129, "a\tb", "é", "<script>", '"', "a;b"])
    def test_an_odd_one_is_replaced(self, client: TestClient, odd: str) -> None:
        said = client.get("/healthz", headers={"X-Request-ID": odd.encode()}).headers["x-request-id"]
        assert said != odd and len(said) == 32


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written to standard error, with every logger of the process at its most talkative."""
    held = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", held)
    logs.configure("json", "debug")
    root.setLevel(logging.DEBUG)
    for client in ("httpx", "httpx2"):  # the tests' own client, which notes what it calls
        monkeypatch.setattr(logging.getLogger(client), "disabled", True)
    yield held
    root.handlers[:], _ = before
    root.setLevel(before[1])
    for wing in ("service", "ingest", "model"):
        logging.getLogger(wing).setLevel(logging.NOTSET)


CANARY = "Xanadu7731"


class TestLogs:
    @pytest.fixture
    def app(self, tmp_path: Path) -> FastAPI:
        """Real store, real search and real pipeline: whatever they log counts."""
        ingest = IngestSettings(workers=1, embedder="hash")
        shelves = Shelves(tmp_path, "default", ingest, lambda _: HashEmbedder())
        settings = ServiceSettings(model="scripted", refuse_below=0.0, max_upload_mb=1)
        return create_app(settings, tmp_path, shelves, ScriptedGenerator(f"The {CANARY} is tall."))

    def test_neither_documents_nor_questions_nor_keys_are_written(
        self, app: FastAPI, tmp_path: Path, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            assert app.state.parts.readiness.wait(20)
            for path, text in (
                (f"{CANARY}.md", f"# {CANARY}\n\n{TOWER} {CANARY}"),
                (f"{CANARY}.pdf", CANARY),
            ):
                job = client.post("/documents", json={"text": text, "path": path}).json()
                until(lambda job=job: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)
            question = f"How tall is {CANARY}?"
            for mode in ("hybrid", "dense", "keyword"):
                assert (
                    client.post(
                        "/search", json={"query": f'{CANARY} "* AND (', "search_mode": mode}
                    ).status_code
                    == 200
                )
            assert CANARY in client.post("/ask", json={"question": question, "session_id": "s"}).text
            client.post("/ask", json={"question": question, "stream": True})
            client.post("/ask", json={"question": CANARY, "k": CANARY})
            client.get(f"/documents/{CANARY}", params={"q": CANARY}, headers={"X-Request-ID": "id-of-mine"})
            client.get("/documents", headers={"Authorization": f"Bearer {CANARY}"})
            client.post(f"/{CANARY}", content=CANARY, headers={"Content-Type": CANARY})
            client.post(
                "/v1/chat/completions",
                json={"model": CANARY, "messages": [{"role": "user", "content": CANARY}]},
            )
            classes = {"a": [f"{CANARY} up", "rise"], "b": ["down", "fall"]}
            client.post("/classify", json={"text": CANARY, "classes": classes})

            def fails(*_: object) -> str:
                raise ValueError(f"cannot encode {CANARY}")

            monkeypatch.setattr(app.state.parts.answerer, "answer", fails)
            assert client.post("/ask", json={"question": question}).status_code == 500
        lines = [json.loads(line) for line in written.getvalue().splitlines()]
        assert CANARY not in written.getvalue() and str(CANARY).lower() not in written.getvalue().lower()
        asked = [line for line in lines if line["logger"] == "service.requests"]
        assert {"POST /ask", "POST /search", "GET /documents/{document_id}"} <= {
            f"{line['method']} {line['route']}" for line in asked
        }
        assert next(line for line in asked if line["request_id"] == "id-of-mine")["status"] == 404
        (failed,) = [line for line in lines if line["message"] == "unexpected error"]
        assert failed["exception"][-1] == "ValueError" and any(
            "fails" in place for place in failed["exception"]
        )
        served = next(line for line in asked if line["status"] == 500)
        assert failed["request_id"] == served["request_id"]

    @given(st.text(), st.text())
    @trials(max_examples=100)
    def test_a_record_is_one_line_whatever_is_in_it(self, message: str, value: str) -> None:
        for form in ("text", "json"):
            record = logging.LogRecord("service", logging.INFO, "x.py", 1, message, (), None)
            record.fields = {"value": value}
            line = logs.Lines(form).format(record)  # type: ignore[arg-type]
            assert len(line.splitlines()) == 1 or form == "json"
            assert "\n" not in line and "\r" not in line and "\x1b" not in line
            if form == "json":
                assert (json.loads(line)["message"], json.loads(line)["value"]) == (message, value)


def test_a_slot_knows_whom_it_works_for(client: TestClient, generator: ScriptedGenerator) -> None:
    seen: list[str] = []

    def reply(_: object) -> str:
        seen.append(logs.request_id.get())
        return "The tower is 330 metres tall."

    generator.reply = reply  # type: ignore[assignment]
    for said in ("first", "second"):
        asked = client.post("/ask", json=QUESTION | {"mode": "closed_book"}, headers={"X-Request-ID": said})
        assert asked.status_code == 200, asked.text
    assert seen == ["first", "second"]


class TestRates:
    def test_a_bucket_holds_a_minute_and_fills_steadily(self) -> None:
        now = 0.0
        rates = Rates(60, lambda: now)
        assert [rates.take("a") for _ in range(61)] == [0] * 60 + [1]
        assert rates.take("b") == 0  # every caller has its own
        now = 10.5
        assert [rates.take("a") for _ in range(11)] == [0] * 10 + [1]
        now = 10_000.0
        assert sum(rates.take("a") == 0 for _ in range(200)) == 60

    @given(st.integers(1, 500), st.lists(st.floats(0, 100), max_size=200))
    def test_never_more_than_the_rate_and_the_wait_is_enough(
        self, per_minute: int, pauses: list[float]
    ) -> None:
        now = 0.0
        rates = Rates(per_minute, lambda: now)
        for taken, pause in enumerate(pauses, 1):
            now += pause
            if wait := rates.take("a"):
                now += wait
                assert rates.take("a") == 0
            assert taken <= per_minute + now * per_minute / 60 + 1e-6

    def test_it_remembers_only_so_many(self) -> None:
        rates = Rates(1)
        for n in range(MOST_CALLERS + 100):
            rates.take(str(n))
        assert len(rates._buckets) == MOST_CALLERS

    def test_the_service_refuses_before_any_work(
        self, tmp_path: Path, library: MemoryLibrary, generator: ScriptedGenerator
    ) -> None:
        app = create_app(ServiceSettings(requests_per_minute=5), tmp_path, library, generator)
        keys = Keys(Database(tmp_path))
        ann, bob = (f"Bearer {keys.create(n, 'reader')[1]}" for n in ("ann", "bob"))
        with TestClient(app, base_url="http://127.0.0.1") as client:
            assert app.state.parts.readiness.wait(10)
            replies = [client.post("/ask", json=QUESTION, headers={"Authorization": ann}) for _ in range(7)]
            assert [r.status_code for r in replies] == [200] * 5 + [429] * 2 and len(generator.asked) == 5
            late = replies[-1]
            assert (
                late.json()["error"]["code"] == "rate_limited" and 1 <= int(late.headers["retry-after"]) <= 12
            )
            assert (
                client.post("/v1/chat/completions", headers={"Authorization": ann}).json()["error"]["type"]
                == "rate_limit_error"
            )
            assert client.get("/documents", headers={"Authorization": bob}).status_code == 200
            strangers = [
                client.get("/documents", headers={"Authorization": "Bearer x"}).status_code for _ in range(7)
            ]
            assert strangers == [401] * 5 + [429] * 2
            for path in ("/healthz", "/readyz", "/", "/web/page.js"):
                assert [client.get(path).status_code for _ in range(7)] == [200] * 7

    def test_off_on_loopback_and_on_elsewhere_unless_set(self) -> None:
        assert ServiceSettings().rate_limit == 0
        assert ServiceSettings(host="0.0.0.0").rate_limit == 600
        assert ServiceSettings(host="0.0.0.0", requests_per_minute=0).rate_limit == 0
        assert ServiceSettings(requests_per_minute=7).rate_limit == 7


def test_metrics_is_no_secret_way_in() -> None:
    assert NEEDS["GET", "/metrics"].whole and NEEDS["GET", "/metrics"].role == "reader"
