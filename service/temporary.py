"""Folders in the data folder that are needed for a moment, and go even where their process was killed.

Each holds a file that its process keeps locked; the operating system lets go of it when the process ends. So
whoever makes the next folder of that kind can tell which ones are nobody's any more, though several services
may share one data folder, and removes them. A folder without such a file is one that is being made just now,
or an old one; the clock decides.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_NAME = ".in-use"
#: Nobody takes so long between making a folder and locking the file in it.
_MAKING_S = 3600.0
#: Folders that others may sweep away from under one that is being made.
_TRIES = 100


class Temporary:
    """A new folder; `remove` it when it is no longer needed."""

    def __init__(self, parent: Path, prefix: str) -> None:
        """Make it, and remove those of this kind that were left behind. Raises OSError."""
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent, prefix)
        for left in reversed(range(_TRIES)):
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            # Not of one thread: a reply is sent by one and cleaned up after by another.
            self._lock = FileLock(self.path / LOCK_NAME, thread_local=False)
            try:
                self._lock.acquire(timeout=0)
                return
            except Timeout:  # who sweeps took the file between its making and its locking, and removes it
                if not left:
                    raise

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        try:
            if not (folder / LOCK_NAME).exists():
                if time.time() - folder.stat().st_mtime > _MAKING_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with FileLock(folder / LOCK_NAME, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # in use, or somebody else is removing it
            continue
