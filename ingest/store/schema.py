"""The tables of a collection, numbered migrations, and SQLite's errors in our words.

`PRAGMA user_version` counts the migrations that were applied; a file with a higher number was written by a
newer Lorebase and is refused. A migration runs in one transaction, so a kill leaves the old schema or the new
one.

Three facts about SQLite shape the tables. A rowid is used again after a deletion unless the table says
AUTOINCREMENT, and FAISS would then return another passage's text. FTS5's own tokenizers cut identifiers, so
terms are made by `ingest.words` and the `ascii` tokenizer is told that their punctuation belongs to them.
Nothing in a database page is protected by a checksum, so every row that is served carries one (`checksum`,
BLAKE2b, 8 bytes).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from ingest.errors import CollectionLocked, IndexDamaged, IngestError, SchemaTooNew, StorageFull
from ingest.words import PUNCTUATION

FILE_NAME = "kb.sqlite"
APPLICATION_ID = 0x4C4F5245  # "LORE", shown by file(1)

_TOKENCHARS = PUNCTUATION.replace("'", "''''")  # a quote inside a quoted option inside a quoted SQL string


def _fill_facts(connection: sqlite3.Connection) -> None:
    from ingest.store.facts import refill  # it needs rows, and rows need this module

    refill(connection)


Step = str | Callable[[sqlite3.Connection], None]
MIGRATIONS: tuple[tuple[Step, ...], ...] = (
    (
        """CREATE TABLE embedders (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            embedder_id TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            dimension INTEGER NOT NULL CHECK (dimension > 0)
        )""",
        """CREATE TABLE collection (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            name TEXT NOT NULL,
            uid TEXT NOT NULL,
            created_at TEXT NOT NULL,
            generation INTEGER NOT NULL,
            embedder INTEGER REFERENCES embedders (number),
            documents INTEGER NOT NULL,
            chunks INTEGER NOT NULL,
            words_version INTEGER NOT NULL
        )""",
        """CREATE TABLE documents (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            document_id TEXT NOT NULL UNIQUE,
            path TEXT NOT NULL UNIQUE,
            title TEXT NOT NULL,
            content_hash TEXT NOT NULL,
            recipe TEXT NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            origin TEXT NOT NULL,
            characters INTEGER NOT NULL,
            chunks INTEGER NOT NULL,
            pages INTEGER NOT NULL,
            metadata TEXT NOT NULL,
            warnings TEXT NOT NULL,
            ingested_at TEXT NOT NULL,
            checksum BLOB NOT NULL
        )""",
        """CREATE TABLE texts (
            document INTEGER PRIMARY KEY REFERENCES documents (number) ON DELETE CASCADE,
            parser TEXT NOT NULL,
            sections TEXT NOT NULL,
            pages TEXT NOT NULL,
            checksum BLOB NOT NULL,
            text TEXT NOT NULL
        )""",
        """CREATE TABLE vectors (
            vector_id INTEGER PRIMARY KEY AUTOINCREMENT,
            embedder INTEGER NOT NULL REFERENCES embedders (number),
            key BLOB NOT NULL,
            checksum BLOB NOT NULL,
            vector BLOB NOT NULL,
            UNIQUE (embedder, key)
        )""",
        "CREATE INDEX vectors_by_key ON vectors (key)",
        """CREATE TABLE chunks (
            chunk_id INTEGER PRIMARY KEY AUTOINCREMENT,
            document INTEGER NOT NULL REFERENCES documents (number) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            char_start INTEGER NOT NULL,
            char_end INTEGER NOT NULL,
            page_first INTEGER,
            page_last INTEGER,
            heading_path TEXT NOT NULL,
            prefix TEXT,
            tokens INTEGER NOT NULL,
            vector_id INTEGER NOT NULL REFERENCES vectors (vector_id),
            checksum BLOB NOT NULL,
            text TEXT NOT NULL,
            UNIQUE (document, position)
        )""",
        "CREATE INDEX chunks_by_vector ON chunks (vector_id)",
        f"""CREATE VIRTUAL TABLE words USING fts5 (terms, tokenize = 'ascii tokenchars ''{_TOKENCHARS}''')""",
        "CREATE VIRTUAL TABLE words_df USING fts5vocab (words, row)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    (
        # Which passages went in which generation, so that an index in memory follows without reading all ids.
        # Complete for generations after `collection.removed_since`; older entries are thrown away.
        "CREATE TABLE removed (chunk_id INTEGER PRIMARY KEY, generation INTEGER NOT NULL)",
        "CREATE INDEX removed_by_generation ON removed (generation)",
        "ALTER TABLE collection ADD COLUMN removed_since INTEGER NOT NULL DEFAULT 0",
        "UPDATE collection SET removed_since = generation",
        # The manifest of each approximate index. A file without a row here is unknown and never read.
        """CREATE TABLE snapshots (
            name TEXT PRIMARY KEY,
            sha256 TEXT NOT NULL,
            size INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            dimension INTEGER NOT NULL,
            embedder_id TEXT NOT NULL,
            generation INTEGER NOT NULL,
            lists INTEGER NOT NULL,
            probes INTEGER NOT NULL,
            recall REAL NOT NULL,
            made_at TEXT NOT NULL,
            checksum BLOB NOT NULL
        )""",
    ),
    (
        # What the user said about a document: by path, so that it outlives a changed file.
        """CREATE TABLE own (
            path TEXT PRIMARY KEY,
            fields TEXT NOT NULL,
            checksum BLOB NOT NULL
        )""",
        # What filters compare, derived from documents and own: see ingest.fields.
        """CREATE TABLE facts (
            document INTEGER NOT NULL REFERENCES documents (number) ON DELETE CASCADE,
            field TEXT NOT NULL,
            place INTEGER NOT NULL,
            text TEXT NOT NULL,
            number REAL,
            moment REAL,
            PRIMARY KEY (document, field, place)
        ) WITHOUT ROWID""",
        "CREATE INDEX facts_by_field ON facts (field, text, number, moment)",
        # Files that could not be read, so that a run does not try the same bytes for ever.
        """CREATE TABLE failures (
            path TEXT PRIMARY KEY,
            content_hash TEXT NOT NULL,
            recipe TEXT NOT NULL,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            tries INTEGER NOT NULL,
            reason TEXT NOT NULL
        )""",
        "ALTER TABLE collection ADD COLUMN chunking TEXT",  # NULL: as the settings say
        _fill_facts,
    ),
)
SCHEMA = len(MIGRATIONS)


def checksum(*fields: object) -> bytes:
    """Eight bytes over a row's fields, each with type and length: one flipped bit can make a text a blob."""
    digest = blake2b(digest_size=8)
    for value in fields:
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(f"{type(value).__name__} {len(data)}:".encode())
        digest.update(data)
    return digest.digest()


