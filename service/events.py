"""What happens while a question is answered: `Sources`, then `Reasoning`, `Token`, `Checked`, then `Final`.

JSON replies, server-sent events and the terminal are three ways to read these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ingest.types import Hit
from service.citations import Citation, Statement
from service.reading.calibration import OperatingPoint

AskMode = Literal["rag", "closed_book", "quote"]
#: Each passage apart, or all in one prompt.
ReadingWay = Literal["each", "joint"]
#: What is read of what was found: the passages, or the sections that they were cut from.
Context = Literal["passage", "section"]
#: How the documents' own words were looked for: by the span reader, as the sentence that fits best, or in a
#: whole table, whose rows were compared or counted.
QuotedBy = Literal["spans", "sentences", "table"]
Refusal = Literal[
    "nothing_ingested",
    "nothing_found",
    "not_mentioned",
    "nothing_relevant",
    "not_in_passages",
    "not_sure_enough",
]


@dataclass(frozen=True, slots=True)
class Sources:
    """The passages that the search found, best first."""

    hits: tuple[Hit, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's reasoning, which is no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer as it is written: a draft until `Final`."""

    text: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A finished sentence with its evidence; `citations` are those that it is the first to use."""

    statement: Statement
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, counted by the generator's tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    context_tokens: int = 0
    dropped_chunks: int = 0
    cached_tokens: int = 0  #: of the prompt, how many had been read for an earlier question


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds since the question came out of the queue."""

    search_ms: float = 0.0
    first_token_ms: float | None = None
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The whole reply."""

    id: str
    mode: AskMode
    answer: str = ""
    answer_html: str = ""
    answered: bool = False
    refusal_reason: Refusal | None = None
    llm_generated: bool = False
    reasoning: str = ""
    standalone_question: str | None = None  #: a follow-up as it was understood; None: as it was asked
    citations: tuple[Citation, ...] = ()
    statements: tuple[Statement, ...] = ()
    sources: tuple[Hit, ...] = ()
    confidence: float | None = None
    calibrator: str | None = None  #: whose probability `confidence` is; None: the retrieval's alone
    calibrator_note: str | None = None  #: why that is not the one that one might expect
    operating_point: OperatingPoint | None = None  #: None: no calibrator spoke
    checks: Mapping[str, str] = field(default_factory=dict)  #: of citations, and what came of each
    reading: ReadingWay | None = None  #: how the generator read; None where it did not
    quoted_by: QuotedBy | None = None  #: None where an answer was not sought in the documents' own words
    conflict: bool = False  #: the passages give different answers, and all of them are shown
    model: str = ""
    index_generation: int | None = None
    usage: Usage = Usage()
    timings: Timings = Timings()


Event = Sources | Reasoning | Token | Checked | Final
