"""The one training loop; it knows neither what is trained nor on what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from model.data.batches import Batch


class Batches(Protocol):
    """Micro-batches of a set, in an order that its own seed and the epoch alone decide.

    The loop asks for the same epoch again when it resumes: `batches(e, s)` must yield exactly what `batches(e)` yields
    from its s-th micro-batch on, in another process too. It never asks for more than `steps(e)`.
    Several processes each iterate the same order and take turns, so an implementation knows nothing of ranks; a
    micro-batch should therefore be built when it is reached (in `__next__`), not before.
    """

    def steps(self, epoch: int) -> int:
        """How many micro-batches epoch 0, 1, ... has; at least 1."""

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The epoch's micro-batches, from the `start_step`-th on."""
