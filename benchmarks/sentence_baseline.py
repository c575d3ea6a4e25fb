"""The way before `service.choosing`, on the same passages: what `benchmarks.sentence_questions` compares with.

In English the generator reads each passage apart and copies sentences; elsewhere the span reader's likeliest
span gives its sentence. Both still answer questions for a few words, so both are asked through the service's
own code, with the readings that were kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator as Generating
from pathlib import Path
from typing import Any

from benchmarks.chinese import Silent
from benchmarks.sentence_rows import K, Record, known, save
from model.spans.reader import SpanReading
from service import wiring
from service.answer import READ_FROM, Source, reader_of
from service.answering import each, quoted
from service.answering.turn import Ask, Turn
from service.events import Final
from service.generators import Generator
from service.reading.calibration import ALONE, SHIPPED, Calibrator
from service.reading.calibrators import Speaking
from service.reading.readings import Readings
from service.reading.second import together, wants_few_words
from service.settings import ServiceSettings
from service.spans.quoter import Quoter


class Replayed:
    """What a reader read, as that reader: of both kinds, since their names do not clash."""

    name, context_tokens, scripts = "replayed", 2048, frozenset[str]()

    fingerprint = ""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    def read(self, *_: Any, **__: Any) -> Any:
        """What was read."""
        return self._kept if isinstance(self._kept, list) else self._told()

    def _told(self) -> Generating[str, None, Readings]:
        yield from ()
        readings: Readings = self._kept
        return readings


class Before:
    """Answers as before; reads with the generator what it has not read yet."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._generator: Generator | None = None

    def answer(self, record: Record, file: Path, source: Source) -> Final:
        """The reply to a question."""
        english = record.row.language == "en"
        hits, question = record.hits[:K], record.row.question
        told = known(record, source)
        seen: list[SpanReading] = record.spans[:K]
        quoter = Quoter(lambda: Replayed(seen))  # type: ignore[arg-type, return-value]
        there = Source(None, told.similarity, told.rarity, record.unrelated, quoter)
        ask = Ask(question=question, mode="rag" if english else "quote")
        reply = Final(id="", mode=ask.mode, sources=hits, confidence=record.relevance)
        turn = Turn(ask, there, Silent(), threading.Event(), time.perf_counter, 0.0, reply, record.relevance)  # type: ignore[arg-type]
        if not hits or record.relevance < (READ_FROM if english else ServiceSettings().refuse_below):
            return turn.refuse("nothing_relevant")
        if not english:
            *_, final = quoted.answer(turn, quoter)
        else:
            few = wants_few_words(question)
            readings = self._readings(record, file)
            if few:
                readings = Readings(together(readings.passages, seen))
            speaking = Speaking(Calibrator.load(SHIPPED if few else ALONE))
            *_, final = each.answer(turn, Replayed(readings), speaking)
        assert isinstance(final, Final)
        return final

    def _readings(self, record: Record, file: Path) -> Readings:
        if record.readings is None:
            if self._generator is None:
                self._generator = wiring.models(ServiceSettings(), self._home, None).choose(None).get()
            reader = reader_of(self._generator)
            assert reader is not None
            going = reader.read(record.row.question, record.hits[:K], threading.Event())
            while True:
                try:
                    next(going)
                except StopIteration as ended:
                    record.readings = ended.value
                    break
            save(record, file)
        readings: Readings = record.readings
        return readings
