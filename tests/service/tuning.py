"""A writer that asks for what it is given, and a reader that knows what was written: tuning without weights."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.types import Hit
from service.reading.readings import PassageReading, Readings
from service.tuning.build import Plan, Wanted, plan
from service.tuning.check import Checker
from service.tuning.compile import Compiler
from service.tuning.spans import Span
from service.tuning.train import Recipe
from tests.service.fakes import MemoryLibrary

#: What the reader makes of a span: its own answer, or what it says instead; None: it refuses.
Verdict = Callable[[Span], str | None]


def honest(span: Span) -> str | None:
    return span.answer if span.answer is not None else " ".join(span.sentences)


@dataclass
class Desk:
    """Writer and reader in one: questions name the other words of the sentence, so that the search finds them."""

    verdict: Verdict = honest
    interrupt_at: int | None = None  #: the passage at which somebody presses Ctrl-C
    spoil: Callable[[str], str] = lambda question: question
    worked: list[str] = field(default_factory=list)  #: passages that questions were written on
    asked: dict[str, Span] = field(default_factory=dict)
    name: str = "desk"
    writes_cjk: bool = False
    context_tokens: int = 2048

    def write(
        self, heading: str, passage: str, spans: Sequence[Span], cancel: threading.Event
    ) -> list[list[str]]:
        if self.interrupt_at == len(self.worked):
            raise KeyboardInterrupt
        self.worked.append(passage)
        questions = []
        for span in spans:
            sentence = " ".join(span.sentences)
            rest = sentence.replace(span.answer, " ") if span.answer else sentence[: len(sentence) // 2]
            words = " ".join(re.findall(r"[^\W_]+", rest))
            question = self.spoil(f"What completes this: {words}?")
            self.asked[question] = span
            questions.append([question])
        return questions

    def read(
        self, question: str, hits: Sequence[Hit], cancel: threading.Event
    ) -> Generator[str, None, Readings]:
        yield "draft"
        said, span = self.verdict(self.asked[question]), self.asked[question]
        if said is None:
            return Readings((PassageReading(hits[0], 0, 0.9),))
        at = hits[0].text.find(span.sentences[0])
        answer = None if span.answer is None else said
        place = (at, at + len(span.sentences[0]))
        return Readings((PassageReading(hits[0], 0, 0.1, True, answer, sentences=(place,)),))


def texts(documents: int = 6, passages: int = 3) -> dict[str, str]:
    """Documents whose passages differ: names and numbers of their own."""
    places = ("Paris", "Oslo", "Lima", "Quito", "Accra", "Hanoi", "Tunis", "Sofia")
    makers = ("Meyer", "Okafor", "Santos", "Lindqvist")
    return {
        f"doc{d}.md": "\n\n".join(
            f"The {places[d % 8]} bridge number {p} is {100 * d + 7 * p + 11} metres long and was built in "
            f"{1850 + 10 * d + p} by engineer Anna {makers[p % 4]}. It carries the old road over the river."
            for p in range(passages)
        )
        + "\n"
        for d in range(documents)
    }


def planned(home: Path, library: MemoryLibrary, **changes: object) -> Plan:
    wanted = Wanted(**({"collection": "default", "base": "scripted"} | changes))  # type: ignore[arg-type]
    return plan(_Parts(home, library), wanted)  # type: ignore[arg-type]


@dataclass
class _Parts:
    home: Path
    library: MemoryLibrary


def compiler(made: Plan, desk: Desk, library: MemoryLibrary) -> Compiler:
    search = library.source(made.wanted.collection).search
    assert search is not None
    ticks = iter(range(10**6))
    return Compiler(
        desk, Checker(desk, search), made.pairs, {}, made.wanted.seed, clock=lambda: float(next(ticks))
    )


@dataclass
class Trainer:
    """Leaves an adapter's folder, as a training run does."""

    trained: list[tuple[Recipe, str]] = field(default_factory=list)

    def __call__(self, recipe: Recipe, name: str, home: Path) -> None:
        self.trained.append((recipe, name))
        lay_adapter(home, name, recipe.base)


def lay_adapter(home: Path, name: str, base: str) -> Path:
    folder = home / "adapters" / name
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 8}))
    return folder


def rows(file: Path) -> Iterator[dict[str, object]]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
