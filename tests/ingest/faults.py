"""A disk that records every operation, fails at a chosen one, and shows what a power cut would have left.

Two doors lead to a disk, and both are watched: Python's `os` functions, and SQLite's VFS
(`sqlite_door`). Reading is left alone.

What a power cut leaves, by the rules of POSIX and an ordered metadata journal: of writes that were not synced,
any may be missing or garbled; names (created, renamed, removed) last in their order, as far as the last sync
of a folder at least; syncing a file does not make its name last. After a sync that failed, what it should have
written is lost for good, even if a second one reports success (that is how Linux does it).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ingest.sqlite_door import sqlite_door

EIO, ENOSPC = errno.EIO, errno.ENOSPC


@dataclass
class Fault:
    """Which operation fails: the n-th one of those kinds, once or from there on."""

    at: int
    code: int = EIO
    for_ever: bool = False
    kinds: tuple[str, ...] = ("create", "mkdir", "write", "truncate", "sync", "syncdir", "rename", "unlink")


@dataclass
class Disk:
    """Everything that happens below `root` while it is watched."""

    root: Path
    log: list[tuple[Any, ...]] = field(default_factory=list)
    fault: Fault | None = None
    fired: int = 0
    _seen: int = 0

    def __post_init__(self) -> None:
        self.before = {
            f: f.read_bytes() for f in self.root.glob("**/*") if f.is_file() and f.suffix != ".lock"
        }
        self.before = {f: b for f, b in self.before.items() if not f.name.endswith("-shm")}
        self.folders = {f for f in self.root.glob("**/*") if f.is_dir()}

    def mark(self, what: object) -> None:
        """Note a moment of the scenario: an acknowledgement."""
        self.log.append(("mark", what))

    def arm(self, fault: Fault | None) -> None:
        """Let an operation fail, counted from now."""
        self.fault, self._seen, self.fired = fault, 0, 0

    def does(self, kind: str, path: Path, *rest: Any) -> int:
        """Note an operation that is about to happen; 0, or the error number that it shall fail with."""
        if (self.root not in path.parents and path != self.root) or path.suffix == ".lock":
            return 0
        if self.fault is not None and kind in self.fault.kinds:
            self._seen += 1
            if self._seen == self.fault.at or (self.fault.for_ever and self._seen > self.fault.at):
                self.fired += 1
                if kind == "sync":
                    self.log.append(("lost", path))
                return self.fault.code
        self.log.append((kind, path, *rest))
        return 0

    # What is left of it

    def left(self, upto: int, draw: random.Random | None, garble: float = 0.0) -> dict[Path, bytes | None]:
        """Files (and folders: None) after a power cut behind the first `upto` entries of the log.

        Without `draw` the program was killed and the machine goes on: everything is there. With one, it
        decides about each thing that was not synced.
        """
        return _Replay(self).run(self.log[:upto], draw, garble)

    def lay(self, image: dict[Path, bytes | None], target: Path) -> None:
        """Write such files below another folder."""
        for path, content in sorted(image.items()):
            place = target / path.relative_to(self.root)
            if content is None:
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
                place.chmod(0o600)


@dataclass
class _Inode:
    synced: bytearray
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, data) or (size, None)
    lost: list[tuple[int, bytes | None]] = field(default_factory=list)
    new: bool = True


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


class _Replay:
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.inodes = {path: _Inode(bytearray(data), new=False) for path, data in disk.before.items()}
        self.first: dict[Path, _Inode | None] = dict(self.inodes) | dict.fromkeys(disk.folders)
        self.names: list[tuple[Any, ...]] = []  # metadata journal
        self.durable = 0

    def run(
        self, log: list[tuple[Any, ...]], draw: random.Random | None, garble: float
    ) -> dict[Path, bytes | None]:
        for kind, path, *rest in log:
            getattr(self, f"_{kind}")(path, *rest)
        upto = len(self.names) if draw is None else draw.randint(self.durable, len(self.names))
        there = dict(self.first)
        for change, path, *rest in self.names[:upto]:
            if change == "add":
                there[path] = rest[0]
            elif change == "move":
                for below in [p for p in there if p == path or path in p.parents]:
                    there[rest[0] / below.relative_to(path)] = there.pop(below)
            else:
                there.pop(path, None)
        return {
            path: None if inode is None else self._content(inode, draw, garble)
            for path, inode in there.items()
            if path != self.disk.root
        }

    def _content(self, inode: _Inode, draw: random.Random | None, garble: float) -> bytes:
        content = bytearray(inode.synced)
        keep_all = draw is None
        share = 1.0 if draw is None else draw.choice((0.0, 0.5, 1.0))
        for at, data in inode.lost if keep_all else ():
            _apply(content, at, data)
        for at, data in inode.pending:
            if keep_all or (draw is not None and draw.random() < share):
                if data is not None and draw is not None and draw.random() < garble:
                    data = draw.randbytes(len(data))  # noqa: PLW2901
                _apply(content, at, data)
        return bytes(content)

    def _mark(self, *_: Any) -> None: ...

    def _create(self, path: Path) -> None:
        if path not in self.inodes:
            self.inodes[path] = _Inode(bytearray())
            self.names.append(("add", path, self.inodes[path]))

    def _mkdir(self, path: Path) -> None:
        self.names.append(("add", path, None))

    def _write(self, path: Path, at: int, data: bytes) -> None:
        self.inodes[path].pending.append((at, data))

    def _truncate(self, path: Path, size: int) -> None:
        self.inodes[path].pending.append((size, None))

    def _sync(self, path: Path, with_name: bool) -> None:
        inode = self.inodes[path]
        for at, data in inode.pending:
            _apply(inode.synced, at, data)
        inode.pending.clear()
        if with_name and inode.new:  # SQLite syncs the folder of a file that it made
            self.durable = len(self.names)
            inode.new = False

    def _lost(self, path: Path) -> None:
        inode = self.inodes[path]
        inode.lost += inode.pending
        inode.pending.clear()

    def _syncdir(self, path: Path) -> None:
        self.durable = len(self.names)

    def _rename(self, path: Path, target: Path) -> None:
        for below in [p for p in self.inodes if p == path or path in p.parents]:
            self.inodes[target / below.relative_to(path)] = self.inodes.pop(below)
        self.names.append(("move", path, target))

    def _unlink(self, path: Path, synced: bool = False) -> None:
        self.inodes.pop(path, None)
        self.names.append(("drop", path))
        if synced:
            self.durable = len(self.names)


@contextlib.contextmanager
def watched(disk: Disk) -> Iterator[Disk]:
    """Every operation below the disk's root is recorded and may fail, whoever does it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_python(disk))
        stack.enter_context(sqlite_door(disk))
        yield disk


