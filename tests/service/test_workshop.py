"""Sets, runs, merges and exports over HTTP, with tiny models of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from model.train import runs
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.conftest import until
from tests.service.fakes import MemoryLibrary
from tests.service.tiny_home import ROWS, alpaca, make_models

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workshop")
    make_models(folder)
    return folder


def made(home: Path) -> FastAPI:
    settings = ServiceSettings(model="a", kernel="float32", shutdown_grace_s=0.5)
    return create_app(settings, home, MemoryLibrary({"a.md": "The tower is tall.\n"}))


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(made(home), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def upload(client: TestClient, name: str, content: bytes, status: int = 201) -> dict[str, Any]:
    reply = client.post("/datasets", files={"file": (name, content)})
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    return found


def code(reply: Any, status: int) -> str:
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"]["code"])


def test_a_set_is_kept_if_it_can_be_used_and_says_what_it_holds(client: TestClient, home: Path) -> None:
    found = upload(client, "who.json", alpaca([*ROWS, {"instruction": "x"}, 7]))
    assert (found["kind"], found["rows"], found["malformed"]) == ("alpaca", 4, 2)
    assert "row 3" in found["problems"][0] and str(home) not in json.dumps(found)
    assert [t["content"] for t in found["sample"]] == ["Who are you?", "I am Lore."]
    turns = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    assert upload(client, "Talk.JSONL", json.dumps(turns).encode())["name"] == "Talk.jsonl"
    asked = b'{"question": "Who?", "answers": ["Lore"]}\n'
    assert upload(client, "asked.jsonl", asked)["kind"] == "questions"
    assert {d["name"]: d["kind"] for d in client.get("/datasets").json()["datasets"]} == {
        "who.json": "alpaca",
        "Talk.jsonl": "sharegpt",
        "asked.jsonl": "questions",
    }
    before = sorted(file.name for file in (home / "datasets").iterdir())
    assert code(client.post("/datasets", files={"file": ("who.json", alpaca())}), 409) == "name_taken"
    bad = [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'[{"text": "x"}]',
        b'[{"instruction": 3}]',
        b"[" * 100_000,
        b"null",
    ]
    for content in bad:
        assert upload(client, "bad.json", content, 422)["error"]["code"] == "invalid_upload", content[:20]
    for name in (
        "../../evil.json",
        "a/b.json",
        "..json",
        "x.exe",
        ".json",
        "x.json\x00.md",
        "n" * 65 + ".json",
        "塔.json",
    ):
        reply = client.post("/datasets", files={"file": (name, alpaca())})
        if reply.status_code == 201:  # its last part is an ordinary name
            assert client.delete(f"/datasets/{reply.json()['name']}").status_code == 204
        else:
            assert reply.status_code == 422, (name, reply.text)
    assert sorted(file.name for file in (home / "datasets").iterdir()) == before
    assert not list(home.glob("*.json.json")) and not (home.parent / "evil.json").exists()
    assert code(client.post("/datasets", files={"other": ("x.json", b"[]")}), 422) == "invalid_upload"
    assert code(client.post("/datasets", json={}), 415) == "unsupported_media_type"
    for name in ("Talk.jsonl", "asked.jsonl"):
        assert client.delete(f"/datasets/{name}").status_code == 204
    assert code(client.delete("/datasets/..%2fmodels"), 404)


def test_a_run_outlives_the_service_that_started_it_and_its_adapter_is_merged_and_exported(
    home: Path,
) -> None:
    settings: dict[str, Any] = {
        "dataset": ["once.json"],
        "name": "lore",
        "learning_rate": 0.01,
        "max_steps": 12,
    }
    with TestClient(made(home), base_url="http://127.0.0.1", raise_server_exceptions=False) as first:
        upload(first, "once.json", alpaca([row | {"input": str(n)} for n in range(12) for row in ROWS]))
        begun = first.post(
            "/runs", json=settings | {"cutoff_len": 64, "val_size": 0.25, "per_device_train_batch_size": 4}
        )
        assert begun.status_code == 201, begun.text
        assert begun.json()["state"] in ("starting", "running") and begun.json()["model"] == "a"
        assert begun.json()["datasets"] == ["once.json"] and str(home) not in begun.json()["command"]
        assert "--max_steps 12" in begun.json()["command"]
        assert code(first.post("/runs", json=settings | {"name": "other"}), 409) == "run_active"
    with TestClient(made(home), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        until(lambda: not client.get("/runs/lore").json()["live"], 240)
        run = client.get("/runs/lore").json()
        assert (run["state"], run["adapter"], run["figures"]["step"]) == ("finished", "lore", 12), run
        assert "finished after step 12" in run["log"] and [
            r["name"] for r in client.get("/runs").json()["runs"]
        ] == ["lore"]
        recorded = client.get("/runs/lore/metrics").json()
        losses = [e["loss"] for e in recorded["events"] if "loss" in e]
        assert len(losses) == 12 and losses[-1] < losses[0]
        assert any("eval_loss" in e for e in recorded["events"])
        rest = client.get("/runs/lore/metrics", params={"after": recorded["next"] - 2}).json()
        assert rest["events"] == recorded["events"][-2:] and rest["next"] == recorded["next"]
        assert code(client.post("/runs", json=settings), 409) == "name_taken"
        assert client.delete("/runs/lore").json()["state"] == "finished"  # it stays what it is

        asked = {"question": "Who are you?", "mode": "closed_book", "max_tokens": 8}
        adapted = client.post("/ask", json=asked | {"model": "a+lore"}).json()
        assert adapted["answer"] != client.post("/ask", json=asked).json()["answer"]
        merged = client.post("/models/merge", json={"adapter": "lore", "name": "a-lore"})
        assert merged.status_code == 201 and "a-lore" in [m["name"] for m in merged.json()["models"]]
        assert client.post("/ask", json=asked | {"model": "a-lore"}).json()["answer"] == adapted["answer"]
        assert code(client.post("/models/merge", json={"adapter": "lore", "name": "a"}), 409) == "name_taken"
        assert code(client.post("/models/merge", json={"adapter": "none"}), 404) == "unknown_model"
        assert code(client.post("/models/merge", json={"adapter": "lore", "name": "../x"}), 422)
        for form in ("gguf", "hf"):
            reply = client.post("/models/export", json={"model": "a-lore", "format": form})
            assert reply.status_code == 201, reply.text
            written = reply.json()
            assert written["folder"] == f"exports/a-lore-{form}" and str(home) not in reply.text
            for file in written["files"]:
                assert (home / written["folder"] / file["name"]).stat().st_size == file["bytes"]
        assert code(client.post("/models/export", json={"model": "none"}), 404) == "unknown_model"


def test_a_run_is_stopped_and_saves(client: TestClient, home: Path) -> None:
    upload(client, "long.json", alpaca())
    begun = client.post(
        "/runs", json={"dataset": ["long.json"], "name": "long", "max_steps": 1_000_000, "cutoff_len": 64}
    )
    assert begun.status_code == 201
    until(lambda: client.get("/runs/long").json()["figures"].get("step", 0) > 2, 120)
    client.delete("/runs/long")
    until(lambda: not client.get("/runs/long").json()["live"], 60)
    run = client.get("/runs/long").json()
    assert run["state"] == "stopped" and run["adapter"] is None
    assert runs.find(home, "long").checkpoints.exists()  # it can be resumed


def test_what_cannot_be_trained_is_refused_before_anything_begins(client: TestClient, home: Path) -> None:
    upload(client, "few.json", alpaca())
    before = sorted(p.name for p in (home / "runs").glob("*"))
    good: dict[str, Any] = {"dataset": ["few.json"], "name": "never"}
    for change, expected in (
        ({"dataset": ["none.json"]}, "unknown_name"),
        ({"dataset": ["../models/a/config.json"]}, "unknown_name"),
        ({"dataset": []}, "invalid_request"),
        ({"model": "none"}, "unknown_model"),
        ({"name": "../x"}, "invalid_request"),
        ({"learning_rate": 0}, "invalid_request"),
        ({"learning_rate": "fast"}, "invalid_request"),
        ({"lora_rank": 0}, "invalid_request"),
        ({"cutoff_len": 100_000}, "training_error"),
        ({"surprise": 1}, "invalid_request"),
    ):
        reply = client.post("/runs", json=good | change)
        assert reply.status_code in (404, 422) and reply.json()["error"]["code"] == expected, (
            change,
            reply.text,
        )
        assert str(home) not in reply.text
    assert sorted(p.name for p in (home / "runs").glob("*")) == before
