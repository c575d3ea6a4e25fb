"""A disk that records every operation, fails at a chosen one, and shows what a power cut would have left.

Two doors lead to a disk, and both are watched: Python's `os` functions, and SQLite's VFS (sqlite.org/vfs.html),
a wrapper of which is registered through ctypes and becomes the default one. Reading is left alone.

What a power cut leaves, by the rules of POSIX and an ordered metadata journal: of writes that were not synced,
any may be missing or garbled; names (created, renamed, removed) last in their order, as far as the last sync
of a folder at least; syncing a file does not make its name last. After a sync that failed, what it should have
written is lost for good, even if a second one reports success (that is how Linux does it).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EIO, ENOSPC = errno.EIO, errno.ENOSPC
#: What SQLite's VFS says for an operation that fails.
_CODES = {"write": 778, "sync": 1034, "truncate": 1546, "unlink": 2570, "create": 14}
_SQLITE_FULL = 13


class _Methods(Structure):
    _fields_ = [("version", c_int), *((f"m{n}", c_void_p) for n in range(18))]


class _File(Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class _Vfs(Structure):
    _fields_ = [
        ("version", c_int),
        ("size", c_int),
        ("longest", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        *((f"f{n}", c_void_p) for n in range(14)),
    ]


#: A connection that a failed test left open calls these when it is collected.
_ALIVE: list[Any] = []

_CLOSE, _WRITE, _TRUNCATE, _SYNC = 0, 2, 3, 4  # where they stand among the methods
_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(_File), c_int, POINTER(c_int))
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)


def sqlite_library() -> ctypes.CDLL | None:
    """The very library that Python's sqlite3 uses; None where it is linked in and cannot be reached."""
    import _sqlite3

    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_sqlite3.__file__)  # its symbols, and those of what it is linked with
        library.sqlite3_libversion.restype = c_char_p
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        if library.sqlite3_libversion().decode() == sqlite3.sqlite_version:
            return library
    return None


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
        stack.enter_context(_sqlite(disk))
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


@contextlib.contextmanager
def _sqlite(disk: Disk) -> Iterator[None]:
    library = sqlite_library()
    assert library is not None
    base = library.sqlite3_vfs_find(None)
    ours = _Vfs()
    ctypes.memmove(byref(ours), base, ctypes.sizeof(_Vfs))
    ours.name, ours.next = b"watched", None
    base_open, base_delete = _Open(base.contents.open), _Delete(base.contents.delete)
    tables: dict[int, tuple[_Methods, tuple[Any, ...]]] = {}  # one copy a table of the base
    paths: dict[int, Path] = {}
    files: dict[int, tuple[Any, ...]] = {}

    def failure(kind: str, code: int) -> int:
        return _SQLITE_FULL if code == ENOSPC and kind == "write" else _CODES[kind]

    def opened(vfs: int, name: int, file: Any, flags: int, out: Any) -> int:
        path = Path(os.fsdecode(ctypes.string_at(name))) if name else None
        if path is not None and not path.exists() and (code := disk.does("create", path)):
            return failure("create", code)
        rc: int = base_open(vfs, name, file, flags, out)
        if rc == 0 and path is not None:
            address = ctypes.addressof(file.contents)
            original = ctypes.addressof(file.contents.methods.contents)
            if original not in tables:
                tables[original] = table_of(file.contents.methods.contents)
            paths[address] = path
            files[address] = tables[original][1]
            file.contents.methods = ctypes.pointer(tables[original][0])
        return rc

    def table_of(methods: _Methods) -> tuple[_Methods, tuple[Any, ...]]:
        copy = _Methods()
        ctypes.memmove(byref(copy), byref(methods), ctypes.sizeof(_Methods))
        originals = (_Close(methods.m0), _Write(methods.m2), _Truncate(methods.m3))
        for at, fake in ((_CLOSE, closed), (_WRITE, written), (_TRUNCATE, truncated), (_SYNC, synced)):
            setattr(copy, f"m{at}", ctypes.cast(fake, c_void_p))
        return copy, originals

    def delete(vfs: int, name: bytes, sync: int) -> int:
        path = Path(os.fsdecode(name))
        if path.exists() and (code := disk.does("unlink", path, bool(sync))):
            return failure("unlink", code)
        return int(base_delete(vfs, name, sync))

    @_Close
    def closed(file: int) -> int:
        paths.pop(file, None)
        return int(files.pop(file)[0](file))

    @_Write
    def written(file: int, data: int, size: int, at: int) -> int:
        if code := disk.does("write", paths[file], at, ctypes.string_at(data, size)):
            return failure("write", code)
        return int(files[file][1](file, data, size, at))

    @_Truncate
    def truncated(file: int, size: int) -> int:
        if code := disk.does("truncate", paths[file], size):
            return failure("truncate", code)
        return int(files[file][2](file, size))

    @_Sync
    def synced(file: int, flags: int) -> int:
        code = disk.does("sync", paths[file], True)
        return (
            failure("sync", code) if code else 0
        )  # the model decides what lasts: the disk need not be waited for

    held = _Open(opened), _Delete(delete)
    _ALIVE.extend((ours, held, tables, closed, written, truncated, synced))
    ours.open, ours.delete = (ctypes.cast(f, c_void_p) for f in held)
    library.sqlite3_vfs_register(byref(ours), 1)
    try:
        yield
    finally:
        library.sqlite3_vfs_unregister(byref(ours))
        library.sqlite3_vfs_register(base, 1)
