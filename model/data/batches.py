"""Micro-batches: rows of ids with positions, targets and mask, in an order that can be resumed exactly.

The order of an epoch is a function of (seed, epoch) and of nothing else: rows are sorted by a hash of both,
so it is the same in every process, after a restart, and with another version of a random-number library.

Rows of about the same length go into one micro-batch: the shuffled rows are taken `WINDOW` micro-batches at a
time, sorted by length within, cut, and the micro-batches shuffled again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model.data.packing import DEFAULT_PACK, Pack, pack, split_tree
from model.data.samples import Sample
from model.errors import DataError

#: What a target is where nothing is to be predicted; cross-entropy's default ignore_index.
IGNORED = -100
#: Micro-batches that are sorted by length together: enough for little padding, few enough to stay random.
WINDOW = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """r rows of n tokens, right-padded; what `GPT.forward` reads and what it should predict."""

    ids: Tensor  #: (r, n) int64
    positions: Tensor  #: (r, n) int64: within the sample, continued from the prefix
    targets: Tensor  #: (r, n) int64: the id that each position must predict, IGNORED where unsupervised
    #: (r, 1, n, n) bool, True where a query sees a key; None: each its own past. Goes to `GPT.forward` as it
    #: is, which makes numbers of it once for all layers.
    mask: Tensor | None
    lengths: list[int]  #: real tokens of each row
    samples: int  #: conversations in it

    @property
    def tokens(self) -> int:
        """Real tokens, padding not counted."""
        return sum(self.lengths)

    @property
    def supervised(self) -> int:
        """Targets to predict."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return replace(
            self,
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            targets=self.targets.to(device),
            mask=None if self.mask is None else self.mask.to(device),
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """How full the micro-batches of epoch 0 are."""

    samples: int  #: conversations
    rows: int
    micro_batches: int
    tokens: int  #: real ones
    slots: int  #: tokens and padding
    supervised: int

    @property
    def padding_share(self) -> float:
        """Share of slots that hold no token."""
        return 1 - self.tokens / self.slots

    @property
    def supervised_share(self) -> float:
        """Share of real tokens that are predicted."""
        return self.supervised / self.tokens

    def __str__(self) -> str:
        """One line for a log."""
        return (
            f"{self.samples} conversations in {self.rows} rows, {self.micro_batches} micro-batches; "
            f"{self.tokens} tokens, {self.supervised_share:.1%} supervised, {self.padding_share:.1%} padding"
        )


