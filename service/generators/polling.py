"""What models of other servers share: waiting that can be ended, and a guess at tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from model.errors import Cancelled
from service.generators import Message

POLL_S = 0.05
#: Bytes of text that make one token, taken low, and what a chat template adds to a turn.
BYTES_PER_TOKEN, TOKENS_PER_TURN = 2.5, 8

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


def estimated_tokens(messages: Sequence[Message]) -> int:
    """A cautious estimate: the tokenizer is on the other side."""
    return sum(int(len(m["content"].encode("utf-8")) / BYTES_PER_TOKEN) + TOKENS_PER_TURN for m in messages)
