"""What models of other servers share: a stream that can be ended at any moment, and a guess at tokens."""

from __future__ import annotations

import asyncio
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TypeVar

from model.config import Sampling
from model.errors import Cancelled
from service.errors import UnsupportedField
from service.generators import Capability, Message, Piece

POLL_S = 0.05
#: Bytes of text that make one token, taken low, and what a chat template adds to a turn. A digit is one.
BYTES_PER_TOKEN, TOKENS_PER_TURN = 2.5, 8
_DIGITS = re.compile(r"\d")

Item = TypeVar("Item")


async def next_unless(cancel: threading.Event, pieces: AsyncIterator[Item]) -> Item | None:
    """The next piece, None at the end.

    Raises:
        Cancelled: the event was set while waiting.
    """
    if cancel.is_set():  # pieces that come fast leave no time to notice below
        raise Cancelled("the question was withdrawn")
    coming = asyncio.ensure_future(anext(pieces, None))
    while not coming.done():
        await asyncio.wait({coming}, timeout=POLL_S)
        if cancel.is_set() and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
            raise Cancelled("the question was withdrawn")
    return coming.result()


def drawn(
    pieces: AsyncIterator[Item], cancel: threading.Event, translated: Callable[[Exception], Exception]
) -> Generator[Item, None, None]:
    """The pieces in a loop of their own, until `cancel` is set; what the client raises comes translated."""
    with asyncio.Runner() as loop:  # its end closes what is still open
        try:
            while (piece := loop.run(next_unless(cancel, pieces))) is not None:
                yield piece
        except (Cancelled, GeneratorExit):
            raise
        except Exception as error:
            raise translated(error) from error


def estimated_tokens(messages: Sequence[Message]) -> int:
    """A cautious estimate: the tokenizer is on the other side."""
    return sum(_tokens(m["content"]) + TOKENS_PER_TURN for m in messages)


def _tokens(text: str) -> int:
    digits = len(_DIGITS.findall(text))
    return digits + int((len(text.encode("utf-8")) - digits) / BYTES_PER_TOKEN)


class UpstreamGenerator(ABC):
    """One model of another server.

    Its tokenizer is on the other side, so what is packed for it is decided by a cautious estimate.
    """

    def __init__(self, name: str, context_tokens: int) -> None:
        self._name, self._context_tokens = name, context_tokens

    @property
    def name(self) -> str:
        """`ollama/` or `openai/`, and the model's name there."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """As the settings say."""
        return self._context_tokens

    @property
    def capabilities(self) -> frozenset[Capability]:
        """It streams; it cannot score a given text."""
        return frozenset({"stream"})

    @property
    def writes_cjk(self) -> bool:
        """Taken for granted: what is served there is not known before it is asked."""
        return True

    @property
    def focus_sentences(self) -> int:
        """It reads whole passages."""
        return 0

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """A cautious estimate."""
        return estimated_tokens(messages)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece]:
        """The reply, piece by piece, with its reasoning apart.

        Raises:
            UpstreamUnreachable: no answer at the address.
            ModelNotPulled: it lacks the model.
            UpstreamRefused: it finds fault with the request.
            UpstreamError: it failed, or broke off.
            UnsupportedField: beams are asked for, which such servers do not have.
            Cancelled: `cancel` was set.
        """
        if sampling.num_beams > 1:
            raise UnsupportedField("num_beams", f"{self._name} has no beam search; ask one of the own models")
        return drawn(self._pieces(messages, sampling), cancel, self._translated)

    @abstractmethod
    def _pieces(self, messages: Sequence[Message], sampling: Sampling) -> AsyncIterator[Piece]:
        """The reply as the server's client gives it."""

    @abstractmethod
    def _translated(self, error: Exception) -> Exception:
        """What the client raised, as an error of ours."""
