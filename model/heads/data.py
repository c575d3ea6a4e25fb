"""Rows of ids as micro-batches for the one loop; the states below the cut are computed once, if they fit.

A unit is what the loss judges: one text, or a chosen and a rejected reply. The order of an epoch is a
function of (seed, epoch), as in `model.data.batches`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.data.batches import WINDOW
from model.errors import DataError
from model.gpt import GPT
from model.heads.network import HeadBatch, padded

#: States that are kept: more are computed again in every epoch.
KEPT_BYTES = 2 << 30
#: Tokens, padding included, that go through the frozen part at once.
READ_TOKENS = 4096


class HeadLoader:
    """Micro-batches of units; `model.train.loop.Batches` is its protocol."""

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        labels: Sequence[int],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        lower: GPT | None = None,
    ) -> None:
        """Arrange units.

        Args:
            rows: token ids, at least one each; unit u has rows[u * w : (u + 1) * w] for w rows a label.
            labels: one a unit.
            batch_size: units of a micro-batch.
            seed: of the order.
            shuffle: otherwise units go by length, the same in every epoch.
            lower: the frozen part, whose states go into the batches; None: ids do.

        Raises:
            DataError: nothing to learn from, or batch_size below 1.
        """
        if not labels:
            raise DataError("no text is left to learn from")
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}")
        self.rows, self.labels = [list(row) for row in rows], list(labels)
        self.width = len(rows) // len(labels)
        self.batch_size, self.seed, self.shuffle, self.lower = batch_size, seed, shuffle, lower
        self._states: dict[int, Tensor] = {}
        if lower is not None:
            value = lower.embed.weight.element_size() * lower.config.d_model
            self._keep = sum(map(len, self.rows)) * value <= KEPT_BYTES

    def steps(self, epoch: int = 0) -> int:  # noqa: ARG002 - all epochs are alike
        """Micro-batches of an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[HeadBatch]:
        """The epoch's micro-batches from the `start_step`-th on; each is built when it is reached."""
        for units in self._plan(epoch)[start_step:]:
            numbers = [unit * self.width + part for part in range(self.width) for unit in units]
            inputs, lengths = padded([self.rows[i] for i in numbers])
            if self.lower is not None:
                inputs = self._lifted(numbers)
            yield HeadBatch(inputs, lengths, torch.tensor([self.labels[unit] for unit in units]))

    def fingerprint(self) -> str:
        """Hash of rows, labels and order: a resumed run must find the one that it was started with."""
        return hashlib.sha256(
            repr((self.rows, self.labels, self.batch_size, self.seed, self.shuffle)).encode()
        ).hexdigest()

    def __str__(self) -> str:
        """One line for a log."""
        tokens = sum(map(len, self.rows))
        return f"{len(self.labels)} units, {tokens} tokens, the longest {max(map(len, self.rows))}"

    def _plan(self, epoch: int) -> list[list[int]]:
        """Units of each micro-batch."""
        size = self.batch_size
        if not self.shuffle:
            order = sorted(range(len(self.labels)), key=self._length)
            return [order[at : at + size] for at in range(0, len(order), size)]
        order, window = self._shuffled(len(self.labels), epoch, "units"), size * WINDOW
        order = [
            unit
            for at in range(0, len(order), window)
            for unit in sorted(order[at : at + window], key=self._length)
        ]
        plan = [order[at : at + size] for at in range(0, len(order), size)]
        return [plan[i] for i in self._shuffled(len(plan), epoch, "batches")]

    def _length(self, unit: int) -> int:
        return max(len(row) for row in self.rows[unit * self.width : (unit + 1) * self.width])

    def _shuffled(self, count: int, epoch: int, what: str) -> list[int]:
        """0 to count - 1 by the hash of (seed, epoch, number)."""
        salt = f"{self.seed} {epoch} {what} ".encode()
        return sorted(range(count), key=lambda i: hashlib.sha256(salt + str(i).encode()).digest())

    def _lifted(self, numbers: Sequence[int]) -> Tensor:
        """States (r, n, d) of these rows."""
        if self._keep and not self._states:
            self._read(range(len(self.rows)))
        elif not self._keep:
            self._states.clear()
            self._read(numbers)
        states = [self._states[i] for i in numbers]
        return torch.nn.utils.rnn.pad_sequence(states, batch_first=True)

    @torch.no_grad()
    def _read(self, numbers: Sequence[int]) -> None:
        """Let the frozen part read these rows, those of about one length together."""
        assert self.lower is not None
        device = self.lower.embed.weight.device
        left = sorted(set(numbers), key=lambda i: len(self.rows[i]))
        while left:
            longest = len(self.rows[left[-1]])
            some = left[-max(1, READ_TOKENS // longest) :]
            del left[-len(some) :]
            ids, lengths = padded([self.rows[i] for i in some])
            states = self.lower.eval()(ids.to(device)).to("cpu")
            for i, state, length in zip(some, states, lengths.tolist(), strict=True):
                self._states[i] = state[:length].clone()
