"""A span reader beside the generator: what it changes, and what it leaves alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.types import Hit
from model.spans.reader import Span, SpanReading
from service.answer import Answerer, Ask
from service.events import Final
from service.reading import select
from service.reading.calibrators import Calibrators
from service.reading.readings import PassageReading
from service.reading.second import seconded, together
from service.spans.quoter import Quoter
from tests.service import reading_engine
from tests.service.fakes import MemoryLibrary
from tests.service.reading_engine import hit
from tests.service.test_ask_each import ReadingEngine, generator, scripted

pytestmark = pytest.mark.usefixtures("one_thread", "plain_calibrator")

TEXT = "The tower is 330 metres tall. It was finished in 1889 by Eiffel."


@pytest.fixture
def engine(tmp_path: Path) -> ReadingEngine:
    return reading_engine.build(tmp_path / "tokenizer", scripted)


def spans(text: str, found: dict[str, float], not_here: float = 0.1) -> SpanReading:
    """A reading that points at these words, with these logits."""
    made = [Span(text.index(w), text.index(w) + len(w), score) for w, score in found.items() if w in text]
    none = np.zeros(0, np.int64)
    likeliest = tuple(sorted(made, key=lambda span: -span.score))
    return SpanReading(likeliest, not_here, none, none, np.zeros(0, np.float32))


class ScriptedSpans:
    """A span reader that points at given words wherever they stand."""

    name, fingerprint = "scripted-spans", "s"

    def __init__(self, found: dict[str, float], scripts: frozenset[str] = frozenset()) -> None:
        self.found, self.scripts = found, scripts

    def read(
        self,
        question: str,
        passages: Sequence[tuple[str, str]],
        *,
        best: int,
        within: Sequence[Sequence[tuple[int, int]]],
        cancelled: Callable[[], bool],
    ) -> list[SpanReading]:
        read = [spans(text, self.found) for text, _ in passages]
        return [one if one.spans else replace(one, not_here=0.99) for one in read]


def written(answer: str | None, text: str = TEXT) -> PassageReading:
    passage: Hit = hit(text, 0)
    start = text.index(answer) if answer is not None else None
    place = None if start is None or answer is None else (start, start + len(answer))
    sentence = (0, text.index(".") + 1)
    return PassageReading(passage, 0, 0.2, True, answer, place, sentences=(sentence,), logprob=-0.1)


def test_who_says_the_same_is_heard_and_who_points_elsewhere_becomes_a_candidate() -> None:
    seen = [spans(TEXT, {"330 metres tall": 4.0, "1889": 1.5, "Eiffel": -2.0})]
    own, other = together([written("330 metres")], seen)
    assert (own.answer, own.span, own.apart, own.by) == ("330 metres", 4.0, 0.0, "generator")
    assert own.tells == pytest.approx(0.9)
    assert (other.answer, other.span, other.apart, other.by) == ("1889", 1.5, -2.5, "spans")
    assert (
        other.quoted == ("It was finished in 1889 by Eiffel.",)
        and other.hit.text[slice(*other.place or ())] == "1889"
    )
    assert select.contradict("How tall is it?", own, other) is False, "one passage does not contradict itself"
    features = select.describe("How tall is it?", [own, other], 0.5)
    at = select.FEATURES.index
    assert [f[at("span")] for f in features] == [4.0, 1.5] and [f[at("spans")] for f in features] == [
        0.0,
        1.0,
    ]


def test_where_the_generator_wrote_nothing_the_span_stands_alone() -> None:
    silent = PassageReading(hit(TEXT, 0), 0, 0.99)
    judged, found = together([silent], [spans(TEXT, {"1889": 3.0})])
    assert not judged.written and judged.span is None and judged.apart == select.LEAST_APART
    assert found.written and found.answer == "1889" and found.not_here == 0.99


@pytest.mark.parametrize(
    "question",
    [
        "How do I paint it?",
        "Is it 330 metres tall?",
        "List the levels.",
        "What is a tower?",
        "Why is it red?",
    ],
)
def test_a_few_words_are_no_steps_no_list_no_reason_and_no_yes(engine: ReadingEngine, question: str) -> None:
    reader = generator(engine).reader
    assert reader is not None
    quoter = Quoter(lambda: ScriptedSpans({}))  # type: ignore[arg-type,return-value]
    assert seconded(reader, quoter, question) is reader
    assert seconded(reader, quoter, "How tall is it?") is not reader


def test_without_a_second_reader_nothing_changes() -> None:
    alone = written("330 metres")
    (features,) = select.describe("How tall is it?", [alone], 0.5)
    assert features[select.FEATURES.index("span") :] == (0.0,) * 6


def test_agreement_counts_beside_what_each_reading_is_worth() -> None:
    """Of two that agree, each has the other's "tells" as it is, and times its own logits."""
    one, two = written("330 metres"), replace(written("330 metres"), rank=1, not_here=0.4)
    seen = [spans(TEXT, {"330 metres": 4.0}), spans(TEXT, {"330 metres": -3.0})]
    first, second = (
        dict(zip(select.FEATURES, f, strict=True))
        for f in select.describe("How tall is it?", together([one, two], seen), 0.5)
    )
    assert (first["agree"], second["agree"]) == (pytest.approx(0.6), pytest.approx(1 - one.not_here))
    for told in (first, second):
        assert told["agree_here"] == pytest.approx(told["agree"] * told["here"])
        assert told["agree_span"] == pytest.approx(told["agree"] * told["span"])
    assert first["agree_span"] == pytest.approx(2.4) and second["agree_span"] < 0


def test_the_second_reader_must_know_the_script(engine: ReadingEngine) -> None:
    reader = generator(engine).reader
    assert reader is not None
    chinese = Quoter(lambda: ScriptedSpans({}, frozenset({"CJK"})))  # type: ignore[arg-type,return-value]
    assert seconded(reader, chinese, "How tall is it?") is reader and seconded(reader, None, "How?") is reader
    both = seconded(reader, chinese, "它有多高？")
    assert both.name == f"{reader.name}+scripted-spans" and both.fingerprint != reader.fingerprint
    assert both.context_tokens == reader.context_tokens


def test_its_words_are_given_as_the_documents_own(engine: ReadingEngine, library: MemoryLibrary) -> None:
    """The generator finds nothing on what the tower is made of; a span reader that is sure is believed."""
    question = "What is the Eiffel Tower in Paris made of?"
    library.shelves["default"]["iron.md"] = "In Paris the Eiffel Tower is made of puddled iron from Lorraine."
    sure = replace(
        Calibrators().shipped,
        weights=tuple(float(name == "span") for name in select.FEATURES),
        bias=0.0,
        threshold=0.5,
        least={},
    )
    source = library.source("default")
    conductor = Answerer(calibrators=Calibrators(shipped=sure))

    def answer(found: dict[str, float]) -> Final:
        quoter = Quoter(lambda: ScriptedSpans(found))  # type: ignore[arg-type,return-value]
        asked = conductor.answer(
            Ask(question=question), replace(source, quoter=quoter), generator(engine), threading.Event()
        )
        *_, final = asked
        assert isinstance(final, Final)
        return final

    told = answer({"puddled iron": 5.0})
    assert told.answered and not told.llm_generated and told.answer == "puddled iron [1]"
    assert told.citations[0].text.startswith("In Paris the Eiffel Tower is made of puddled iron")
    assert told.model.endswith("+scripted-spans")
    assert not answer({"puddled iron": -5.0}).answered
