"""Adapters of a collection: which one `evaluate` takes, when one is stale, and who writes the questions."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from ingest.collections import delete_collection, open_collection
from ingest.pipeline import ingest_path
from ingest.settings import IngestSettings
from ingest.types import StoredDocument
from model import checkpoint, shelf, template_export
from model.__main__ import main as model_command
from model.chat import ChatTemplate
from model.config import Sampling
from model.gpt import GPT
from service.app import create_app
from service.cli import arguments, evaluate, tune
from service.errors import InvalidRequest
from service.generators import Generator
from service.models import AdapterInfo, Models
from service.settings import ServiceSettings
from service.tuning import build, trained_on
from service.tuning.form import ANSWER, MOST_TOKENS, SENTENCE, tidy, writer_messages
from service.tuning.spans import Span
from service.tuning.train import Recipe, TuningFailed, train
from service.tuning.writer import BEGINS, OwnWriter, Teacher
from service.wiring import OnDisk
from tests.fakes import HashEmbedder
from tests.model import chatml, tiny
from tests.service import reading_engine
from tests.service.evaluating import no_embedder, parts_of
from tests.service.fakes import MemoryLibrary, ScriptedGenerator
from tests.service.tuning import Desk, Trainer, compiler, lay_adapter, texts

NAME = "closed-book-docs-abc123"


def ingest(home: Path, **files: str) -> list[StoredDocument]:
    folder = home / "files"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    with open_collection(home, "docs", create=True) as store:
        ingest_path([folder], store, HashEmbedder(), IngestSettings(), base=folder, sync=True)
        return store.documents()


def adapter(home: Path, documents: Sequence[StoredDocument], name: str = NAME) -> Path:
    folder = lay_adapter(home, name, "scripted")
    trained_on.of(documents, "docs", "closed-book").write(folder)
    return folder


def test_an_adapter_whose_documents_are_gone_or_changed_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = ingest(
        tmp_path, tower="The tower is 330 metres tall.", bridge="It was rebuilt in 2004.", new="New."
    )
    folder = adapter(tmp_path, [d for d in documents if d.path != "new.md"])
    lay_adapter(tmp_path, "of-no-collection", "scripted")
    settings = ServiceSettings(model="scripted")
    app = create_app(settings, tmp_path, MemoryLibrary(), None)

    def told() -> dict[str, str | None]:
        with TestClient(app, base_url="http://127.0.0.1") as client:
            return {a["name"]: a["stale"] for a in client.get("/models").json()["adapters"]}

    assert told() == {NAME: None, "of-no-collection": None}
    disk = OnDisk(tmp_path)
    assert disk.trained_on("scripted", NAME) == {NAME: ["docs"]}
    assert disk.trained_on("scripted", "of-no-collection") == disk.trained_on("scripted", None) == {}
    ingest(
        tmp_path, tower="The tower is 330 metres tall.", bridge="It was rebuilt in 2004."
    )  # never trained on
    assert told()[NAME] is None
    ingest(tmp_path, tower="The tower is 331 metres tall.", bridge="It was rebuilt in 2004.")
    assert told() == {NAME: "since it was trained: tower.md changed", "of-no-collection": None}
    ingest(tmp_path, tower="The tower is 331 metres tall.")
    assert told()[NAME] == "since it was trained: bridge.md deleted; tower.md changed"
    assert model_command(["list", "--home", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert (
        "STALE, since it was trained: bridge.md deleted; tower.md changed" in listed
        and listed.count("STALE") == 1
    )
    delete_collection(tmp_path, "docs")
    assert told()[NAME] == "its collection 'docs' was deleted"
    (folder / shelf.TRAINED_ON).write_text("{}")  # damaged: nobody knows, so nothing is claimed
    assert told()[NAME] is None
    assert disk.trained_on("scripted", NAME) == {NAME: [""]}  # but no key that is held may ask it


class Installed:
    """Scripted models with the adapters that lie in a data folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def models(self) -> list[str]:
        return ["scripted"]

    def adapters(self) -> list[AdapterInfo]:
        return [AdapterInfo(p.name, "scripted") for p in sorted((self.home / "adapters").glob("*"))]

    def stale(self, adapter: str) -> str | None:
        return trained_on.stale(self.home / "adapters" / adapter, self.home)

    def trained_on(self, model: str, adapter: str | None) -> dict[str, list[str]]:
        return {}

    def cache_bytes(self) -> int:
        return 0

    def load(self, name: str) -> _Resident:
        return _Resident()