@contextlib.contextmanager
def _python(disk: Disk) -> Iterator[None]:
    real = {
        name: getattr(os, name) for name in ("open", "close", "write", "fsync", "replace", "rename", "mkdir")
    }
    real |= {"unlink": os.unlink, "remove": os.remove, "fdatasync": os.fdatasync, "ftruncate": os.ftruncate}
    known: dict[int, Path] = {}

    def refuse(kind: str, path: Any, *rest: Any) -> None:
        if code := disk.does(kind, Path(os.fsdecode(path)), *rest):
            raise OSError(code, os.strerror(code), str(path))

    def open_(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        place = Path(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else None
        if place is not None and flags & os.O_CREAT:
            if not place.exists():
                refuse("create", place)
            elif flags & os.O_TRUNC:
                refuse("truncate", place, 0)
        descriptor: int = real["open"](path, flags, mode, **more)
        if place is not None:
            known[descriptor] = place
        return descriptor

    def close(descriptor: int) -> None:
        known.pop(descriptor, None)
        real["close"](descriptor)

    def write(descriptor: int, data: Any) -> int:
        if descriptor in known:
            at = os.lseek(descriptor, 0, os.SEEK_CUR)
            refuse("write", known[descriptor], at, bytes(data))
        return int(real["write"](descriptor, data))

    def sync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if number in known:
            path = known[number]
            refuse(*(("syncdir", path) if path.is_dir() else ("sync", path, False)))
        else:
            real["fsync"](descriptor)

    def ftruncate(descriptor: int, size: int) -> None:
        if descriptor in known:
            refuse("truncate", known[descriptor], size)
        real["ftruncate"](descriptor, size)

    def move(name: str) -> Callable[..., None]:
        def moved(source: Any, target: Any, **more: Any) -> None:
            refuse("rename", source, Path(os.fsdecode(target)))
            real[name](source, target, **more)

        return moved

    def mkdir(path: Any, mode: int = 0o777, **more: Any) -> None:
        if not os.path.isdir(path):  # noqa: PTH112
            refuse("mkdir", path)
        real["mkdir"](path, mode, **more)

    def unlink(path: Any, **more: Any) -> None:
        if os.path.lexists(path):
            refuse("unlink", path)
        real["unlink"](path, **more)

    fakes = {"open": open_, "close": close, "write": write, "fsync": sync, "fdatasync": sync}
    fakes |= {"ftruncate": ftruncate, "replace": move("replace"), "rename": move("rename")}
    fakes |= {"mkdir": mkdir, "unlink": unlink, "remove": unlink}
    for name, fake in fakes.items():
        setattr(os, name, fake)
    try:
        yield
    finally:
        for name in fakes:
            setattr(os, name, real[name])
