"""Preference sets as micro-batches.

A pair is a tree of two branches (`model.data.samples`): the prompt is read once, the chosen and the rejected
reply each see it and themselves. A pair of which one reply is left (the other was empty, or too long) is
dropped and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from model.chat import ChatTemplate
from model.data.batches import IGNORED, Batch, Loader, collate
from model.data.forms import Example
from model.data.packing import DEFAULT_PACK, Pack
from model.data.samples import Counts, Sample
from model.data.sets import DataConfig, gather, samples_of
from model.data.split import split
from model.errors import DataError
from model.tokenizer import Tokenizer

CHOSEN, REJECTED = 0, 1


@dataclass(frozen=True, slots=True)
class PairBatch(Batch):
    """Rows of pairs, each with the numbers of its replies."""

    #: (r, n) int64 at each target: 2 * pair + CHOSEN or REJECTED, -1 where nothing is predicted.
    owner: Tensor
    pairs: int

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(
            self,
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            targets=self.targets.to(device),
            mask=None if self.mask is None else self.mask.to(device),
            owner=self.owner.to(device),
        )


class PairLoader(Loader):
    """`Loader` of samples with two branches each."""

    def batch(self, epoch: int, step: int) -> PairBatch:
        """One micro-batch, without building those before it."""
        return collate_pairs([self.rows[i] for i in self._plan(epoch)[step]])


def collate_pairs(rows: Sequence[Pack]) -> PairBatch:
    """One micro-batch; pairs are numbered row by row."""
    plain = collate(rows)
    owner, pair = torch.full_like(plain.targets, -1), 0
    for r, row in enumerate(rows):
        at = 0
        for tree in row:
            at += len(tree.prefix)
            for kind, branch in enumerate(tree.branches):
                owner[r, at : at + len(branch.ids)] = 2 * pair + kind
                at += len(branch.ids)
            pair += 1
    owner[plain.targets == IGNORED] = -1
    return PairBatch(
        ids=plain.ids,
        positions=plain.positions,
        targets=plain.targets,
        mask=plain.mask,
        lengths=plain.lengths,
        samples=plain.samples,
        owner=owner,
        pairs=pair,
    )


@dataclass(frozen=True, slots=True)
class PreparedPairs:
    """What a trainer iterates, and lines for its log."""

    train: PairLoader
    validation: PairLoader | None
    report: list[str]


def prepare(config: DataConfig, template: ChatTemplate, tokenizer: Tokenizer) -> PreparedPairs:
    """Read, split, encode and arrange the preference sets of `config`.

    Raises:
        DataError: a set that cannot be used, or of which nothing is left.
    """
    report: list[str] = []
    examples = gather(config.dataset, config, report, "rank")
    if config.eval_dataset:
        train, held = examples, gather(config.eval_dataset, config, report, "rank")
    else:
        train, held = split(examples, config.val_size)
    sides = (("training", train), ("validation", held))
    loaders = [
        _loader(side, len(rows), pairs_of(rows, config, template, tokenizer), config, report)
        for side, rows in sides
        if rows
    ]
    return PreparedPairs(loaders[0], loaders[1] if len(loaders) > 1 else None, report)


def _loader(
    side: str, rows: int, found: tuple[list[Sample], Counts], config: DataConfig, report: list[str]
) -> PairLoader:
    samples, counts = found
    report.append(f"{side}: {len(samples)} of {rows} pairs; {counts}")
    if not samples:
        raise DataError(
            f"{side}: no pair is left of {', '.join(config.dataset)}: {counts}. A reply must hold something "
            f"and fit cutoff_len ({config.cutoff_len} tokens) with its prompt"
        )
    size = config.per_device_train_batch_size if side == "training" else config.per_device_eval_batch_size
    return PairLoader(
        samples,
        batch_size=size,
        seed=config.seed,
        packing=config.packing,
        # a pair is not torn apart: its row has room for both replies
        pack_len=max(config.pack_len or DEFAULT_PACK, *(sample.tokens for sample in samples)),
        shuffle=side == "training",
    )


def pairs_of(
    examples: Sequence[Example], config: DataConfig, template: ChatTemplate, tokenizer: Tokenizer
) -> tuple[list[Sample], Counts]:
    """Samples with both branches; what has one only is left out.

    What was said before belongs to neither reply: only the last turn is compared.
    """
    samples, counts = samples_of(examples, config, template, tokenizer, teach="last")
    return [sample for sample in samples if len(sample.branches) == 2], counts