class _Resident:
    adapters: tuple[str, ...] = ()

    def attach(self, adapter: str) -> None: ...

    def detach(self, adapter: str) -> None: ...

    def generator(self, adapter: str | None) -> Generator:
        return ScriptedGenerator("by heart" if adapter else "no idea", name=f"scripted+{adapter}")


def test_evaluate_takes_the_adapter_that_tune_made_and_says_when_it_is_stale(tmp_path: Path) -> None:
    home = tmp_path / "home"
    documents = ingest(home, tower="The tower is 330 metres tall.")
    parts = parts_of(tmp_path, ScriptedGenerator(name="scripted"), MemoryLibrary(texts(), default="docs"))
    parts = replace(
        parts,
        models=Models("scripted", Installed(home), None),
        settings=parts.settings.model_copy(update={"collection": "docs"}),
    )
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"question": "How tall is it?", "answers": ["by heart"], "id": "a"}\n')

    def compare(*more: str) -> tuple[dict[str, float], str]:
        out = tmp_path / "out"
        given = arguments.parse(
            ["evaluate", "--questions", str(asked), "--out", str(out), "--modes", "base,finetuned", *more]
        )
        evaluate.compare(given, parts, no_embedder)
        report = json.loads((out / "report.json").read_text())
        return {m["name"]: m["figures"]["right"]["mean"] for m in report["modes"]}, " ".join(report["notes"])

    modes, notes = compare()
    assert "finetuned" not in modes and "question-writer" in notes and "tune --collection docs" in notes
    adapter(home, documents)
    adapter(home, documents, "closed-book-of-another-base").joinpath("adapter_config.json").write_text("{}")
    modes, notes = compare()
    assert (modes["base"], modes["finetuned"]) == (0.0, 1.0) and "stale" not in notes
    ingest(home, tower="The tower was sold.")
    modes, notes = compare()
    assert modes["finetuned"] == 1.0 and f"{NAME} is stale" in notes and "tower.md changed" in notes
    modes, notes = compare("--finetuned", NAME)
    assert modes["finetuned"] == 1.0 and f"{NAME} is stale" in notes


