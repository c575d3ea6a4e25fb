"""Packing passages into the generator's window, counted by the generator's own tokenizer.

Document text is data: each passage stands between fences that its own text cannot close, under its title.
Special tokens in it are encoded as plain text by our own tokenizer; for other servers they are `defused`.
Passages go in best first; what does not fit is dropped and reported. Room for the reply is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest.types import Hit
from model.errors import ContextOverflow
from service.generators import Message

CountTokens = Callable[[Sequence[Message]], int]

#: Short, since a small model loses the thread of a long one.
SYSTEM = "Answer the question briefly, in one or two sentences, using only the facts in the given text."
SYSTEM_CLOSED_BOOK = "Answer the question briefly."
#: Where a small model has said what it has to say, and begins to ramble or to ask itself questions.
STOP = ("\n\n", "\nQuestion:")
FENCE = '"""'
#: What chat templates of common models write between turns. Our own tokenizer takes it for text; a server
#: that renders the template as text takes it for what it says.
_CONTROL = re.compile(
    r"<[|\uff5c][^<>\n]{0,40}[|\uff5c]>|\[/?INST\]|<</?SYS>>|</?s>|</?think>"
    r"|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>",
    re.IGNORECASE,
)
_DEFUSED = str.maketrans("<>[]", "‹›()")


@dataclass(frozen=True, slots=True)
class Packed:
    """A prompt with the passages that went into it."""

    messages: tuple[Message, ...]
    hits: tuple[Hit, ...]
    dropped_chunks: int
    prompt_tokens: int


def pack(question: str, hits: Sequence[Hit], count_tokens: CountTokens, room_tokens: int) -> Packed:
    """The prompt with as many of the hits, best first, as leave the reply its room.

    `room_tokens` is the window less the longest reply.

    Raises:
        ContextOverflow: not even the question fits.
    """
    shown = messages(question, ())
    tokens = count_tokens(shown)
    if tokens > room_tokens:
        raise ContextOverflow(
            f"the question takes {tokens} tokens and there is room for {room_tokens}. Ask a shorter question."
        )
    kept: list[Hit] = []
    for hit in hits:
        tried = messages(question, (*kept, hit))
        needed = count_tokens(tried)
        if needed <= room_tokens:
            kept.append(hit)
            shown, tokens = tried, needed
    return Packed(tuple(shown), tuple(kept), len(hits) - len(kept), tokens)


def closed_book(question: str, count_tokens: CountTokens, room_tokens: int) -> Packed:
    """The prompt without any passage.

    Raises:
        ContextOverflow: the question does not fit.
    """
    shown: tuple[Message, ...] = (
        {"role": "system", "content": SYSTEM_CLOSED_BOOK},
        {"role": "user", "content": question},
    )
    tokens = count_tokens(shown)
    if tokens > room_tokens:
        raise ContextOverflow(
            f"the question takes {tokens} tokens and there is room for {room_tokens}. Ask a shorter question."
        )
    return Packed(shown, (), 0, tokens)


def fenced(hit: Hit) -> str:
    """A passage between fences; its own ones are weakened (citations are cut from the stored text)."""
    body = hit.text.strip().replace(FENCE, "'''")
    heading = " > ".join(dict.fromkeys(p for p in (hit.title, *hit.heading_path) if p)).replace(FENCE, "'''")
    return f"{heading}\n{FENCE}\n{body}\n{FENCE}"


def defused(shown: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with nothing in them that another server could take for the end of a turn or a new one."""
    return tuple(
        {
            "role": message["role"],
            "content": _CONTROL.sub(lambda found: found[0].translate(_DEFUSED), message["content"]),
        }
        for message in shown
    )


def messages(question: str, hits: Sequence[Hit]) -> tuple[Message, ...]:
    """The conversation that asks the question of these passages, or of none."""
    passages = "\n\n".join(fenced(hit) for hit in hits)
    user = f"Text:\n{passages}\n\nQuestion: {question}" if passages else f"Question: {question}"
    return ({"role": "system", "content": SYSTEM}, {"role": "user", "content": user})
