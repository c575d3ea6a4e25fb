"""The network of a head: a decoder whose language head is replaced by a readout of a few outputs.

    ids -> [embedding, lower blocks] -> states -> [upper blocks, norm] -> last token's state -> readout

What is frozen below the first trained block gives the same states in every epoch, so it is cut off and its
states are kept. With an adapter in every block nothing can be cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.axes.positions import held_back
from model.gpt import GPT

READOUT = "readout"


class _Placed(nn.Module):
    """Positions of the upper part: its states were placed below, but each block still turns them."""

    def __init__(self, positions: nn.Module) -> None:
        super().__init__()
        self.positions = positions

    def place(self, x: Tensor, positions: Tensor) -> Tensor:  # noqa: ARG002
        """Nothing more."""
        return x

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """As below."""
        found: tuple[Tensor, Tensor] | None = self.positions.rotation(positions, dtype)  # type: ignore[operator]
        return found


def shell(config_of: GPT) -> GPT:
    """A decoder of the same config without weights, to put parts into."""
    with torch.device("meta"):
        return GPT(config_of.config)


def cut(model: GPT, first: int) -> tuple[GPT, GPT]:
    """The decoder below block `first` (ids to states) and from it on (states to hidden states)."""
    lower, upper = shell(model), shell(model)
    lower.embed, lower.positions, lower.drop = model.embed, model.positions, model.drop
    lower.blocks, lower.norm, lower.head = model.blocks[:first], nn.Identity(), None
    upper.embed, upper.drop = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    upper.positions = _Placed(model.positions)  # type: ignore[assignment]
    upper.blocks, upper.norm, upper.head = model.blocks[first:], model.norm, None
    return lower, upper


def add_readout(model: GPT, outputs: int, seed: int) -> nn.Linear:
    """A fresh readout as a part of the decoder, so that it is trained and saved with it."""
    made = nn.Linear(model.config.d_model, outputs)
    nn.init.normal_(made.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(made.bias)
    model.add_module(READOUT, made)
    return made


@dataclass(frozen=True, slots=True)
class HeadBatch:
    """Texts, right-padded; where several are compared, all first ones stand before all second ones."""

    inputs: Tensor  #: (r, n) int64 ids, or (r, n, d) states of the cut
    lengths: Tensor  #: (r,) int64
    labels: Tensor  #: (units,) int64

    @property
    def tokens(self) -> int:
        """Real ones, padding not counted."""
        return int(self.lengths.sum())

    def to(self, device: torch.device | str) -> HeadBatch:
        """The same on another device."""
        moved = (part.to(device) for part in (self.inputs, self.lengths, self.labels))
        return replace(self, **dict(zip(("inputs", "lengths", "labels"), moved, strict=True)))


def outputs(model: GPT, batch: HeadBatch) -> Tensor:
    """What the readout says of each row, (r, outputs) float32."""
    hidden = model(batch.inputs, positions=held_back(batch.lengths, batch.inputs.shape[1]))
    last = hidden[torch.arange(len(hidden), device=hidden.device), batch.lengths - 1]
    said: Tensor = model.get_submodule(READOUT)(last)
    return said.float()


class Classifying:
    """Cross-entropy of the label, and what it saw since it was last asked."""

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing, self._right, self._texts = smoothing, 0, 0

    def __call__(self, model: GPT, batch: HeadBatch) -> tuple[Tensor, int]:
        """The sum over texts, and how many they are."""
        said = outputs(model, batch)
        self._right += int((said.argmax(1) == batch.labels).sum())
        self._texts += len(batch.labels)
        total = F.cross_entropy(said, batch.labels, reduction="sum", label_smoothing=self.smoothing)
        return total, len(batch.labels)

    def figures(self) -> dict[str, float]:
        """Share of texts whose label was the likeliest; then forgotten."""
        right, texts = self._right, self._texts
        self._right = self._texts = 0
        return {"accuracy": right / texts} if texts else {}


class Preferring:
    """Bradley and Terry: -log sigmoid(score of the chosen - score of the rejected) (arXiv 2203.02155)."""

    def __init__(self, smoothing: float = 0.0) -> None:
        """`smoothing`: share of the pairs that are taken to be the wrong way round, as in DPO."""
        self.smoothing, self._right, self._pairs = smoothing, 0, 0

    def __call__(self, model: GPT, batch: HeadBatch) -> tuple[Tensor, int]:
        """The sum over pairs, and how many they are."""
        chosen, rejected = outputs(model, batch)[:, 0].chunk(2)
        self._right += int((chosen > rejected).sum())
        self._pairs += len(chosen)
        losses = -F.logsigmoid(chosen - rejected) * (1 - self.smoothing)
        if self.smoothing:
            losses = losses - F.logsigmoid(rejected - chosen) * self.smoothing
        return losses.sum(), len(chosen)

    def figures(self) -> dict[str, float]:
        """Share of pairs in the right order; then forgotten."""
        right, pairs = self._right, self._pairs
        self._right = self._pairs = 0
        return {"accuracy": right / pairs} if pairs else {}


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids (r, n), zeros behind shorter rows, and lengths (r,)."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for to, row in zip(ids, rows, strict=True):
        to[: len(row)] = torch.tensor(row)
    return ids, lengths
