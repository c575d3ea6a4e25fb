"""Following folders: a run after each burst of changes, for as long as nobody stops it.

What has changed is not taken from the operating system's events, which can be lost or come too early: they
only say when to look. Each look is an ordinary run with `sync`, which is cheap where nothing changed. So a
follower that was stopped, overrun or cut off from its disk finds everything at its next look.

A run that fails for a reason that can pass (a full disk, another writer, an embedder that is busy) is
repeated after a while, with growing waits; what cannot mend itself ends the following.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import watchfiles

from ingest.errors import IndexDamaged, IndexMismatch, IngestError, SchemaTooNew, UnknownCollection
from ingest.walk import SKIPPED_FOLDERS, is_hidden

#: A burst has ended when nothing changed for so long; a burst that does not end is looked at after a while.
QUIET_MS, LONGEST_BURST_MS = 400, 5000
#: How often to look whether the folders are still the same (a disk that was taken out has no events).
TICK_MS = 1000
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
_FINAL = (IndexDamaged, IndexMismatch, SchemaTooNew, UnknownCollection)


def follow(
    folders: Sequence[Path],
    home: Path,
    look: Callable[[], None],
    *,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
) -> None:
    """Call `look` now and after each burst of changes below `folders`, until `stop` or Ctrl-C.

    Args:
        folders: absolute.
        home: the data folder; what changes in it is our own doing.
        look: brings the collection up to date.
        say: told once of each error that is waited out.
        stop: ends the following.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        IndexDamaged, IndexMismatch, SchemaTooNew, UnknownCollection: what waiting does not mend.
    """
    stop = stop or threading.Event()
    due = _Due(look, say)
    while not stop.is_set():
        places = _places(folders)
        there = [folder for folder, place in zip(folders, places, strict=True) if place]
        if not there:
            stop.wait(TICK_MS / 1000)
            continue
        due.since_now()
        try:
            for changes in watchfiles.watch(
                *there,
                watch_filter=lambda _, path: not _is_noise(Path(path), folders, home),
                debounce=LONGEST_BURST_MS,
                step=QUIET_MS,
                rust_timeout=TICK_MS,
                yield_on_timeout=True,
                stop_event=stop,
                ignore_permission_denied=True,
            ):
                if changes:
                    due.since_now()
                due.look()
                if _places(folders) != places:
                    break  # a folder was put in another's place: watch that one
        except FileNotFoundError:
            pass  # gone between the two lines above


class _Due:
    """Whether there is something to look at, and when it may be tried."""

    def __init__(self, look: Callable[[], None], say: Callable[[str], None]) -> None:
        self._look = look
        self._say = say
        self._is_due = False
        self._not_before = 0.0
        self._wait_s = FIRST_WAIT_S
        self._said = ""

    def since_now(self) -> None:
        self._is_due = True

    def look(self) -> None:
        if not self._is_due or time.monotonic() < self._not_before:
            return
        try:
            self._look()
        except _FINAL:
            raise
        except IngestError as error:
            if str(error) != self._said:
                self._say(f"{error} Trying again.")
            self._said = str(error)
            self._not_before = time.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        else:
            self._is_due = False
            self._wait_s, self._said = FIRST_WAIT_S, ""


def _places(folders: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Which folder stands at each path."""
    found: list[tuple[int, int] | None] = []
    for folder in folders:
        try:
            status = folder.stat()
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append(None)
    return found


def _is_noise(path: Path, folders: Sequence[Path], home: Path) -> bool:
    """Whether a change cannot matter: the walk passes such files over."""
    if path.is_relative_to(home):
        return True
    inside = [path.relative_to(folder).parts for folder in folders if path.is_relative_to(folder)]
    return bool(inside) and all(
        any(is_hidden(part) or part in SKIPPED_FOLDERS for part in parts) for parts in inside
    )
