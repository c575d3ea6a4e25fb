"""Snapshots of the approximate index: files in `index/` beside the database, each with a manifest in it.

The manifest (hash, size, rows, dimension, embedder, generation) is a row of table `snapshots`: SQLite's
commit stays the only commit point, and a database that was restored from a backup does not know the files of
the history it left. Order of a publish: the file under a new name, whole and synced (`ingest.store.files`),
then the row; files without a row are rubbish and go with the next publish, except the one before, which a
reader may be about to open.

Nothing reaches FAISS before its hash was compared: FAISS has no checksum of its own, and a file made for the
purpose can overflow its reader.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sqlite3
from dataclasses import astuple, dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

from ingest.errors import IndexDamaged
from ingest.store import files
from ingest.store.approximate import LEAST_RECALL, Approximate, Built, stored_ids
from ingest.store.files import Write, publish
from ingest.store.schema import checksum
from ingest.store.vectors import Ids

FOLDER = "index"
_SUFFIX = ".faiss"
_NAME = re.compile(r"\d+-[0-9a-f]{16}" + re.escape(_SUFFIX))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a snapshot; the fields are the columns."""

    name: str  #: of the file
    sha256: str
    size: int
    rows: int
    dimension: int
    embedder_id: str
    generation: int  #: whose vectors it holds
    lists: int
    probes: int
    recall: float  #: as measured when it was built
    made_at: str

    @property
    def accepted(self) -> bool:
        """Whether it may serve; one that may not has no file and only says that building was tried."""
        return self.recall >= LEAST_RECALL

    def file(self, folder: Path) -> Path:
        """Its file in the collection's folder."""
        return folder / FOLDER / self.name


_COLUMNS = ", ".join(field.name for field in fields_of(Manifest))


def make_folder(folder: Path) -> Path:
    """The folder of a collection's snapshots, made where it is missing. Raises StorageFull."""
    files.make_folder(folder / FOLDER)
    return folder / FOLDER


def write(folder: Path, built: Built, *, embedder_id: str, generation: int, made_at: str) -> Manifest:
    """Write a new index into the collection's folder; it serves once its manifest is registered.

    Raises:
        StorageFull: nothing was kept.
    """
    name = f"{generation}-{secrets.token_hex(8)}{_SUFFIX}"
    digest, size = hashlib.sha256(), 0
    accepted = built.recall >= LEAST_RECALL

    def fill(write: Write) -> None:
        import faiss

        def take(data: bytes) -> None:
            nonlocal size
            digest.update(data)
            size += len(data)
            write(data)

        sink = faiss.PyCallbackIOWriter(take, 1 << 20)  # type: ignore[attr-defined, unused-ignore]
        faiss.write_index(built.index, sink)

    if accepted:
        publish(folder / FOLDER / name, fill)
    return Manifest(
        name=name,
        sha256=digest.hexdigest(),
        size=size,
        rows=int(built.index.ntotal),
        dimension=int(built.index.d),
        embedder_id=embedder_id,
        generation=generation,
        lists=int(built.index.nlist),
        probes=built.probes,
        recall=built.recall,
        made_at=made_at,
    )


def register(connection: sqlite3.Connection, manifest: Manifest) -> None:
    """Make it the collection's snapshot; inside a write transaction."""
    values = astuple(manifest)
    marks = ", ".join("?" * (len(values) + 1))
    connection.execute("DELETE FROM snapshots")
    connection.execute(
        f"INSERT INTO snapshots ({_COLUMNS}, checksum) VALUES ({marks})", (*values, checksum(*values))
    )


def registered(connection: sqlite3.Connection, file: Path) -> Manifest | None:
    """The collection's snapshot, or None.

    Raises:
        IndexDamaged: its row is not what was written.
    """
    row = connection.execute(f"SELECT {_COLUMNS}, checksum FROM snapshots").fetchone()
    if row is None:
        return None
    *values, stored = row
    if checksum(*values) != stored or not _NAME.fullmatch(str(row[0])):  # nor a path out of the folder
        raise IndexDamaged(f"the manifest of index snapshot {row[0]!r} in {file} is not what was written")
    return Manifest(*values)


def registered_name(connection: sqlite3.Connection) -> str | None:
    """The name of the collection's snapshot, whether or not its manifest is whole."""
    row = connection.execute("SELECT name FROM snapshots").fetchone()
    return None if row is None else str(row[0])


def collect(folder: Path, keep: set[str]) -> None:
    """Remove what is left of other snapshots."""
    for file in (folder / FOLDER).glob(f"*{_SUFFIX}*"):
        if file.name not in keep:
            with contextlib.suppress(OSError):
                file.unlink()


def set_aside(folder: Path, manifest: Manifest) -> None:
    """Move a file that must not be read out of the way, so that the next writer makes it anew."""
    file = manifest.file(folder)
    with contextlib.suppress(OSError):
        file.rename(file.with_name(file.name + ".damaged"))


def check(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with a snapshot's file, as half a sentence; None where it is what was written."""
    try:
        with manifest.file(folder).open("rb") as content:
            return _wrong(content, manifest)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def load(folder: Path, manifest: Manifest) -> Approximate:
    """The index of a snapshot, whose hash is compared first.

    Raises:
        IndexDamaged: missing, not what was written, or open to others; the message says which.
    """
    file = manifest.file(folder)
    try:
        with file.open("rb") as content:
            if wrong := _wrong(content, manifest):
                raise IndexDamaged(f"the index snapshot {file} {wrong}")
            content.seek(0)
            return _read(content, manifest)
    except OSError as error:
        raise IndexDamaged(f"the index snapshot {file} cannot be read ({error.strerror or error})") from error


def _wrong(content: Any, manifest: Manifest) -> str | None:
    status = os.fstat(content.fileno())
    if os.name != "nt" and status.st_mode & 0o077:
        return "can be read or written by others than its owner"
    if status.st_size != manifest.size:
        return f"has {status.st_size} bytes, should have {manifest.size}"
    if hashlib.file_digest(content, "sha256").hexdigest() != manifest.sha256:
        return "does not match its hash"
    return None


def _read(content: Any, manifest: Manifest) -> Approximate:
    import faiss

    source = faiss.PyCallbackIOReader(content.read, 1 << 20)  # type: ignore[attr-defined, unused-ignore]
    index = faiss.read_index(source)
    assert (index.ntotal, index.d) == (manifest.rows, manifest.dimension)
    ids: Ids = stored_ids(index)
    return Approximate(
        name=manifest.name,
        generation=manifest.generation,
        index=index,
        highest_id=int(ids[-1]),
        probes=manifest.probes,
        gone=ids[:0],
    )
