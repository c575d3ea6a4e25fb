"""Asking a question of passages: where in each the answer stands, and whether it stands there at all.

Question and passages go through the lower layers apart; what comes out for a passage is kept and used again
for the next question on it. Then all pairs go through the upper layers as one batch.

Invariants:

* A passage's reading depends on the question and on this passage alone: not on the others, but for rounding,
  nor on whether its states were kept.
* Spans are code points into the passage as it was given.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import Cancelled
from model.spans.encoder import Lower
from model.spans.network import Side, SpanNet, join
from model.spans.pieces import Pieced, Pieces

#: Pieces that a span has at most.
LONGEST = 64
#: Pairs that go through the upper layers together.
BATCH = 16
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the passage: `text[start:end]`."""

    start: int
    end: int
    score: float  #: logits of start and end less twice that of "not here": above 0 it is likelier than that


@dataclass(frozen=True, slots=True)
class SpanReading:
    """What a passage says to a question."""

    spans: tuple[Span, ...]  #: the best, from different places, best first; empty for a passage without words
    not_here: float  #: probability that the passage does not tell
    #: Where pieces begin and end (code points), and the probability that the answer begins there, (n,) each.
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    begins: NDArray[np.float32]

    def mass(self, start: int, end: int) -> float:
        """Probability that the answer begins in `text[start:end]`."""
        return float(self.begins[(self.starts >= start) & (self.starts < end)].sum())


@dataclass(frozen=True, slots=True)
class _Window:
    """Pieces of a passage, and their states."""

    pieces: Pieces
    states: Tensor


