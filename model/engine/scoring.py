"""Log-probabilities of given continuations: the prompt is read once, they are read behind it in batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.engine.cache import Cache
from model.errors import Cancelled

if TYPE_CHECKING:
    from model.engine.engine import Engine

#: Most positions whose logits are made at once: 49,152 float32 scores each, so 50 MB.
LOGIT_ROWS = 256
#: Most cached tokens that one batch of continuations may take.
SCORE_TOKENS = 8192


def score(
    engine: Engine,
    prompt: Sequence[int],
    continuations: Sequence[Sequence[int]],
    *,
    cancel: threading.Event | None,
    cache: Cache | None,
) -> list[list[float]]:
    """`Engine.score`, in inference mode."""
    longest = max(map(len, continuations), default=0)
    engine.check(prompt, longest)
    first, cache = engine.prefill([prompt], cache=cache, cancel=cancel)
    first = first.log_softmax(-1)
    scores = [[float(first[0, tokens[0]])] if tokens else [] for tokens in continuations]
    longer = [i for i, tokens in enumerate(continuations) if len(tokens) > 1]
    longer.sort(key=lambda i: len(continuations[i]))  # equal lengths together: less padding
    batch = max(1, SCORE_TOKENS // (len(prompt) + longest))
    for start in range(0, len(longer), batch):
        if cancel is not None and cancel.is_set():
            raise Cancelled("scoring was cancelled")
        chosen = longer[start : start + batch]
        rows = cache.copy([0] * len(chosen), room=longest)
        hidden = engine.read([continuations[i][:-1] for i in chosen], rows)
        for row, i in enumerate(chosen):
            scores[i] += _logprobs(engine, hidden[row], continuations[i][1:])
    return scores


def _logprobs(engine: Engine, hidden: Tensor, tokens: Sequence[int]) -> list[float]:
    """Log-probability of tokens[i] after hidden[i]; hidden is (at least len(tokens), d_model)."""
    found: list[float] = []
    for start in range(0, len(tokens), LOGIT_ROWS):
        some = torch.tensor(tokens[start : start + LOGIT_ROWS])
        logits = engine.model.logits(hidden[start : start + len(some)]).float()
        found += logits.log_softmax(-1).gather(-1, some[:, None])[:, 0].tolist()
    return found
