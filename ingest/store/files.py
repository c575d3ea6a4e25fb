"""Files that are there whole or not at all, also after a power cut.

A file is written under another name, synced, renamed, and its folder synced after that: the steps that POSIX
asks for (fsync(2), rename(2)). Every file that the index writes beside SQLite's goes through `publish`; an
error at any step leaves what was there before. A failed fsync is never tried again on the same file: the
kernel may have dropped the pages and would report success.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ingest.errors import StorageFull

#: Takes the next bytes of a file.
Write = Callable[[bytes], None]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut; where folders cannot be synced (Windows), nothing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_again(file: Path) -> None:
    """Write a file's bytes over themselves and sync it; what a failed sync left in memory only is kept so.

    After a failed sync the kernel may hold pages for clean that never reached the disk: they are read, and a
    second sync says that all is well, until the power fails. Nobody else may write to the file meanwhile.

    Raises:
        StorageFull: the disk still refuses.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            at = 0
            while data := os.read(descriptor, 1 << 20):
                os.lseek(descriptor, at, os.SEEK_SET)
                at += os.write(descriptor, data)
                os.lseek(descriptor, at, os.SEEK_SET)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageFull(
            f"{file} cannot be written: {error.strerror or error}. Nothing was changed; check the disk."
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner enters, and those above it that are missing; their names last.

    Raises:
        StorageFull: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)
    except OSError as error:
        raise StorageFull(
            f"{folder} cannot be made: {error.strerror or error}. Check the space on its disk and the "
            "permissions of the folder above it."
        ) from error


def publish(target: Path, fill: Callable[[Write], None]) -> None:
    """Write `target` (for its owner only) with what `fill` hands to the function it is given.

    Raises:
        StorageFull: a step was refused; the file that was there before still is, and no other.
    """
    new = target.with_name(f".{target.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:

            def write(data: bytes) -> None:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]

            fill(write)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageFull(
                f"{target} cannot be written: {error.strerror or error}. Nothing of it was kept; check the "
                "space on its disk and the permissions of its folder."
            ) from error
        raise
