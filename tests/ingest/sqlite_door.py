"""SQLite's door to the disk: its VFS (sqlite.org/vfs.html), wrapped through ctypes so that a `Disk` sees every operation."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sqlite3
from collections.abc import Iterator
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.ingest.faults import Disk

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


@contextlib.contextmanager
def sqlite_door(disk: Disk) -> Iterator[None]:
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
        return _SQLITE_FULL if code == errno.ENOSPC and kind == "write" else _CODES[kind]

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
