"""What reading a question in passages gives: plain data, so that nobody needs torch to judge it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest.types import Hit

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PassageReading:
    """What one passage says to the question. Spans are code points into `hit.text`."""

    hit: Hit
    rank: int  #: as the search ordered it, from 0
    not_here: float  #: the model's own probability that the passage does not tell
    written: bool = False  #: whether a reply was written; else what follows is empty
    answer: str | None = None  #: short, in the model's words
    place: Span | None = None  #: where these words stand in the passage, within the first sentence if they do
    polar: bool = False  #: the answer is a yes or no to a question for one
    sentences: tuple[Span, ...] = ()
    logprob: float = 0.0  #: mean natural log-probability of the tokens that were chosen freely
    #: What the passage adds to that for a short answer: the drop without it, natural logarithm a token.
    gain: float = 0.0
    by: Literal["generator", "spans", "cells"] = "generator"  #: who found it
    #: What the span reader thinks of it, where it looked (`reading.second`): its logit above "not here" of a
    #: span that says the same, None where none does; its probability that the passage tells; and how far that
    #: span stands below the passage's likeliest.
    span: float | None = None
    tells: float | None = None
    apart: float = 0.0

    @property
    def quoted(self) -> tuple[str, ...]:
        """The sentences' words."""
        return tuple(self.hit.text[start:end] for start, end in self.sentences)


@dataclass(frozen=True, slots=True)
class Readings:
    """All passages, best hit first, and what reading them took."""

    passages: tuple[PassageReading, ...] = ()
    prompt_tokens: int = 0  #: of all prompts together
    cached_tokens: int = 0  #: of these, how many had been read before
    completion_tokens: int = 0
    dropped: int = 0  #: passages that do not fit the window beside the question