def damaged(where: Path | str, what: object) -> IndexDamaged:
    """The error for a row or file that is not what was written, with the commands that say more and mend."""
    return IndexDamaged(
        f"The index in {where} is damaged: {what}. `python -m ingest verify` lists what is wrong; "
        "restore a backup, or delete that folder and ingest again."
    )


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours; every use of a connection happens inside."""
    try:
        yield
    except sqlite3.Error as error:
        raise _our_error(file, error) from error
    except UnicodeDecodeError as error:  # Python meets it in SQLite's own messages about a damaged schema
        raise damaged(file, error) from error


def _our_error(file: Path, error: sqlite3.Error) -> IngestError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull(
            f"No space left for {file}: nothing of this step was kept. Free some space and repeat it."
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CollectionLocked(
            f"{file} is held by another program ({error}). Wait for it, or end it, and repeat."
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return StorageFull(f"{file} cannot be written: {error}. Check the permissions of its folder.")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StorageFull(
            f"{file} cannot be opened: {error}. Check that its folder exists and its permissions."
        )
    if primary == sqlite3.SQLITE_IOERR and code not in (
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    ):
        return StorageFull(f"The disk refused to write {file}: {error}. Nothing of this step was kept.")
    if primary == sqlite3.SQLITE_TOOBIG:
        return IngestError(f"A text is larger than SQLite stores in one row (1 GB): {error}.")
    if isinstance(error, sqlite3.ProgrammingError):
        return IngestError(
            f"The collection in {file.parent} was used after it was closed, or wrongly: {error}."
        )
    if primary == sqlite3.SQLITE_NOTADB:  # nothing in it can be read, so `verify` could list nothing
        return IndexDamaged(
            f"The index in {file} is damaged: it is no database, or its beginning is lost. Import a backup "
            f"(`python -m ingest import FILE`) or the documents once more, after deleting {file.parent}."
        )
    return damaged(file, error)


def connect(file: Path, *, busy_timeout_s: float = 10.0, immutable: bool = False) -> sqlite3.Connection:
    """Open an existing database file in autocommit mode, with the pragmas that every connection needs.

    `immutable` reads a file on a read-only medium, where SQLite cannot keep its shared-memory file.
    """
    mode = "mode=ro&immutable=1" if immutable else "mode=rw"
    connection = sqlite3.connect(
        f"{file.resolve().as_uri()}?{mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # the pool hands a connection to one thread at a time
        timeout=busy_timeout_s,
    )
    try:
        for pragma in (
            "foreign_keys = ON",
            "synchronous = EXTRA",  # FULL, and where the log is not used, the folder is synced as well
            "secure_delete = ON",  # forgotten text is overwritten, not left in free pages
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "journal_size_limit = 67108864",
            "cache_size = -8000",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection
    except BaseException:
        connection.close()
        raise


def migrate(
    connection: sqlite3.Connection, file: Path, migrations: tuple[tuple[Step, ...], ...] = MIGRATIONS
) -> bool:
    """Bring the schema up to date in one transaction; True where a new file got its tables.

    Raises:
        SchemaTooNew: the file has more migrations than this program knows.
        IndexDamaged: the file is a database, but not one of ours.
    """
    check_version(connection, file, len(migrations))
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(migrations):
        return False
    log_ahead(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[
            0
        ]  # another process may have been faster
        for statements in migrations[version:]:
            for step in statements:
                if callable(step):
                    step(connection)
                else:
                    connection.execute(step)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return bool(version == 0)


def log_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log where the file is not in that mode.

    A disk error in a collection's first moments can leave it in the other one, where readers and writers keep
    each other out. A file system without shared memory stays there; `synchronous = EXTRA` keeps it safe.
    """
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")


def check_version(connection: sqlite3.Connection, file: Path, known: int = SCHEMA) -> None:
    """Refuse a schema from the future and a file that is no collection; changes nothing."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > known:
        raise SchemaTooNew(
            f"{file} has schema {version}, this Lorebase knows {known}. Install the newer Lorebase that "
            "wrote it."
        )
    if version and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise damaged(file, "it is a database, but its header does not say that it is a Lorebase collection")
    if version < 0 or (
        not version and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    ):
        raise damaged(file, f"it has tables, but its schema number is {version}")
