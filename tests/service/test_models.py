"""Own models and adapters by name, over real tiny checkpoints: loaded on demand, dropped, switched, refused."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from model import checkpoint, lora, template_export
from model.chat import ChatTemplate
from model.config import LoRAConfig
from model.errors import AdapterError, UnknownModel
from model.formats import peft
from model.gpt import GPT
from model.identity import identity
from model.lora import Adapter, LowRank
from model.merge import merge_folder
from service.app import create_app
from service.residents import Residents
from service.settings import ServiceSettings
from tests.model import chatml, tiny
from tests.service.fakes import MemoryLibrary

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a, b and c; adapters law (of a) and tax (of b, still in its run); law folded into a."""
    home = tmp_path_factory.mktemp("shelves")
    tokenizer, _ = chatml.pair(home)
    config = tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=256)
    template = {"chat_template": template_export.jinja(ChatTemplate(None))}
    for seed, name in enumerate("abc"):
        model = GPT(config)
        model.initialise(torch.Generator().manual_seed(seed))
        weights = {n: 3 * p.detach() for n, p in model.state_dict().items()}
        checkpoint.save(home / "models" / name, config, weights, home / "tokenizer.json", template)
    for name, base, folder in (
        ("law", "a", home / "adapters" / "law"),
        ("tax", "b", home / "runs" / "tax" / "checkpoints" / "best" / "adapter"),
    ):
        found = checkpoint.load(home / "models" / base)
        folder.mkdir(parents=True)
        peft.write(folder, trained(found), config, base_name=base)
        if name == "tax":
            (home / "runs" / "tax" / "config.json").write_text("{}")
            (home / "runs" / "tax" / "status.json").write_text(json.dumps({"state": "finished"}))
    merge_folder(checkpoint.load(home / "models" / "a"), home / "adapters" / "law", home / "models" / "a-law")
    return home


def trained(base: checkpoint.Checkpoint) -> Adapter:
    generator = torch.Generator().manual_seed(9)
    modules = {
        name: LowRank(
            torch.randn(2, m.weight.shape[1], generator=generator) / 4,
            torch.randn(m.weight.shape[0], 2, generator=generator) / 4,
            1.0,
        )
        for name, m in lora.projections(GPT(base.config)).items()
    }
    return Adapter(LoRAConfig(lora_rank=2, lora_alpha=2), modules, identity(base.weights))


