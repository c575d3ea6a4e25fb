"""A trained head answers at `/classify` by its name, stands in the list, and goes when it is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from model.engine import Engine
from model.heads import folder
from model.heads.described import HEAD_FILE, Described
from model.heads.reader import HeadReader
from service.app import create_app
from service.generators.own import OwnGenerator
from service.settings import ServiceSettings
from tests.service.fakes import MemoryLibrary
from tests.service.reading_engine import build

LABELS = ("eggs", "ham", "spam")
TEXTS = ["rain falls tonight", "a goal", "WIN a prize", "see you"]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return build(tmp_path / "m").use(None)


@pytest.fixture
def service(tmp_path: Path, engine: Engine) -> Iterator[TestClient]:
    """The service, and a head of random weights on the last block of its model."""
    engine.base = "b" * 64
    last = engine.config.n_layers - 1
    described = Described(
        kind="classifier",
        labels=LABELS,
        base=engine.name,
        base_weights=engine.base,
        first_block=last,
        cutoff_len=16,
        counts={"eggs": 3, "ham": 5, "spam": 4},
        description="three things",
        figures={"accuracy": 0.9},
        run="r",
    )
    generator = torch.Generator().manual_seed(0)
    held = engine.model.state_dict()
    kept = {name: t for name, t in held.items() if name.startswith((f"blocks.{last}.", "norm."))}
    plain = {name.replace(".plain.", "."): t.float() for name, t in kept.items()}
    weights = {name.replace(f"blocks.{last}.", "blocks.0."): 1.1 * t for name, t in plain.items()}
    weights["readout.weight"] = torch.randn(3, engine.config.d_model, generator=generator) / 8
    weights["readout.bias"] = torch.zeros(3)
    source = tmp_path / "source"
    source.mkdir()
    folder.export(source, described, engine.config, weights, None)
    folder.install(source, tmp_path / "classifiers" / "things", described)
    app = create_app(ServiceSettings(), tmp_path, MemoryLibrary({"a.md": "A tower.\n"}), OwnGenerator(engine))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert app.state.parts.readiness.wait(10)
        yield client


def test_texts_are_labelled_by_name(service: TestClient, engine: Engine, tmp_path: Path) -> None:
    body = {"texts": [*TEXTS, " \n"], "classifier": "things"}
    reply = service.post("/classify", json=body).json()
    head = folder.read(tmp_path / "classifiers" / "things", engine.config)
    expected = HeadReader(engine, head).texts(TEXTS).softmax(1)
    for result, row in zip(reply["results"][:4], expected.tolist(), strict=True):
        assert result["scores"] == pytest.approx(dict(zip(LABELS, row, strict=True)), abs=1e-5)
        assert list(result["scores"].values()) == sorted(result["scores"].values(), reverse=True)
        assert result["label"] == max(result["scores"], key=result["scores"].get)
        assert sum(result["scores"].values()) == pytest.approx(1) and result["parts"] == {}
    assert expected.std() > 0.05, "the head must tell the texts apart"
    assert reply["results"][4]["abstained"] and reply["results"][4]["notes"] == ["the text is empty"]
    assert reply["classifier"] == "things" and reply["model"] == engine.name
    assert "trained head" in reply["likelihood"] and reply["left_out"] is None
    strict = service.post("/classify", json=body | {"abstain_below": 1}).json()["results"]
    assert all(result["abstained"] and result["label"] is None for result in strict)
    for more, what in (
        ({"instruction": "x"}, "leave out instruction"),
        ({"likelihood": "on"}, "leave out likelihood"),
    ):
        refused = service.post("/classify", json=body | more)
        assert refused.status_code == 422 and what in refused.json()["error"]["message"]


def test_it_stands_in_the_list_and_goes_when_deleted(
    service: TestClient, engine: Engine, tmp_path: Path
) -> None:
    (summary,) = [c for c in service.get("/classifiers").json()["classifiers"] if c["name"] == "things"]
    assert summary["labels"] == {"eggs": 3, "ham": 5, "spam": 4} and summary["trained_on"] == engine.name
    shown = service.get("/classifiers/things").json()
    assert shown["classes"] == {label: [] for label in LABELS} and shown["figures"] == {"accuracy": 0.9}
    refused = service.put("/classifiers/things", json={"classes": {"a": ["x"], "b": ["y"]}})
    assert refused.status_code == 422 and "delete it first" in refused.json()["error"]["message"]
    weights = tmp_path / "classifiers" / "things" / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    broken = service.post("/classify", json={"text": "x", "classifier": "things"})
    assert broken.status_code == 503 and "damaged" in broken.text
    (tmp_path / "classifiers" / "things" / HEAD_FILE).write_text("{")
    (summary,) = [c for c in service.get("/classifiers").json()["classifiers"] if c["name"] == "things"]
    assert "cannot be read" in summary["problem"]
    assert service.delete("/classifiers/things").status_code == 204
    assert service.post("/classify", json={"text": "x", "classifier": "things"}).status_code == 404
    assert not (tmp_path / "classifiers" / "things").exists()
