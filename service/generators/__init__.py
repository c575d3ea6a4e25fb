"""The generator protocol: what the conductor needs of a language model, and which of it an upstream can do.

Our own engine has every capability. Ollama and OpenAI-style servers stream, and the reply says which checks
were therefore not possible. Implementations: `own` (model.engine), `ollama`, `openai`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator as GeneratorOf
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, runtime_checkable

from ingest.types import Hit
from model.config import Sampling
from service.reading.readings import Readings

if TYPE_CHECKING:
    from model.engine import Engine  # it brings torch

Capability = Literal["stream", "score", "constrain"]


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a reply as it is generated; the last piece carries the reason for the end."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0  #: set on the last piece
    completion_tokens: int = 0  #: set on the last piece
    reasoning: str = ""  #: thinking that the upstream sends apart from the text


class PassageReader(Protocol):
    """Reads a question in each passage apart, as `service.reading.reader.Reader` does."""

    @property
    def name(self) -> str:
        """What a reply calls it."""

    @property
    def fingerprint(self) -> str:
        """What reads, by its content: what a calibrator belongs to."""

    @property
    def context_tokens(self) -> int:
        """Length of the window that each passage has to itself."""

    def read(
        self, question: str, hits: Sequence[Hit], cancel: threading.Event
    ) -> GeneratorOf[str, None, Readings]:
        """Yield a draft, return the readings.

        Raises:
            model.errors.Cancelled: `cancel` was set.
        """


@runtime_checkable
class Reads(Protocol):
    """A generator that may have a reader beside it."""

    @property
    def reader(self) -> PassageReader | None:
        """The reader; None where its adapter is not there."""


class Generator(Protocol):
    """A language model that the conductor can talk to. Calls block; the runner gives them a worker thread."""

    @property
    def name(self) -> str:
        """What `/models` and a reply call it."""

    @property
    def context_tokens(self) -> int:
        """Length of the window, prompt and reply together."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""

    @property
    def writes_cjk(self) -> bool:
        """Whether it writes Chinese, Japanese and Korean; else such questions are answered by quotes."""

    @property
    def focus_sentences(self) -> int:
        """How many sentences, with their neighbours, it reads of what was found; 0: whole passages."""

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the whole rendered prompt, template included."""

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece]:
        """The reply, piece by piece. Setting `cancel` ends it within one prefill slice or one token.

        Raises:
            model.errors.ContextOverflow: the prompt leaves no room for a reply.
        """


@runtime_checkable
class Scores(Generator, Protocol):
    """A generator whose engine can say how likely a given reply is."""

    @property
    def engine(self) -> Engine:
        """The engine."""


@runtime_checkable
class Structured(Generator, Protocol):
    """A generator whose server can hold a reply to a JSON schema."""

    def structured(self, messages: Sequence[Message], schema: dict[str, Any], cancel: threading.Event) -> str:
        """The whole reply. Raises UpstreamError, Cancelled."""


@runtime_checkable
class Continues(Generator, Protocol):
    """A generator that can go on with a text as it stands, without a chat template."""

    def count_text(self, text: str) -> int:
        """Tokens of a text."""

    def go_on(self, text: str, sampling: Sampling, cancel: threading.Event) -> Iterator[Piece]:
        """What follows the text, piece by piece. Raises what `stream` raises."""
