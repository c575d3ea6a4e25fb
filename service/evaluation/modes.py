"""The ways of answering that are compared: a table from a mode's name to who is asked, and how.

    base            the generator alone, without passages
    finetuned       the same with an adapter that was trained closed-book on the collection's questions
    rag             the generator with the passages, all in one prompt
    rag+finetuned   the same with that adapter
    grounded        the reading adapter with the passages, one at a time
    ollama/NAME     a model of Ollama with the passages

Two baselines stand beside them always: `always-refuse`, and `best-sentence`, which quotes the sentence of the
passages that answers best and writes nothing. A mode that loses to them is worth nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ingest.types import SearchMode
from model.config import Sampling
from service.answer import Ask
from service.errors import InvalidRequest
from service.evaluation.questions import Question
from service.models import OLLAMA

FINETUNED = "FINETUNED"  #: stands for the adapter that the command names
BASELINES = ("always-refuse", "best-sentence")


@dataclass(frozen=True, slots=True)
class Way:
    """How a mode answers.

    Attributes:
        about: one line for readers of the report.
        ask: what the conductor is asked, apart from question and collection; None for a baseline.
        adapter: the adapter that answers; `FINETUNED` is replaced by the one that the command names.
    """

    about: str
    ask: Mapping[str, object] | None
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A mode that can be asked."""

    name: str
    about: str
    generator: str | None  #: a name for `Models.choose`; None where none is needed
    ask: Ask | None  #: the question is filled in; None for a baseline
    passages: bool  #: whether it gets any

    def asks(self, question: Question) -> Ask:
        """What the conductor is asked."""
        assert self.ask is not None
        return replace(self.ask, question=question.text)


CLOSED_BOOK: Mapping[str, object] = {"mode": "closed_book"}
JOINT: Mapping[str, object] = {"mode": "rag", "reading": "joint"}
EACH: Mapping[str, object] = {"mode": "rag", "reading": "each"}

WAYS: Mapping[str, Way] = {
    "base": Way("the model alone, no documents", CLOSED_BOOK),
    "finetuned": Way("trained on the documents' questions, asked without them", CLOSED_BOOK, FINETUNED),
    "rag": Way("the model with the passages in one prompt", JOINT),
    "rag+finetuned": Way("the trained model with the passages in one prompt", JOINT, FINETUNED),
    "grounded": Way("the reading adapter, one passage at a time", EACH),
    "always-refuse": Way("baseline: never answers", None),
    "best-sentence": Way("baseline: quotes the sentence that fits best", None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What all modes share."""

    model: str  #: the own generator, without an adapter
    collection: str
    k: int = 5
    search_mode: SearchMode = "hybrid"
    max_tokens: int = 96
    remote_max_tokens: int = 1024  #: of a model of another server
    finetuned: str | None = None  #: the closed-book adapter
    on_no_answer: Literal["refuse", "answer"] = "refuse"
    acceptable_error: float | None = None  #: as the service has it


def modes(names: Sequence[str], asking: Asking) -> tuple[list[Mode], list[str]]:
    """The modes of these names, in their order, the baselines behind them; and what to say of those left out.

    Raises:
        InvalidRequest: a name that is no mode.
    """
    found: list[Mode] = []
    left_out: list[str] = []
    for name in dict.fromkeys((*names, *BASELINES)):
        way = Way("a model of Ollama with the passages", JOINT) if name.startswith(OLLAMA) else WAYS.get(name)
        if way is None or name == OLLAMA:
            raise InvalidRequest(f"no mode {name!r}; there are: {', '.join(WAYS)}, ollama/NAME")
        if way.adapter == FINETUNED and asking.finetuned is None:
            left_out.append(name)
            continue
        found.append(_mode(name, way, asking))
    if not left_out:
        return found, []
    return found, [
        f"left out: {', '.join(left_out)}; they need an adapter that was trained closed-book on "
        "questions about the documents (python -m service tune makes one); name another: --finetuned ADAPTER"
    ]


def _mode(name: str, way: Way, asking: Asking) -> Mode:
    if way.ask is None:
        return Mode(name=name, about=way.about, generator=None, ask=None, passages=name == "best-sentence")
    remote = name.startswith(OLLAMA)
    ask = Ask(
        question="",
        collection=asking.collection,
        k=asking.k,
        search_mode=asking.search_mode,
        on_no_answer=asking.on_no_answer,
        acceptable_error=asking.acceptable_error,
        sampling=Sampling(max_tokens=asking.remote_max_tokens if remote else asking.max_tokens),
    )
    ask = replace(ask, **way.ask)  # type: ignore[arg-type]
    generator = name if remote else asking.model
    if way.adapter is not None:
        adapter = asking.finetuned if way.adapter == FINETUNED else way.adapter
        generator = f"{asking.model}+{adapter}"
    return Mode(name=name, about=way.about, generator=generator, ask=ask, passages=ask.mode != "closed_book")
