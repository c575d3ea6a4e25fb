"""Who writes the questions: our own model with the writing adapter, or a teacher that chats.

The own writer reads a passage once and writes the questions for all its spans as one batch: one step of the
batch costs little more than one of a single row. It tries two ways to begin, for a small model often knows
what to ask once it is held to "When" or "How", and seldom which of them it should be.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from model.config import Sampling
from model.engine import Engine
from service.generators import Generator, Message
from service.reading.cache import shared
from service.reading.form import QUOTE, flat, passage_text
from service.tuning.form import MOST_TOKENS, tidy, writer_messages
from service.tuning.spans import Span

#: The adapter with which our own model writes questions.
WRITING = "question-writer"
#: Words that a question for such a span begins with, and how many of them are tried.
BEGINS: Mapping[str, tuple[str, ...]] = {
    "date": ("When", "In", "On", "What"),
    "number": ("How", "What"),
    "name": ("Who", "What", "Which", "Where", "In"),
    "phrase": ("What", "Which", "How", "Why", "Where", "Who"),
    "sentence": ("What", "How", "Why"),
}
BEGINNINGS = 2
#: A year alone, or with a month.
DATE = re.compile(r"^(?:1\d|20)\d\d$|^[A-Z][a-z]+ .*(?:1\d|20)\d\d$|[A-Z][a-z]+ (?:1\d|20)\d\d$")
#: What a teacher is told. It may write any language, so it is told to stay in the passage's.
TEACHER = (
    "You write one question for a reading test, in the language of the passage. Its answer must be exactly "
    "the marked words. Name what the question is about, so that it is understood without the passage. Reply "
    "with the question alone."
)
TEACHER_TOKENS = 200


class Writes(Protocol):
    """Writes questions on a passage."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def writes_cjk(self) -> bool:
        """Whether it writes Chinese, Japanese and Korean, and other languages than English."""
        ...

    def write(
        self, heading: str, passage: str, spans: Sequence[Span], cancel: threading.Event
    ) -> list[list[str]]:
        """Questions to try for each span, the likelier first; empty ones where there came none.

        Raises:
            ContextOverflow: the passage does not fit the writer's window.
            Cancelled: `cancel` was set.
            UpstreamError: the teacher failed.
        """
        ...


class OwnWriter:
    """Our own engine, with the writing adapter speaking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        newline = engine.tokenizer.encode("\n")
        self._ends = {*engine.config.eos_ids, *newline[:1]}
        self._begins = {
            kind: sorted({engine.tokenizer.encode(word)[0] for word in words})
            for kind, words in BEGINS.items()
        }

    @property
    def name(self) -> str:
        """The model's name and its adapter's."""
        return self._engine.name + (f"+{self._engine.adapter}" if self._engine.adapter else "")

    @property
    def writes_cjk(self) -> bool:
        """It was trained on English alone."""
        return False

    def write(
        self, heading: str, passage: str, spans: Sequence[Span], cancel: threading.Event
    ) -> list[list[str]]:
        """Questions with the two likeliest beginnings, greedy from there; see `Writes.write`."""
        if not spans:
            return []
        engine = self._engine
        texts = [
            engine.prompt(writer_messages(heading, passage, span.answer, span.sentences)) for span in spans
        ]
        common = shared(min(texts), max(texts))  # the passage, up to where what is wanted differs
        _, read = engine.prefill([texts[0][:common]], cancel=cancel)
        cache = read.copy([0] * len(texts), room=max(map(len, texts)) - common + MOST_TOKENS)
        logits, cache = engine.prefill(texts, cache=cache, cancel=cancel)
        begun = [(at, token) for at, span in enumerate(spans) for token in self._first(span, logits[at])]
        owner, written = [at for at, _ in begun], [[token] for _, token in begun]
        rows, cache = [*range(len(begun))], cache.copy(owner, room=MOST_TOKENS)
        for _ in range(MOST_TOKENS - 1):
            whole = [texts[owner[row]] + written[row] for row in rows]
            logits, cache = engine.prefill(whole, cache=cache, cancel=cancel)
            tokens = logits.argmax(-1).tolist()
            going = [at for at, token in enumerate(tokens) if token not in self._ends]
            if not going:
                break
            for at in going:
                written[rows[at]].append(tokens[at])
            if len(going) < len(rows):
                cache, rows = cache.copy(going, room=MOST_TOKENS), [rows[at] for at in going]
        questions: list[list[str]] = [[] for _ in spans]
        for at, ids in zip(owner, written, strict=True):
            questions[at].append(tidy(engine.tokenizer.decode(ids).partition("\n")[0]))
        return questions

    def _first(self, span: Span, logits: Tensor) -> list[int]:
        """The likeliest tokens, of (vocab_size) logits, that a question for such a span begins with."""
        allowed = self._begins["date" if span.answer and DATE.search(span.answer) else span.kind]
        return sorted(allowed, key=lambda token: -float(logits[token]))[:BEGINNINGS]


class Teacher:
    """Any generator that follows instructions, asked once for each span."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    @property
    def name(self) -> str:
        """The generator's."""
        return self._generator.name

    @property
    def writes_cjk(self) -> bool:
        """A teacher is taken at its word."""
        return self._generator.writes_cjk

    def write(
        self, heading: str, passage: str, spans: Sequence[Span], cancel: threading.Event
    ) -> list[list[str]]:
        """One question for each span; see `Writes.write`."""
        return [[self._one(heading, passage, span, cancel)] for span in spans]

    def _one(self, heading: str, passage: str, span: Span, cancel: threading.Event) -> str:
        sentences = "\n".join(QUOTE + flat(sentence) for sentence in span.sentences)
        marked = span.answer if span.answer is not None else "the whole sentence below"
        told = f"{passage_text(heading, passage)}\n\nMarked words: {marked}\nThey stand here:\n{sentences}"
        messages: list[Message] = [
            {"role": "system", "content": TEACHER},
            {"role": "user", "content": told},
        ]
        sampling = Sampling(max_tokens=TEACHER_TOKENS)
        said = "".join(piece.text for piece in self._generator.stream(messages, sampling, cancel))
        lines = [line for line in said.split("\n") if line.strip()]
        return tidy(lines[-1]) if lines else ""
