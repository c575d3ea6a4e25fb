"""Live at once, ready when index and models are loaded, each of them in a thread of its own.

A part that failed because another server is away is tried again, after a pause that doubles, until that
server is back: nothing has to be restarted. Meanwhile whoever needs the part gets the error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Literal

from ingest.errors import EmbedderAway, StoreUnavailable
from model.memory import give_back
from service.errors import NotReady

logger = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed"]

#: What ends by itself.
PASSING = (StoreUnavailable, EmbedderAway)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0


class Readiness:
    """The parts that must be loaded before questions are answered."""

    def __init__(self, loaders: Mapping[str, Callable[[], None]]) -> None:
        self._loaders = dict(loaders)
        self._errors: dict[str, Exception] = {}
        self._done = {name: threading.Event() for name in loaders}
        self._closed = threading.Event()

    def start(self) -> None:
        """Load everything, at the same time."""
        self._closed.clear()
        for name in self._loaders:
            threading.Thread(
                target=self._load, args=(name,), name=f"lorebase-load-{name}", daemon=True
            ).start()

    def close(self) -> None:
        """Try nothing again."""
        self._closed.set()

    def _load(self, name: str) -> None:
        pause = FIRST_PAUSE_S
        while self._fails(name) and not self._closed.wait(pause):
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _fails(self, name: str) -> bool:
        """Load a part; whether that failed for a reason that may be gone later."""
        try:
            self._loaders[name]()
        except Exception as error:
            logger.info("%s: %s", name, error)  # whoever asks gets the error itself
            self._errors[name] = error
        else:
            self._errors.pop(name, None)
        give_back()
        self._done[name].set()
        return isinstance(self._errors.get(name), PASSING)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until every part is loaded or has failed; False where the time ran out."""
        return all(done.wait(timeout_s) for done in self._done.values())

    def settled(self, name: str) -> None:
        """Pass if a part is ready or has failed: what is asked for does not stand or fall with it.

        Raises:
            NotReady: it is still being loaded.
        """
        if not self._done[name].is_set():
            raise NotReady(f"{name} is still being loaded; try again in a few seconds, /readyz tells when")

    def require(self, *names: str) -> None:
        """Pass if these parts are ready.

        Raises:
            NotReady: one is still being loaded.
            Exception: one failed to load, with the error it failed with.
        """
        for name in names:
            self.settled(name)
            if error := self._errors.get(name):
                raise error

    @property
    def state(self) -> State:
        """Of the whole: failed if one part is, loading if another still is."""
        parts = set(self.parts().values())
        return "failed" if parts - {"ready", "loading"} else "loading" if "loading" in parts else "ready"

    def parts(self) -> dict[str, str]:
        """Of each part: ready, loading, or its error's message; what `require` says of it at that moment."""
        # "done" first: an error is noted before it, and until then whoever asks is told "loading".
        done = {name: event.is_set() for name, event in self._done.items()}
        errors = dict(self._errors)  # one may go while this is told
        return {
            name: "loading" if not done[name] else str(errors[name]) if name in errors else "ready"
            for name in done
        }
