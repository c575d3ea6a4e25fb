"""One writer a collection, across threads and processes.

The lock is the operating system's (`flock`, on Windows `LockFile`), on a file beside the database: the kernel
lets go of it when its holder dies, so a killed ingest never leaves a lock behind. The file's content only
says who holds it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ingest.errors import CollectionLocked, StorageFull, UnknownCollection

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FILE_NAME = "writer.lock"
_POLL_S = 0.05


class WriterLock:
    """Re-entrant for the thread that holds it; everyone else waits, or is told who does."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        self._thread = threading.RLock()
        self._depth = 0
        self._descriptor = -1

    @contextmanager
    def hold(self, doing: str, wait_s: float) -> Iterator[None]:
        """Hold the lock for the block.

        Raises:
            CollectionLocked: still held after `wait_s`; the message names process, host and since when.
            UnknownCollection: its folder is gone.
            StorageFull: the lock file cannot be written.
        """
        deadline = time.monotonic() + wait_s
        if not self._thread.acquire(timeout=max(wait_s, 0.0)):
            raise self._locked()
        try:
            if self._depth == 0:
                self._acquire(doing, deadline)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._release()
        finally:
            self._thread.release()

    def holder(self) -> str | None:
        """Who holds the lock right now, in words; None where nobody does."""
        try:
            descriptor = os.open(self._file, os.O_RDONLY)
        except OSError:
            return None
        try:
            if _try_lock(descriptor, shared=True):
                _unlock(descriptor)
                return None
        finally:
            os.close(descriptor)
        return self._described()

    def _described(self) -> str:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return (
                f"{content['doing']}: process {content['pid']} on {content['host']}, since {content['since']}"
            )
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _locked(self) -> CollectionLocked:
        return CollectionLocked(
            f"{self._file.parent} is being written ({self._described()}). Wait until that is done, or end "
            "it, and repeat."
        )

    def _acquire(self, doing: str, deadline: float) -> None:
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError as error:
            raise UnknownCollection(f"There is no collection in {self._file.parent} (any more).") from error
        except OSError as error:
            raise StorageFull(
                f"{self._file} cannot be written: {error.strerror}. Check the folder's permissions."
            ) from error
        try:
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise self._locked()
                time.sleep(_POLL_S)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            content = {"pid": os.getpid(), "host": platform.node(), "since": since, "doing": doing}
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(content).encode())
            except OSError:
                pass  # a full disk must not keep a `forget` from freeing space; the holder is merely nameless
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _release(self) -> None:
        _unlock(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1


if sys.platform == "win32":
    _FAR = 1 << 30  # beyond the content: Windows forbids reading a locked range

    def _try_lock(descriptor: int, shared: bool = False) -> bool:  # noqa: ARG001
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(descriptor: int, shared: bool = False) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
