"""Our own models in memory: loaded when they are asked for, the least recently asked dropped.

Invariants:

* At most `most` models are held, and room is made before the next is loaded: the peak is what `most` take.
* One model is loaded at a time. A question that is being answered keeps its model until it is answered.
* A model that was dropped has lost its adapters, too; they are attached again when they are asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from model.memory import give_back
from service.generators import Generator


class Resident(Protocol):
    """A loaded model with the adapters attached to it."""

    @property
    def adapters(self) -> Sequence[str]:
        """Names of the attached adapters."""
        ...

    def attach(self, adapter: str) -> None:
        """Attach an installed adapter; one that is attached stays as it is.

        Raises:
            UnknownModel: no such adapter.
            AdapterError: it is for another base, or damaged.
        """
        ...

    def detach(self, adapter: str) -> None:
        """Let go of an adapter. Raises AdapterError where it is not attached."""
        ...

    def generator(self, adapter: str | None) -> Generator:
        """What answers with this attached adapter, or without any."""
        ...


class Residents:
    """Loaded models by name."""

    def __init__(self, load: Callable[[str], Resident], most: int) -> None:
        self._load, self.most = load, most
        self._held: OrderedDict[str, Resident] = OrderedDict()  # the least recently asked first
        self._lock = threading.RLock()

    @property
    def names(self) -> list[str]:
        """What is loaded."""
        return list(self._held)

    def peek(self, name: str) -> Resident | None:
        """The model if it is loaded; that does not count as asking for it."""
        return self._held.get(name)

    def get(self, name: str) -> Resident:
        """The model of that name, loaded now where it is not. Blocks; not for the event loop.

        Raises:
            WeightsMissing, UnknownModel, ModelError: it cannot be loaded.
        """
        with self._lock:
            if name not in self._held:
                while len(self._held) >= self.most:
                    self._drop(next(iter(self._held)))
                self._held[name] = self._load(name)
            self._held.move_to_end(name)
            return self._held[name]

    def drop(self, name: str) -> bool:
        """Let go of a model; False where it was not loaded."""
        with self._lock:
            return name in self._held and self._drop(name)

    def _drop(self, name: str) -> bool:
        del self._held[name]
        give_back()
        return True