class Loader:
    """Micro-batches of a fixed set of samples; `model.train.loop.Batches` is its protocol."""

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        batch_size: int,
        seed: int = 0,
        packing: bool = False,
        pack_len: int | None = None,
        shuffle: bool = True,
    ) -> None:
        """Arrange samples in rows.

        Args:
            samples: at least one.
            batch_size: rows of a micro-batch.
            seed: of the order.
            packing: several samples in a row.
            pack_len: most tokens of a row with several conversations; by default `DEFAULT_PACK`, or as many
                as the longest conversation takes.
            shuffle: otherwise rows go by length, the same in every epoch (for validation).

        Raises:
            DataError: no samples, batch_size below 1, or a sample that fits no row.
        """
        if not samples:
            raise DataError("no sample is left to train on")
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}")
        length = pack_len or max(DEFAULT_PACK, *(sample.depth for sample in samples))
        self.rows: list[Pack] = (
            pack(samples, length)
            if packing
            else [(tree,) for sample in samples for tree in split_tree(sample, length)]
        )
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self._lengths = [sum(tree.tokens for tree in row) for row in self.rows]
        self._planned: tuple[int, list[list[int]]] | None = None

    def steps(self, epoch: int = 0) -> int:  # noqa: ARG002 - rows are arranged once, so all epochs are alike
        """Micro-batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def __len__(self) -> int:
        """Micro-batches of an epoch."""
        return self.steps()

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The epoch's micro-batches from the `start_step`-th on; each is built when it is reached."""
        for step in range(start_step, self.steps(epoch)):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int) -> Batch:
        """One micro-batch, without building those before it."""
        return collate([self.rows[i] for i in self._plan(epoch)[step]])

    def statistics(self) -> Statistics:
        """How full the micro-batches are."""
        trees = [tree for row in self.rows for tree in row]
        plan = self._plan(0)
        return Statistics(
            samples=sum(len(tree.branches) for tree in trees),
            rows=len(self.rows),
            micro_batches=len(plan),
            tokens=sum(self._lengths),
            slots=sum(len(rows) * max(self._lengths[i] for i in rows) for rows in plan),
            supervised=sum(tree.supervised for tree in trees),
        )

    def fingerprint(self) -> str:
        """Hash of the rows and their order: a resumed run must find the one that it was started with."""
        digest = hashlib.sha256(f"{self.batch_size} {self.seed} {self.shuffle}".encode())
        for row in self.rows:
            for tree in row:
                digest.update(f"|{len(tree.prefix)}".encode() + tree.prefix.tobytes())
                for branch in tree.branches:
                    digest.update(
                        f"/{len(branch.ids)}".encode() + branch.ids.tobytes() + branch.mask.tobytes()
                    )
            digest.update(b";")
        return digest.hexdigest()

    def _plan(self, epoch: int) -> list[list[int]]:
        """Row numbers of each micro-batch of the epoch."""
        if self._planned is not None and self._planned[0] == epoch:
            return self._planned[1]
        size = self.batch_size
        if self.shuffle:
            order = self._shuffled(len(self.rows), epoch, "rows")
            window = size * WINDOW
            order = [
                i
                for at in range(0, len(order), window)
                for i in sorted(order[at : at + window], key=self._lengths.__getitem__)
            ]
        else:
            order = sorted(range(len(self.rows)), key=self._lengths.__getitem__)
        plan = [order[at : at + size] for at in range(0, len(order), size)]
        if self.shuffle:
            plan = [plan[i] for i in self._shuffled(len(plan), epoch, "batches")]
        self._planned = epoch, plan
        return plan

    def _shuffled(self, count: int, epoch: int, what: str) -> list[int]:
        """0 to count - 1 by the hash of (seed, epoch, number)."""
        salt = f"{self.seed} {epoch} {what} ".encode()
        return sorted(range(count), key=lambda i: hashlib.sha256(salt + str(i).encode()).digest())


def collate(rows: Sequence[Pack]) -> Batch:
    """One micro-batch of rows of samples; a mask only where a row holds more than one conversation."""
    lengths = [sum(tree.tokens for tree in row) for row in rows]
    shape = len(rows), max(lengths)
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    targets = np.full(shape, IGNORED, np.int64)
    # Who may see whom: a query sees its own tree's prefix (branch 0) and its own branch. Padding is a tree of
    # its own, -1, and sees itself: a query that saw nothing would have a softmax of nothing.
    trees, branches = np.full(shape, -1, np.int32), np.zeros(shape, np.int32)
    for r, row in enumerate(rows):
        at = 0
        for t, tree in enumerate(row):
            depth = len(tree.prefix)
            trees[r, at : at + tree.tokens] = t
            ids[r, at : at + depth] = tree.prefix
            positions[r, at : at + depth] = np.arange(depth)
            at += depth
            for b, branch in enumerate(tree.branches, 1):
                here = slice(at, at + len(branch.ids))
                ids[r, here] = branch.ids
                positions[r, here] = np.arange(depth, depth + len(branch.ids))
                targets[r, at : here.stop - 1] = np.where(branch.mask[1:], branch.ids[1:], IGNORED)
                branches[r, here] = b
                at = here.stop
    conversations = [sum(len(tree.branches) for tree in row) for row in rows]
    return Batch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        targets=torch.from_numpy(targets),
        mask=_visible(torch.from_numpy(trees), torch.from_numpy(branches))
        if max(conversations) > 1
        else None,
        lengths=lengths,
        samples=sum(conversations),
    )


def _visible(trees: Tensor, branches: Tensor) -> Tensor:
    """(r, 1, n, n) bool: query i sees key j <= i of its tree, if j is prefix or of the same branch."""
    seen = trees[:, :, None] == trees[:, None, :]
    seen &= (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return seen.tril_()[:, None]
