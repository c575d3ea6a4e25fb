"""A folder of files that appears whole or not at all, with a manifest that shows later damage.

A new folder is written beside its place, every file and the folder itself are flushed to the disk, and then
it is renamed into place; an existing one is first moved aside and removed last. A file lock on `.NAME.lock`
beside the folder keeps two writers apart, so whoever holds it knows that any `.NAME.new` or `.NAME.old` it
finds belongs to a dead writer: the first is removed, the second is moved back if the crash fell between the
two renames. So after a kill at any instant the folder is the old one or the new one.

`manifest.json` lists every file with its size and SHA-256 and says where the files came from. Sizes are
checked wherever a folder is listed, hashes only on request (`model inspect --verify`): a start must not
read 100 MB twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from model.errors import CheckpointError

MANIFEST = "manifest.json"
LOCK_TIMEOUT_S = 600.0


@contextmanager
def replaced(
    target: Path, origin: Mapping[str, Any], lock_timeout_s: float = LOCK_TIMEOUT_S
) -> Iterator[Path]:
    """An empty folder to fill; when the block ends without an error it takes the place of `target`.

    The manifest is written then. `origin` is JSON that it keeps beside the hashes (name, source, licence
    and the like).

    Raises:
        CheckpointError: another process is writing the same folder, or the disk refused.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target, lock_timeout_s):
            _clear_leftovers(target)
            new = _beside(target, "new")
            new.mkdir()
            try:
                yield new
                _seal(new, origin)
                _swap(new, target)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"{target} could not be written: {error}. Check free space and permissions."
        ) from error


def write_file(file: Path, data: bytes) -> None:
    """A file on its own, whole or not at all; what was there before stays until then. Raises OSError."""
    new = file.with_name(f".{file.name}.new")
    with new.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)


def recover(target: Path) -> None:
    """Put back a folder whose writer died between moving the old one aside and renaming the new one."""
    if not target.exists() and _beside(target, "old").is_dir():
        with _lock(target, LOCK_TIMEOUT_S):
            _clear_leftovers(target)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest, or None where the folder has none (it was put there by hand)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} cannot be read: {error}. Remove {folder} and pull again."
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{folder / MANIFEST} is not a manifest. Remove {folder} and pull again.")
    return manifest


def damage(folder: Path, hashes: bool = False) -> list[str]:
    """What is wrong with the files, a line each: missing, another size or, if asked, another SHA-256."""
    manifest = read_manifest(folder)
    found = []
    for name, entry in (manifest["files"] if manifest else {}).items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            found.append(f"{name} is missing")
        elif size != entry.get("bytes"):
            found.append(f"{name} has {size} bytes, the manifest says {entry.get('bytes')}")
        elif hashes and (actual := sha256_file(path)) != entry.get("sha256"):
            found.append(f"{name} has SHA-256 {actual}, the manifest says {entry.get('sha256')}")
    return found


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(target: Path, role: str) -> Path:
    return target.parent / f".{target.name}.{role}"


@contextmanager
def _lock(target: Path, timeout_s: float) -> Iterator[None]:
    try:
        with FileLock(_beside(target, "lock"), timeout=timeout_s):
            yield
    except Timeout as error:
        raise CheckpointError(
            f"{target} is being written by another process. Try again when it has finished."
        ) from error


def _clear_leftovers(target: Path) -> None:
    """Called under the lock: what is found beside the target belongs to a writer that died."""
    new, old = _beside(target, "new"), _beside(target, "old")
    if old.is_dir():
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
    if new.is_dir():
        shutil.rmtree(new)


def _seal(folder: Path, origin: Mapping[str, Any]) -> None:
    """Write the manifest and flush every file and folder below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(dict(origin) | {"files": entries}, indent=1) + "\n", encoding="utf-8")
    for path in (*files, manifest, *(p for p in folder.rglob("*") if p.is_dir()), folder):
        _flush(path)


def _swap(new: Path, target: Path) -> None:
    old = _beside(target, "old")
    if target.exists():
        target.rename(old)
    new.rename(target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Flush a file or folder; Windows cannot open a folder and needs no such flush."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stem(path: str, otherwise: str) -> str:
    """A name for what is made of a file: of its own name the letters and digits, else `otherwise`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).name.split(".")[0]).strip("-._")[:60] or otherwise
