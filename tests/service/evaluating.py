"""A comparison over scripted generators and a library in memory, as the command makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.app import assemble
from service.cli import arguments, evaluate
from service.deps import Parts
from service.settings import ServiceSettings
from tests.service.conftest import BRIDGE, TOWER
from tests.service.fakes import MemoryLibrary, ScriptedGenerator

QUESTIONS = [
    {"id": "tall", "question": "How many metres tall is it?", "answers": ["330 metres"], "kind": "number", "source": "tower.md"},
    {"id": "built", "question": "Was it rebuilt?", "answers": ["2004"], "kind": "number", "source": "bridge.md"},
    {"id": "paint", "question": "How much paint does painting take?", "answers": ["60 tonnes", "paint"], "kind": "list", "source": "tower.md"},
    {"id": "who", "question": "Who was the first visitor of the tower?", "answers": [], "kind": "person", "language": "zh"},
]  # fmt: skip


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(json.dumps(q) for q in QUESTIONS), encoding="utf-8")
    return file


def parts_of(tmp_path: Path, generator: ScriptedGenerator, library: MemoryLibrary | None = None) -> Parts:
    settings = ServiceSettings(model=generator.name, refuse_below=0.1)
    return assemble(
        settings,
        tmp_path / "home",
        library or MemoryLibrary({"tower.md": TOWER, "bridge.md": BRIDGE}),
        generator,
    )


def compare(questions: Path, parts: Parts, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    given = arguments.parse(["evaluate", "--questions", str(questions), "--out", str(out), *more])
    status = evaluate.compare(given, parts, no_embedder)
    return status, json.loads((out / "report.json").read_text(encoding="utf-8"))


def no_embedder() -> evaluate.Embedding:
    raise AssertionError("the questions bring no passages")


def figures(report: dict[str, Any], mode: str) -> dict[str, Any]:
    found = next(m for m in report["modes"] if m["name"] == mode)
    return {name: f["mean"] for name, f in found["figures"].items()}