def test_tune_compiles_trains_compares_and_says_what_won(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, trainer = tmp_path / "home", Trainer()
    library = MemoryLibrary(texts())
    parts = replace(
        parts_of(tmp_path, ScriptedGenerator(name="scripted"), library),
        models=Models("scripted", Installed(home), None),
    )
    command = arguments.parse(["tune", "--dry-run"])
    assert tune.run(command, parts, no_embedder, trainer) == 0
    assert "18 passages to ask about" in capsys.readouterr().err and not trainer.trained
    assert not (home / "tuning" / "default" / "closed_book.jsonl").exists()
    monkeypatch.setattr("service.cli.progress.compiler", lambda _, made: compiler(made, Desk(), library))
    status = tune.run(arguments.parse(["tune", "--compare", "7"]), parts, no_embedder, trainer)
    said = capsys.readouterr().out
    assert status in (0, 1) and "as many as rag+finetuned, grounded and best-sentence." in said
    folder = home / "tuning" / "default"
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "rejected" in page and "favours ways of answering" in page and "as many as rag+finetuned" in page
    figures = json.loads((folder / "tune.json").read_text())
    assert figures["verdict"] and figures["compare_s"] >= 0 and len(trainer.trained) == 1
    for wrong in (["--max-pairs", "7"], ["--steps", "0"], ["--compare", "-1"]):
        with pytest.raises(InvalidRequest, match=wrong[0]):
            tune.run(arguments.parse(["tune", *wrong]), parts, no_embedder, trainer)


def test_without_its_adapters_tune_says_what_is_missing(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, ScriptedGenerator(), MemoryLibrary(texts()))
    with pytest.raises(InvalidRequest, match="--teacher ollama/NAME"):
        build.writer(parts, build.Wanted(collection="default", base="scripted"))
    with pytest.raises(InvalidRequest, match="reading adapter"):
        build.reader(parts, "scripted")


PASSAGE = "The tower is 330 metres tall. It was finished in 1889 by the company of Gustave Eiffel."
SPANS = [
    Span("number", "330 metres", ("The tower is 330 metres tall.",)),
    Span("number", "1889", ("It was finished in 1889 by the company of Gustave Eiffel.",)),
    Span("sentence", None, ("It was finished in 1889 by the company of Gustave Eiffel.",)),
]


def test_questions_of_a_batch_are_those_written_alone(tmp_path: Path) -> None:
    """Shared passage, rows that end at different times: the engine's own generation, one by one, is the oracle."""
    engine = reading_engine.build(tmp_path, seed=3)
    writer, cancel = OwnWriter(engine), threading.Event()
    wanted: list[list[str]] = []
    for span in SPANS:
        prompt = engine.prompt(writer_messages("Towers", PASSAGE, span.answer, span.sentences))
        begins = {
            engine.tokenizer.encode(word)[0]
            for word in BEGINS["date" if span.answer == "1889" else span.kind]
        }
        [logits] = engine.prefill([prompt])[0]
        wanted.append([])
        for first in sorted(begins, key=lambda token: -float(logits[token]))[:2]:
            reply = engine.generate([*prompt, first], Sampling(max_tokens=MOST_TOKENS - 1))
            text = engine.tokenizer.decode([first]) + "".join(token.text for token in reply)
            wanted[-1].append(tidy(text.partition("\n")[0]))
    assert writer.write("Towers", PASSAGE, SPANS, cancel) == wanted
    assert [writer.write("Towers", PASSAGE, [span], cancel)[0] for span in SPANS] == wanted
    assert (
        len({question for tried in wanted for question in tried}) > 2
        and writer.write("Towers", PASSAGE, [], cancel) == []
    )


def test_the_writers_prompt_ends_with_the_answer() -> None:
    told = writer_messages("Towers", PASSAGE, "1889", SPANS[1].sentences)[1]["content"]
    assert told.endswith(f"{SENTENCE}{SPANS[1].sentences[0]}{ANSWER}1889") and told.startswith(
        "Towers\nThe tower"
    )
    assert [tidy(q) for q in ("  who\nbuilt it", "什么是它", "“Why?”", " ?! ", "Name it.")] == [
        "Who built it?", "什么是它？", "Why?", "", "Name it.",
    ]  # fmt: skip


def test_a_teacher_is_asked_for_each_span_and_its_last_line_counts() -> None:
    teacher = ScriptedGenerator(lambda messages: f"Sure!\n\nhow tall is it {len(messages)}", writes_cjk=True)
    written = Teacher(teacher).write("Towers", PASSAGE, SPANS[:2], threading.Event())
    assert written == [["How tall is it 2?"]] * 2 and Teacher(teacher).writes_cjk
    assert (
        "Marked words: 1889" in teacher.asked[1][1]["content"] and PASSAGE in teacher.asked[1][1]["content"]
    )


@pytest.mark.usefixtures("one_thread")
def test_training_leaves_an_adapter_and_a_failure_names_its_log(tmp_path: Path) -> None:
    tokenizer, _ = chatml.pair(tmp_path)
    model = GPT(tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=128))
    model.initialise(torch.Generator().manual_seed(0))
    weights = {key: p.detach() for key, p in model.state_dict().items()}
    metadata = {"chat_template": template_export.jinja(ChatTemplate(None))}
    checkpoint.save(
        tmp_path / "models" / "tiny", model.config, weights, tmp_path / "tokenizer.json", metadata
    )
    made = build.plan(
        parts_of(tmp_path, ScriptedGenerator(), MemoryLibrary(texts())),
        build.Wanted(collection="default", base="tiny"),
    )
    library = MemoryLibrary(texts())
    built = build.build(made, compiler(made, Desk(), library), tmp_path, training=Trainer())
    recipe = Recipe(base="tiny", dataset="closed_book", folder=built.folder, steps=2)
    train(recipe, "by-heart", tmp_path)
    assert (tmp_path / "adapters" / "by-heart" / "adapter_model.safetensors").is_file()
    with pytest.raises(TuningFailed, match="status"):
        train(replace(recipe, base="missing"), "another", tmp_path)
