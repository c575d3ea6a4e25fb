"""Sliding windows over a row of ids, as micro-batches in an order that can be resumed exactly.

A window of n ids predicts the n ids that stand one later. Texts follow each other in a window, with the
end-of-text token between them, and attention sees across it: isolating them gains nothing in pretraining
(nanochat's experiment log: 0.0002 bits a byte).

* To train, each epoch begins at another offset below the stride, and the windows come in an order that
  (seed, epoch) alone decide: numbers sorted by a 64-bit mix (splitmix64, Steele et al. 2014), the same
  everywhere.
* To validate, windows come in order, and an id that an earlier window predicted is not predicted again: with
  a stride below the window each id is predicted once, with at least (window - stride) ids before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.batches import IGNORED, Batch
from model.data.shards.stream import Stream
from model.errors import DataError


class Windows:
    """Micro-batches of windows; `model.train.loop.Batches` is its protocol."""

    def __init__(
        self,
        stream: Stream,
        *,
        length: int,
        batch_size: int,
        stride: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        limit: int | None = None,
    ) -> None:
        """Arrange windows over `stream`.

        Args:
            stream: at least two ids.
            length: ids of a window.
            batch_size: windows of a micro-batch.
            stride: from one window's start to the next one's; default: `length`.
            seed: of order and offsets.
            shuffle: to train; otherwise to validate.
            limit: use the first of these ids only.

        Raises:
            DataError: a stride that leaves ids out, or nothing to predict.
        """
        self.stream, self.length, self.batch_size = stream, length, batch_size
        self.stride, self.seed, self.shuffle = stride or length, seed, shuffle
        self.tokens = min(len(stream), limit or len(stream))
        if not 1 <= self.stride <= length:
            raise DataError(f"stride must be between 1 and the window of {length} tokens, got {stride}")
        if self.tokens < 2:
            raise DataError("fewer than two tokens: there is nothing to predict")
        self._planned: tuple[int, NDArray[np.int64]] | None = None

    def steps(self, epoch: int) -> int:
        """Micro-batches of an epoch."""
        return -(-self._count(self._offset(epoch)) // self.batch_size)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The epoch's micro-batches from the `start_step`-th on; each is read when it is reached."""
        for step in range(start_step, self.steps(epoch)):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int) -> Batch:
        """One micro-batch, without reading those before it."""
        starts = self._starts(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        rows = [self.stream.read(int(s), min(int(s) + self.length + 1, self.tokens)) for s in starts]
        lengths = [len(row) - 1 for row in rows]
        n = max(lengths)
        ids, targets = np.zeros((len(rows), n), np.int64), np.full((len(rows), n), IGNORED, np.int64)
        for r, (row, size) in enumerate(zip(rows, lengths, strict=True)):
            ids[r, :size], targets[r, :size] = row[:-1], row[1:]
            if not self.shuffle and starts[r] > 0:
                targets[r, : self.length - self.stride] = IGNORED
        positions = torch.arange(n).expand(len(rows), n)
        return Batch(torch.from_numpy(ids), positions, torch.from_numpy(targets), None, lengths, len(rows))

    def fingerprint(self) -> str:
        """Hash of the ids and their order: a resumed run must find the one that it was started with."""
        shape = f"{self.tokens} {self.length} {self.stride} {self.batch_size} {self.seed} {self.shuffle} "
        return hashlib.sha256((shape + self.stream.fingerprint).encode()).hexdigest()

    def __str__(self) -> str:
        """One line for a log."""
        count, steps = self._count(self._offset(0)), self.steps(0)
        return (
            f"{self.tokens:,} tokens of {self.stream.texts:,} texts, {count:,} windows of {self.length} "
            f"(stride {self.stride}), {steps:,} micro-batches"
        )

    def predicted(self) -> NDArray[np.int64]:
        """The ids that are predicted, each once, where this validates."""
        return self.stream.read(1, self.tokens)

    def _offset(self, epoch: int) -> int:
        """Where the epoch's first window begins; nowhere but at 0 where the text is shorter than two."""
        room = min(self.stride, max(self.tokens - 1 - self.length, 1))
        return (
            int(_mixed(np.array([self.seed, epoch], np.uint64))[1] % np.uint64(room)) if self.shuffle else 0
        )

    def _count(self, offset: int) -> int:
        """Windows from `offset` on, the last of which reaches the end."""
        return max(-(-(self.tokens - 1 - offset - self.length) // self.stride), 0) + 1

    def _starts(self, epoch: int) -> NDArray[np.int64]:
        """Where the epoch's windows begin, in the order in which they come."""
        if self._planned is not None and self._planned[0] == epoch:
            return self._planned[1]
        offset = self._offset(epoch)
        starts = offset + np.arange(self._count(offset), dtype=np.int64) * self.stride
        if self.shuffle:
            key = _mixed(np.array([self.seed, epoch, 1], np.uint64))[2]
            numbers = np.arange(len(starts), dtype=np.uint64)
            starts = starts[np.argsort(_splitmix(numbers ^ key), kind="stable")]
        self._planned = epoch, starts
        return starts


def _splitmix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: distinct numbers become distinct numbers that look drawn."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each number mixed with all before it."""
    mixed = values.copy()
    for i in range(len(mixed)):
        before = mixed[i - 1] if i else np.uint64(0)
        mixed[i : i + 1] = _splitmix(mixed[i : i + 1] ^ before)
    return mixed