@pytest.fixture
def home(shelves: Path, tmp_path: Path) -> Path:
    shutil.copytree(shelves, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    settings = ServiceSettings(model="a", kernel="float32", shutdown_grace_s=0.5)
    app = create_app(settings, home, MemoryLibrary({"a.md": "The tower is tall.\n"}))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(30)
        yield client


def ask(client: TestClient, model: str | None, status: int = 200) -> dict[str, Any]:
    body = {"question": "Who are you?", "mode": "closed_book", "max_tokens": 24}
    reply = client.post("/ask", json=body | ({"model": model} if model else {}))
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    return found


def load(client: TestClient, status: int = 200, **body: object) -> dict[str, Any]:
    reply = client.post("/models/load", json=body)
    assert reply.status_code == status, reply.text
    found: dict[str, Any] = reply.json()
    return found


def loaded(client: TestClient) -> list[str]:
    return [m["name"] for m in client.get("/models").json()["models"] if m["loaded"]]


def test_any_installed_model_answers_by_its_name_and_two_stay(client: TestClient) -> None:
    assert loaded(client) == ["a"]
    answers = {name: ask(client, name) for name in ("a", "b", "a", "c")}
    assert [answers[n]["model"] for n in "abc"] == ["a", "b", "c"]
    assert len({answers[n]["answer"] for n in "abc"}) == 3
    assert loaded(client) == ["a", "c"]  # b was asked least recently
    assert ask(client, "b")["answer"] == answers["b"]["answer"]
    assert loaded(client) == ["b", "c"]
    assert ask(client, None)["answer"] == answers["a"]["answer"]  # the default comes back, too
    assert "a, a-law, b, c" in ask(client, "d", 404)["error"]["message"]
    assert "law, tax" in ask(client, "a+d", 404)["error"]["message"]
    assert ask(client, "a+", 422)["error"]["code"] == "invalid_request"


def test_an_adapter_answers_as_the_merged_model_and_the_base_as_before(client: TestClient) -> None:
    before = ask(client, "a")["answer"]
    adapted = ask(client, "a+law")
    assert adapted["model"] == "a+law" and adapted["answer"] != before
    assert adapted["answer"] == ask(client, "a-law")["answer"]
    assert ask(client, "a")["answer"] == before

    switched = load(client, model="a", action="switch", adapter="law")
    (info,) = [m for m in switched["models"] if m["name"] == "a"]
    assert (info["adapter"], info["adapters"], info["loaded"]) == ("law", ["law"], True)
    assert ask(client, None)["answer"] == adapted["answer"] and ask(client, "a")["model"] == "a+law"
    load(client, model="a", action="unload")
    assert ask(client, "a")["answer"] == adapted["answer"]  # remembered until it is switched off
    load(client, model="a", action="switch", adapter=None)
    assert ask(client, "a")["answer"] == before and ask(client, "a+law")["answer"] == adapted["answer"]


def test_adapters_are_listed_and_let_go_of(client: TestClient) -> None:
    listed = client.get("/models").json()
    assert listed["adapters"] == [
        {"name": name, "kind": "adapter", "base": base, "rank": 2, "loaded": False}
        | {"attached_to": [], "stale": None}
        for name, base in (("law", "a"), ("tax", "b"))
    ]
    load(client, model="b", action="attach", adapter="tax")  # out of the run that made it
    tax = client.get("/models").json()["adapters"][1]
    assert tax["loaded"] and tax["attached_to"] == ["b"]
    assert loaded(client) == ["a", "b"] and ask(client, "b")["answer"] != ask(client, "b+tax")["answer"]
    after = load(client, model="b", action="detach", adapter="tax")
    assert after["adapters"][1]["attached_to"] == []
    assert load(client, 422, model="b", action="detach", adapter="tax")["error"]["code"] == "adapter_error"
    load(client, model="b", action="unload")
    assert loaded(client) == ["a"]
    assert load(client, 404, model="b", action="unload")["error"]["code"] == "unknown_model"


def test_an_adapter_for_another_base_is_refused_with_both_named(client: TestClient) -> None:
    before = ask(client, "b")["answer"]
    for error in (
        ask(client, "b+law", 422)["error"],
        load(client, 422, model="b", action="switch", adapter="law")["error"],
    ):
        assert error["code"] == "adapter_error"
        assert "law was trained on a " in error["message"] and "not on b " in error["message"]
    assert ask(client, "b")["answer"] == before
    assert client.get("/models").json()["adapters"][0]["attached_to"] == []


def test_requests_that_do_not_fit_are_refused(client: TestClient) -> None:
    for body in (
        {"model": "a", "action": "attach"},
        {"model": "a", "action": "switch"},
        {"model": "a", "action": "load", "adapter": "law"},
        {"model": "a+law"},
        {"model": "a", "action": "sing"},
    ):
        assert load(client, 422, **body)["error"]["code"] == "invalid_request"
    assert load(client, 404, model="../a")["error"]["code"] == "unknown_model"
    assert load(client, 404, model="a", action="attach", adapter="../law")["error"]["code"] == "unknown_model"
    (Path(client.app.state.parts.home) / "models" / "c" / "model.safetensors").write_bytes(b"")  # type: ignore[attr-defined]
    assert ask(client, "c", 503)["error"]["code"] == "checkpoint_error" and loaded(client) == ["a"]


def test_a_model_may_be_missing_while_another_is_asked(home: Path) -> None:
    app = create_app(
        ServiceSettings(model="absent", kernel="float32", shutdown_grace_s=0.5), home, MemoryLibrary()
    )
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(30)
        assert ask(client, "a")["model"] == "a"
        assert ask(client, None, 503)["error"]["code"] == "weights_missing"


def test_the_default_may_name_an_adapter(home: Path) -> None:
    app = create_app(
        ServiceSettings(model="a+law", kernel="float32", shutdown_grace_s=0.5), home, MemoryLibrary()
    )
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(30)
        assert ask(client, None)["model"] == "a+law"
        assert ask(client, "a-law")["answer"] == ask(client, None)["answer"]


class Model:
    """A resident that only exists."""

    adapters = ()


def test_what_is_dropped_is_let_go_of_before_the_next_is_loaded() -> None:
    alive: dict[str, weakref.ref[Model]] = {}
    held: list[int] = []

    def opened(name: str) -> Model:
        gc.collect()
        held.append(sum(ref() is not None for ref in alive.values()))
        if name == "broken":
            raise AdapterError("broken")
        made = Model()
        alive[name] = weakref.ref(made)
        return made

    residents = Residents(opened, 2)  # type: ignore[arg-type]
    for name in "abcab":
        residents.get(name)
    assert held == [0, 1, 1, 1, 1] and residents.names == ["a", "b"]
    with pytest.raises(AdapterError):
        residents.get("broken")
    assert residents.names == ["b"]  # room was made; nothing else was lost
    assert residents.drop("b") and not residents.drop("b")
    assert residents.peek("b") is None


def test_a_shelf_hides_unfinished_runs_and_damaged_adapters(home: Path) -> None:
    from model import shelf

    assert [(a.name, a.base) for a in shelf.adapters(home)] == [("law", "a"), ("tax", "b")]
    (home / "runs" / "tax" / "status.json").write_text(json.dumps({"state": "failed"}))
    assert [a.name for a in shelf.adapters(home)] == ["law"]
    with pytest.raises(UnknownModel, match="there are: law"):
        shelf.find("tax", home)
    weights = home / "adapters" / "law" / shelf.WEIGHTS_FILE
    manifest = {"files": {weights.name: {"bytes": weights.stat().st_size + 1, "sha256": ""}}}
    (weights.parent / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(AdapterError, match="damaged"):
        shelf.find("law", home)
