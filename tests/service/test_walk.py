"""From files on the disk to a cited answer over HTTP: real ingest, store, search and conductor; only weights are fakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ingest.collections import delete_collection, open_collection
from ingest.errors import EmbedderError
from ingest.pipeline import ingest_path, rebuild
from ingest.settings import IngestSettings
from service.app import create_app
from service.settings import ServiceSettings
from service.shelves import Shelves
from tests.fakes import HashEmbedder
from tests.service.conftest import TOWER, until
from tests.service.fakes import ScriptedGenerator

SETTINGS = IngestSettings(workers=1)
QUESTION = {"question": "How many metres tall is the tower?"}


def test_disk_to_http_and_back(tmp_path: Path) -> None:
    home, docs = tmp_path / ".lorebase", tmp_path / "docs"
    docs.mkdir()
    (docs / "tower.md").write_text("# The tower 🗼\n\n" + TOWER, encoding="utf-8")
    (docs / "bread.txt").write_text("Knead the dough for ten minutes.", encoding="utf-8")
    embedders = {"hash": HashEmbedder(), "other": HashEmbedder(name="other")}
    settings = SETTINGS.model_copy(update={"embedder": "hash"})
    shelves = Shelves(home, "default", settings, embedders.__getitem__)
    generator = ScriptedGenerator("The tower is 330 metres tall.")
    app = create_app(ServiceSettings(refuse_below=0.0), home, shelves, generator)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/ask", json=QUESTION).json()["refusal_reason"] == "nothing_ingested"
        assert client.get("/documents").json()["total"] == 0

        store = open_collection(home, "default", create=True)  # another process would do the same
        ingest_path([docs], store, embedders["hash"], settings)
        reply = client.post("/ask", json=QUESTION).json()
        assert reply["answered"] and reply["llm_generated"]
        (citation,) = reply["citations"]
        assert citation["path"] == "docs/tower.md" and citation["text"] == "The tower is 330 metres tall."
        text = client.get(f"/documents/{citation['document_id']}/text").json()["text"]
        assert text[citation["char_start"] : citation["char_end"]] == citation["text"]
        assert text == (docs / "tower.md").read_text(encoding="utf-8")

        job = client.post(
            "/documents", json={"text": "The Tower has 1,665 steps.", "path": "steps.md"}
        ).json()
        until(lambda: client.get(f"/jobs/{job['id']}").json()["status"] == "done")
        (hit,) = client.post(
            "/search", json={"query": "1665 steps", "k": 1, "search_mode": "keyword"}
        ).json()["hits"]
        assert (
            hit["path"] == "steps.md"
            and reply["index_generation"] < client.post("/ask", json=QUESTION).json()["index_generation"]
        )
        client.delete(f"/documents/{hit['document_id']}").raise_for_status()
        hits = client.post("/search", json={"query": "1665 steps", "k": 50}).json()["hits"]
        assert {h["path"] for h in hits} == {"docs/tower.md", "docs/bread.txt"}

        rebuild(store, embedders["other"], settings)  # meanwhile, elsewhere
        assert client.post("/ask", json=QUESTION).json()["answered"]
        assert client.get("/collections").json()["collections"][0]["embedder"] == "other"
        store.close()
        delete_collection(home, "default")
        assert client.post("/ask", json=QUESTION).json()["refusal_reason"] == "nothing_ingested"


def test_missing_weights_keep_it_live_and_say_what_to_run(tmp_path: Path) -> None:
    app = create_app(ServiceSettings(), tmp_path)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: "loading" not in client.get("/readyz").json()["parts"].values())
        ready = client.get("/readyz")
        assert ready.status_code == 503 and "python -m model pull" in ready.json()["parts"]["generator"]
        assert str(tmp_path) not in ready.text and client.get("/healthz").status_code == 200
        for body in ({}, {"mode": "closed_book"}, {"stream": True}):
            asked = client.post("/ask", json=QUESTION | body)
            assert asked.status_code == 503 and asked.json()["error"]["code"] == "weights_missing"
            assert "python -m model pull smollm2-135m-instruct" in asked.json()["error"]["message"]
        searched = client.post("/search", json={"query": "x"})
        assert searched.status_code == 503 and "python -m model pull multilingual-e5-small" in searched.text
        assert client.get("/documents").json()["total"] == 0 and client.get("/models").json()["models"] == []


def test_a_damaged_collection_is_said_to_be_damaged(tmp_path: Path) -> None:
    store = open_collection(tmp_path, "default", create=True)
    (tmp_path / "a.md").write_text(TOWER, encoding="utf-8")
    ingest_path([tmp_path / "a.md"], store, HashEmbedder(), SETTINGS)
    store.close()
    file = store.folder / "kb.sqlite"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    shelves = Shelves(tmp_path, "default", SETTINGS, lambda _: HashEmbedder())
    with TestClient(
        create_app(ServiceSettings(), tmp_path, shelves, ScriptedGenerator()), base_url="http://127.0.0.1"
    ) as client:
        until(lambda: client.get("/readyz").json()["status"] == "failed")
        asked = client.post("/ask", json=QUESTION)
        assert asked.status_code == 503 and asked.json()["error"]["code"] == "index_damaged"
        assert str(tmp_path) not in asked.text


def test_a_damaged_collection_is_named_and_stops_no_other_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "a.md").write_text(TOWER, encoding="utf-8")
    for name in ("default", "whole", "worn"):
        store = open_collection(home, name, create=True)
        ingest_path([tmp_path / "a.md"], store, HashEmbedder(), SETTINGS)
        store.close()

    def damage(name: str) -> None:
        file = home / "collections" / name / "kb.sqlite"
        content = file.read_bytes()
        file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    damage("worn")
    shelves = Shelves(home, "default", SETTINGS, lambda _: HashEmbedder())
    app = create_app(ServiceSettings(), home, shelves, ScriptedGenerator())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/readyz").json()["notes"] == []
        wanted = {"query": "tower", "collection": "worn"}
        assert client.post("/search", json=wanted).json()["error"]["code"] == "index_damaged"
        (note,) = client.get("/readyz").json()["notes"]
        assert note.startswith("collection 'worn' cannot be used: ") and str(home) not in note
        shutil.rmtree(home / "collections" / "worn")
        assert client.post("/search", json=wanted).status_code == 404
        assert client.get("/readyz").json()["notes"] == []
    damage("default")
    shelves = Shelves(home, "default", SETTINGS, lambda _: HashEmbedder())
    app = create_app(ServiceSettings(), home, shelves, ScriptedGenerator())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        until(lambda: client.get("/readyz").json()["status"] == "failed")
        assert client.post("/search", json={"query": "tower"}).status_code == 503
        for path, body in (
            ("/search", {"query": "tower", "collection": "whole"}),
            ("/ask", QUESTION | {"collection": "whole"}),
            ("/embed", {"texts": ["a tower"]}),
        ):
            reply = client.post(path, json=body)
            assert reply.status_code == 200, (path, reply.text)


def test_an_embedder_that_is_missing_fails_a_job_with_the_command(tmp_path: Path) -> None:
    def missing(name: str) -> HashEmbedder:
        raise EmbedderError(
            f"Embedder {name!r} is not installed. Fetch it with `python -m model pull {name}`"
        )

    shelves = Shelves(tmp_path, "default", SETTINGS, missing)
    with TestClient(
        create_app(ServiceSettings(), tmp_path, shelves, ScriptedGenerator()), base_url="http://127.0.0.1"
    ) as client:
        job = client.post("/documents", json={"text": TOWER, "path": "a.md"}).json()
        until(lambda: client.get(f"/jobs/{job['id']}").json()["finished_at"] is not None)
        error = client.get(f"/jobs/{job['id']}").json()["error"]
        assert error["code"] == "embedder_error" and "python -m model pull" in error["message"]


@pytest.mark.parametrize(
    "arguments", [["ask"], ["--port", "99999"], ["ask", " "], ["ask", "x", "--k", "0"], ["--host", "0.0.0.0"]]
)
def test_the_command_line_refuses_with_a_sentence(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.__main__ import main

    monkeypatch.setenv("LOREBASE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr().err
    assert status == 2 and ("error:" in told) and "Traceback" not in told


@pytest.mark.parametrize("live", [True, False])
def test_the_terminal_says_when_a_draft_gave_way_and_a_pipe_gets_only_what_counts(
    live: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.citations import Statement
    from service.cli.ask import _Shown
    from service.cli.frame import ENGLISH
    from service.events import Final

    draft, kept = Statement("It is green.", (1,)), Statement("It is blue.", (1,))
    shown = _Shown(ENGLISH, quiet=False, live=live)
    shown.statement(draft)
    shown.end(Final(id="1", mode="rag", statements=(kept,)))
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"It is green. [1]\n\n{ENGLISH.withdrawn}\n\nIt is blue. [1]" if live else "It is blue. [1]"
    )
    shown = _Shown(ENGLISH, quiet=False, live=live)
    shown.statement(kept)
    shown.end(Final(id="1", mode="rag", statements=(kept,)))
    assert capsys.readouterr().out.strip() == "It is blue. [1]"
