"""Attention states of passages, kept for the next question on them.

System turn, heading and passage stand before the question, so what was read of them is the same for every
question. A kept state is exact: it belongs to these tokens, read by this model with this adapter, and is cut
where a prompt begins to differ.

Invariants:

* What is held takes at most `most_bytes`; the least recently used goes first. A state that is larger alone is
  not kept.
* A state that was handed out stays valid, whether it is still held or not.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from model.engine.cache import Kept

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class State:
    """What was read of one passage."""

    tokens: tuple[int, ...]
    kept: Kept  #: their keys and values, as many

    @property
    def nbytes(self) -> int:
        """Bytes held, near enough: a token id takes what a small integer takes."""
        return self.kept.nbytes + 8 * len(self.tokens)


class States:
    """States by model, adapter and the tokens that ask nothing yet. Any thread may use it."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.nbytes = 0
        self.hits = self.misses = 0
        self._held: OrderedDict[tuple[str, str | None, bytes], State] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, model: str, adapter: str | None, tokens: Sequence[int]) -> State | None:
        """The state of the passage that these tokens (system, passage and an empty question) identify."""
        with self._lock:
            key = _key(model, adapter, tokens)
            found = self._held.get(key)
            if found is None:
                self.misses += 1
            else:
                self.hits += 1
                self._held.move_to_end(key)
            return found

    def put(self, model: str, adapter: str | None, tokens: Sequence[int], state: State) -> None:
        """Keep a state, in place of an older one of that passage."""
        if state.nbytes > self.most_bytes:
            return
        with self._lock:
            key = _key(model, adapter, tokens)
            if (before := self._held.pop(key, None)) is not None:
                self.nbytes -= before.nbytes
            self._held[key] = state
            self.nbytes += state.nbytes
            while self.nbytes > self.most_bytes:
                _, dropped = self._held.popitem(last=False)
                self.nbytes -= dropped.nbytes

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._held.clear()
            self.nbytes = 0


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal tokens both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (left, right) in pairs if left != right), min(len(one), len(other)))


def _key(model: str, adapter: str | None, tokens: Sequence[int]) -> tuple[str, str | None, bytes]:
    return model, adapter, array("I", tokens).tobytes()
