"""A collection as one file: exported, backed up while in use, imported.

    backup FILE    a copy of the database, by SQLite's backup API; any SQLite can read it
    export FILE    a ZIP of manifest.json (what it is, counts, SHA-256) and such a copy
    import FILE    either of them, as a collection that is not there yet

Both are of one moment, whoever writes meanwhile, and appear under their name only when whole. Index snapshots
are left out: they are made anew from the vectors.

An archive may come from a stranger. So nothing of it is trusted before it was looked at: members by name,
never unpacked by theirs; sizes against the manifest, the disk and a bomb's ratio; the hash; the schema text
by text against our own (a trigger or view in it would run with every query); every checksum and count, as
`verify` does. What it names of index files is thrown away. It becomes a collection by one rename at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import secrets
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.collections import FOLDER, collection_folder, exists, open_collection
from ingest.errors import IngestError, SchemaTooNew, StorageFull
from ingest.store import Store, StoreStatus
from ingest.store.figures import figures
from ingest.store.files import Write, make_folder, publish, sync_folder
from ingest.store.milvus.address import EMBEDDED, is_milvus
from ingest.store.rows import one
from ingest.store.schema import FILE_NAME, MIGRATIONS, check_version, connect, migrate, translated
from ingest.store.sqlite_faiss import SqliteFaissStore
from ingest.store.writing import now

MANIFEST_NAME = "manifest.json"
_LONGEST_MANIFEST = 64 * 1024
#: No collection shrinks like this; a bomb does.
_HIGHEST_RATIO = 100
_PIECE = 1 << 20
#: What a backup and an export begin with.
_SQLITE, _ZIP = b"SQLite format 3\0", b"PK\3\4"
#: What the standard library raises for an archive that is damaged or of another kind.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, UnicodeError,
)  # fmt: skip


class InvalidArchive(IngestError):
    """A file that is no export and no backup, or not what it says it is."""


class CollectionExists(IngestError):
    """There is a collection of that name already."""


class Manifest(BaseModel):
    """`manifest.json` of an export."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["lorebase-collection"]
    version: Literal[1]
    collection: str = Field(max_length=500)
    created_at: str = Field(max_length=100)
    schema_: int = Field(alias="schema", ge=1)
    documents: int = Field(ge=0)
    chunks: int = Field(ge=0)
    embedder_id: str | None = Field(max_length=500)
    embedder_name: str | None = Field(max_length=4096)
    dimension: int | None = Field(ge=1)
    size: int = Field(ge=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def backup(store: Store, target: Path) -> None:
    """Copy a collection's database to `target`, as it is at this moment; readers and writers go on.

    Raises:
        StorageFull: the file cannot be written; one that was there before stays.
        IngestError: it is in Milvus, which has backups of its own.
    """
    if not isinstance(store, SqliteFaissStore):
        raise IngestError(
            "backup copies the database of a collection in the data folder, and this one is in Milvus. "
            "`python -m ingest export FILE` writes it into a file."
        )
    with _copied(store, target) as copy, copy.open("rb") as content:
        publish(target, lambda write: _stream(content, write))


def export(store: Store, target: Path) -> Manifest:
    """Write a collection, as it is at this moment, into one ZIP file. Raises StorageFull, likewise.

    The file is the same whatever store it comes from; one in Milvus is held for that long.
    """
    if not isinstance(store, SqliteFaissStore):
        from ingest.store.moving import into_folder

        with (
            _room(target) as folder,
            store.writing("export"),
            into_folder(store, folder / store.collection) as embedded,
        ):
            return export(embedded, target)
    with _copied(store, target) as copy:
        with translated(copy), closing(connect(copy)) as connection:
            row = figures(connection)
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            # Pages that forgotten documents have left are zeros: many of them, and it would look like a bomb.
            if 4 * one(connection, "PRAGMA freelist_count") > one(connection, "PRAGMA page_count"):
                connection.execute("VACUUM")
        with copy.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        manifest = Manifest(
            format="lorebase-collection",
            version=1,
            collection=row[0],
            created_at=now(),
            schema=schema,
            documents=row[5],
            chunks=row[6],
            embedder_id=row[2],
            embedder_name=row[3],
            dimension=row[4],
            size=copy.stat().st_size,
            sha256=sha256,
        )

        def fill(write: Write) -> None:
            with zipfile.ZipFile(_Sink(write), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr(MANIFEST_NAME, manifest.model_dump_json(by_alias=True, indent=1))
                archive.write(copy, FILE_NAME)

        publish(target, fill)
    return manifest


def import_(file: Path, home: Path, name: str | None = None, at: str = EMBEDDED) -> StoreStatus:
    """Make a collection of an export or a backup, under its own name or another one, in the store `at`.

    Raises:
        InvalidArchive: it is neither, damaged, or hostile; nothing was made.
        CollectionExists: there is one of that name.
        SchemaTooNew, InvalidName, StorageFull: as their names say; nothing was made.
    """
    root = home / FOLDER
    make_folder(root)
    stage = root / f".importing-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        make_folder(stage)
        database = stage / "kb" / FILE_NAME
        make_folder(database.parent)
        try:
            named = _unpack(file, database)
        except OSError as error:
            raise _refused(file, f"cannot be read or unpacked: {error.strerror or error}") from error
        own_name = _vet(file, database)
        target = collection_folder(home, name or named or own_name)
        if exists(home, target.name, at) or (not is_milvus(at) and target.exists()):
            raise CollectionExists(
                f"There is a collection {target.name!r} already. Import under another name with "
                "--collection NAME, or delete that one first."
            )
        with translated(database), closing(connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("UPDATE collection SET name = ?", (target.name,))
            if one(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'snapshots'"):
                connection.execute("DELETE FROM snapshots")  # their files stayed behind
        if is_milvus(at):
            return _into_milvus(database.parent, home, target.name, at)
        _sync(database)
        sync_folder(database.parent)
        try:
            database.parent.rename(target)
            sync_folder(root)
        except OSError as error:
            raise StorageFull(f"{target} cannot be made: {error.strerror}. Check its permissions.") from error
        with SqliteFaissStore.open(target) as store:
            return store.status()
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _into_milvus(folder: Path, home: Path, name: str, at: str) -> StoreStatus:
    from ingest.store.milvus.store import MilvusStore
    from ingest.store.moving import into_milvus

    target = open_collection(home, name, create=True, at=at)
    assert isinstance(target, MilvusStore)
    with SqliteFaissStore.open(folder) as source, target:
        try:
            into_milvus(source, target)
        except BaseException:
            with contextlib.suppress(IngestError):
                target.drop()
            raise
        return target.status()


@contextmanager
def _room(target: Path) -> Iterator[Path]:
    """A folder beside `target`, gone after the block."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".lorebase-", dir=target.parent))
    except OSError as error:
        raise StorageFull(
            f"{target} cannot be written: {error.strerror}. Check that its folder exists and may be written."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _copied(store: SqliteFaissStore, target: Path) -> Iterator[Path]:
    """A copy of the database beside `target`, gone after the block."""
    with _room(target) as folder:
        copy = folder / FILE_NAME
        with (
            translated(copy),
            closing(connect(store.file)) as connection,
            closing(sqlite3.connect(copy)) as into,
        ):
            connection.backup(into)  # in one step: a reader's view, which no writer can change or block
        yield copy


class _Sink(io.RawIOBase):
    """What `zipfile` writes to: a stream that only goes forward."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._write(bytes(data))
        return len(data)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stream(content: BinaryIO, write: Write) -> None:
    while piece := content.read(_PIECE):
        write(piece)


def _refused(file: Path, why: str) -> InvalidArchive:
    return InvalidArchive(f"{file} cannot be imported: {why}. Nothing was made.")


def may_be_ours(file: Path) -> bool:
    """Whether a file is empty, or begins as an export or a backup does."""
    with file.open("rb") as content:
        begins = content.read(len(_SQLITE))
    return begins == _SQLITE or begins[: len(_ZIP)] in (b"", _ZIP)


def _unpack(file: Path, database: Path) -> str | None:
    """Put the database of an export or a backup to `database`; the collection's name, where it is told."""
    with file.open("rb") as content:
        magic = content.read(16)
        content.seek(0)
        if magic == _SQLITE:
            log = file.with_name(file.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise _refused(file, "a program has it open; make a copy with `python -m ingest backup`")
            _take(file, content, database, file.stat().st_size)
            return None
        if magic[:4] != _ZIP:
            raise _refused(file, "it is neither an export (ZIP) nor a backup (SQLite)")
        try:
            return _unzip(file, content, database)
        except _BROKEN as error:
            raise _refused(file, f"its archive is damaged or of an unknown kind ({error})") from error


def _unzip(file: Path, content: BinaryIO, database: Path) -> str:
    with zipfile.ZipFile(content) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if set(members) != {MANIFEST_NAME, FILE_NAME} or len(archive.infolist()) != 2:
            raise _refused(file, f"it should hold {MANIFEST_NAME} and {FILE_NAME} and nothing else")
        with archive.open(MANIFEST_NAME) as member:
            written = member.read(_LONGEST_MANIFEST + 1)
        if len(written) > _LONGEST_MANIFEST:
            raise _refused(file, f"{MANIFEST_NAME} is longer than {_LONGEST_MANIFEST} bytes")
        try:
            manifest = Manifest.model_validate_json(written)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise _refused(file, f"{MANIFEST_NAME} is not ours: {where}: {first['msg']}") from error
        packed = members[FILE_NAME]
        if packed.file_size != manifest.size:
            raise _refused(file, f"{FILE_NAME} is not as large as {MANIFEST_NAME} says")
        if manifest.size > _HIGHEST_RATIO * max(packed.compress_size, 1):
            raise _refused(file, f"{FILE_NAME} would grow more than {_HIGHEST_RATIO}-fold: a bomb")
        with archive.open(packed) as member:
            sha256 = _take(file, member, database, manifest.size)
    if sha256 != manifest.sha256:
        raise _refused(file, f"the hash of {FILE_NAME} is not the one in {MANIFEST_NAME}")
    return manifest.collection


def _take(file: Path, content: IO[bytes], database: Path, size: int) -> str:
    """Copy exactly `size` bytes; returns their SHA-256."""
    free = shutil.disk_usage(database.parent).free
    if size > free:
        raise StorageFull(f"{file} needs {size:,} bytes, {free:,} are free. Nothing was made.")
    digest = hashlib.sha256()
    left = size
    descriptor = os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while left and (piece := content.read(min(_PIECE, left))):
            digest.update(piece)
            out.write(piece)
            left -= len(piece)
    if left or content.read(1):
        raise _refused(file, "its database is shorter or longer than it says")
    return digest.hexdigest()


def _vet(file: Path, database: Path) -> str:
    """Check a stranger's database before anything of it is used; returns the collection's name.

    Raises:
        InvalidArchive: it is not what this program writes.
        SchemaTooNew: a newer Lorebase wrote it.
    """
    try:
        with translated(database), closing(connect(database)) as connection:
            check_version(connection, database)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if not version or _schema(connection) != _expected_schema(database.parent, version):
                raise _refused(file, "its tables are not those of a collection")
            if version > 1:
                connection.execute("DELETE FROM snapshots")  # names of files that did not come along
            if version > 2:
                connection.execute("DELETE FROM failures")
        with SqliteFaissStore.open(database.parent) as store:  # migrates an older one
            problems = store.verify().problems
            name = store.collection
    except SchemaTooNew:
        raise
    except IngestError as error:
        if isinstance(error, InvalidArchive | StorageFull):
            raise
        raise _refused(file, f"its database is damaged ({error})") from error
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise _refused(file, f"its rows are not what they should be ({type(error).__name__})") from error
    if problems:
        raise _refused(file, f"its content does not agree with its checksums: {problems[0]}")
    if not isinstance(name, str):
        raise _refused(file, "it has no name")
    return name


def _schema(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


def _expected_schema(folder: Path, version: int) -> set[tuple[object, ...]]:
    """The tables that this program makes for a schema of that number."""
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        file = Path(fresh, FILE_NAME)
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            migrate(connection, file, MIGRATIONS[:version])
            return _schema(connection)