class SpanReader:
    """Reads with the lower layers of an encoder and a trained net. Safe from several threads."""

    def __init__(
        self,
        name: str,
        lower: Lower,
        net: SpanNet,
        pieced: Pieced,
        *,
        kept_bytes: int = 64 * MEGABYTE,
        scripts: frozenset[str] = frozenset(),
        fingerprint: str = "",
    ) -> None:
        """Prepare to read.

        Args:
            name: what a reply calls it.
            lower: the frozen layers.
            net: the trained ones, in the same dtype.
            pieced: the encoder's tokenizer.
            kept_bytes: of passages' states that are kept at most.
            scripts: of the questions that the net was trained on, LATIN or CJK; empty for any.
            fingerprint: of the weights.
        """
        self.name, self.scripts, self.fingerprint = name, scripts, fingerprint or name
        self._lower, self._net, self._pieced = lower, net.eval(), pieced
        self._kept_bytes, self._held_bytes = kept_bytes, 0
        self._kept: OrderedDict[str, list[_Window]] = OrderedDict()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def read(
        self,
        question: str,
        passages: Sequence[tuple[str, str]],
        *,
        best: int = 2,
        within: Sequence[Sequence[tuple[int, int]]] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[SpanReading]:
        """Read the question in passages.

        Args:
            question: as asked.
            passages: text and heading of each.
            best: spans of each at most.
            within: stretches of each, in their order and apart, say its sentences: a span lies in one,
                and each lends one span at most. Anywhere by default.
            cancelled: asked between batches.

        Raises:
            Cancelled: `cancelled` said so.
        """
        with self._lock:
            pieces = self._pieced.question(question)
            asked = Side(pieces.ids, pieces.own, self._lower([pieces.ids])[0])
            windows = self._windows(passages, cancelled)
            flat = [(i, window) for i, some in enumerate(windows) for window in some]
            found: list[list[SpanReading]] = [[] for _ in passages]
            # Of like length together: padding costs as much as text.
            flat.sort(key=lambda one: len(one[1].pieces))
            for at in range(0, len(flat), BATCH):
                if cancelled():
                    raise Cancelled("the question was withdrawn")
                some = flat[at : at + BATCH]
                pairs = join(
                    [asked] * len(some),
                    [Side(w.pieces.ids, w.pieces.own, w.states) for _, w in some],
                )
                starts, ends = self._net(pairs)
                for row, (i, window) in enumerate(some):
                    there = slice(len(asked.ids), pairs.lengths[row])
                    found[i].append(
                        _reading(
                            window.pieces,
                            torch.cat((starts[row, :1], starts[row, there])).numpy(),
                            torch.cat((ends[row, :1], ends[row, there])).numpy(),
                            best,
                            within[i] if within is not None else None,
                        )
                    )
        return [_together(readings, best) for readings in found]

    def _windows(
        self, passages: Sequence[tuple[str, str]], cancelled: Callable[[], bool]
    ) -> list[list[_Window]]:
        """The windows of each passage with their states, kept ones as they are."""
        keys = [hashlib.sha256(f"{heading}\0{text}".encode()).hexdigest() for text, heading in passages]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new: dict[str, list[Pieces]] = {}
        for key, (text, heading) in zip(keys, passages, strict=True):
            if key not in found and key not in new:
                new[key] = self._pieced.passage(text, heading)
        flat = sorted(
            ((key, number) for key, some in new.items() for number in range(len(some))),
            key=lambda one: len(new[one[0]][one[1]]),
        )
        states: dict[tuple[str, int], Tensor] = {}
        for at in range(0, len(flat), BATCH):
            if cancelled():
                raise Cancelled("the question was withdrawn")
            some = flat[at : at + BATCH]
            made = self._lower([new[key][number].ids for key, number in some])
            states |= dict(zip(some, made, strict=True))
        for key, pieces in new.items():
            found[key] = [_Window(p, states[key, number]) for number, p in enumerate(pieces)]
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _keep(self, key: str, windows: list[_Window]) -> None:
        """Keep a passage's states, as the latest used; drop those that were not used for the longest time."""
        if key not in self._kept:
            self._held_bytes += _bytes(windows)
        self._kept[key] = windows
        self._kept.move_to_end(key)
        while self._held_bytes > self._kept_bytes and self._kept:
            _, dropped = self._kept.popitem(last=False)
            self._held_bytes -= _bytes(dropped)


def _bytes(windows: Sequence[_Window]) -> int:
    return sum(window.states.numel() * window.states.element_size() for window in windows)


def _reading(
    pieces: Pieces,
    starts: NDArray[np.float32],
    ends: NDArray[np.float32],
    best: int,
    within: Sequence[tuple[int, int]] | None = None,
) -> SpanReading:
    """From logits of null and every piece (n + 1,) to spans."""
    null = float(starts[0] + ends[0])
    where = np.flatnonzero(pieces.own)
    first = np.array([pieces.places[i][0] for i in where], np.int64)  # type: ignore[index]
    last = np.array([pieces.places[i][1] for i in where], np.int64)  # type: ignore[index]
    if not len(where):
        return SpanReading((), 1.0, first, last, np.zeros(0, np.float32))
    s, e = starts[1:][where].astype(np.float64), ends[1:][where].astype(np.float64)
    spans: list[Span] = []
    # All pairs of an end at or behind its start, not too long.
    n = len(where)
    scores = s[:, None] + e[None, :]
    behind = np.arange(n)[None, :] - np.arange(n)[:, None]
    scores[(behind < 0) | (behind >= LONGEST)] = -np.inf
    if within is not None:
        stretch = _stretches(first, last, within)
        scores[(stretch[:, None] != stretch[None, :]) | (stretch < 0)[:, None]] = -np.inf
    if not np.isfinite(scores).any():
        return SpanReading((), 1.0, first, last, np.zeros(n, np.float32))
    likely = _softmax(np.concatenate(([starts[0]], s)))
    here = float(np.logaddexp.reduce(scores[np.isfinite(scores)]) - null)
    while len(spans) < best and np.isfinite(scores).any():
        i, j = np.unravel_index(int(scores.argmax()), scores.shape)
        spans.append(Span(int(first[i]), int(last[j]), float(scores[i, j] - null)))
        # What overlaps begins within it, ends within it, or reaches around it.
        scores[i : j + 1, :] = scores[:, i : j + 1] = scores[:i, j + 1 :] = -np.inf
        if within is not None:
            scores[stretch == stretch[i], :] = -np.inf
    return SpanReading(tuple(spans), _sigmoid(-here), first, last, likely[1:].astype(np.float32))


def _stretches(
    first: NDArray[np.int64], last: NDArray[np.int64], within: Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    """(n,): in which stretch each piece lies wholly; -1 for none."""
    bounds = np.array(within, np.int64).reshape(-1, 2)
    found = np.searchsorted(bounds[:, 0], first, side="right") - 1
    inside = found >= 0
    inside[inside] = last[inside] <= bounds[found[inside], 1]
    return np.where(inside, found, -1)


def _together(windows: Sequence[SpanReading], best: int) -> SpanReading:
    """One reading of all windows of a passage: the likeliest window speaks, all lend their spans."""
    if len(windows) == 1:
        return windows[0]
    spans: list[Span] = []
    for span in sorted((s for w in windows for s in w.spans), key=lambda s: -s.score):
        if len(spans) < best and all(span.end <= o.start or o.end <= span.start for o in spans):
            spans.append(span)
    speaks = min(windows, key=lambda w: w.not_here)
    return SpanReading(tuple(spans), speaks.not_here, speaks.starts, speaks.ends, speaks.begins)


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    grown = np.exp(x - x.max())
    shares: NDArray[np.float64] = grown / grown.sum()
    return shares


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, x))))
