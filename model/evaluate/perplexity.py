"""Perplexity and bits per byte of a text, over a sliding window.

Every token is scored once, given what stands before it in its window: the window moves on by `stride`, and
only the tokens that it has newly reached are scored, so each but those of the first window sees at least
`window - stride` tokens. The text's first token has nothing before it and is not scored, as in transformers'
guide to perplexity; bits per byte leave its bytes out, too. Perplexity depends on how the tokenizer cuts the
text; bits per byte compare models with other tokenizers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from model.engine import Engine
from model.errors import ModelError


@dataclass(frozen=True, slots=True)
class Surprise:
    """What a text cost."""

    tokens: int  #: scored ones
    bytes: int  #: of the scored tokens
    nats: float  #: in all

    @property
    def perplexity(self) -> float:
        """Of a token."""
        return math.exp(self.nats / self.tokens)

    @property
    def bits_per_byte(self) -> float:
        """Whatever the tokenizer."""
        return self.nats / math.log(2) / self.bytes


def surprise(
    engine: Engine,
    text: str,
    *,
    window: int,
    stride: int,
    max_tokens: int | None = None,
    cancel: threading.Event | None = None,
    say: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> Surprise:
    """Score a text, or its first `max_tokens` tokens.

    Args:
        engine: whose adapter, if it has one, speaks.
        text: plain text.
        window: tokens seen at once, at most the model's.
        stride: tokens by which it moves on, at most `window - 1`.
        max_tokens: of the text.
        cancel: ends the work.
        say: hears of tokens scored, and of how many.

    Raises:
        ModelError: a window or stride out of range, or a text of less than two tokens.
        Cancelled: `cancel` was set.
    """
    if not 2 <= window <= engine.config.context_length:
        raise ModelError(f"window must be between 2 and {engine.config.context_length} tokens, got {window}")
    if not 1 <= stride < window:
        raise ModelError(f"stride must be between 1 and window - 1 ({window - 1}), got {stride}")
    ids = engine.tokenizer.begin(text)[:max_tokens]
    if len(ids) < 2:
        raise ModelError("the text has less than two tokens: there is nothing to score")
    nats, done = 0.0, 1
    while done < len(ids):
        reached = window if done == 1 else done + stride
        begin, end = reached - window, min(reached, len(ids))
        (logs,) = engine.score(ids[begin:done], [ids[done:end]], cancel=cancel)
        nats -= math.fsum(logs)
        done = end
        say(done - 1, len(ids) - 1)
    return Surprise(len(ids) - 1, len(engine.tokenizer.decode_bytes(ids[1:], special=True)), nats)
