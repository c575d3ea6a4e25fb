"""What the service itself remembers, which is keys and conversations: in `LOREBASE_HOME/service.sqlite`.

Several services share theirs in a PostgreSQL (`service.postgres`), where the setting `database` names one.
Both take the same SQL, so whoever keeps something writes it once: `?` for values, and nothing that only one
of the two understands.

Documents and vectors are not here; they belong to their collection. Losing this file loses no document.

Invariants of the file:
- nothing is written, and no file made, before there is something to keep;
- the file is readable by its owner only: it says who asked what;
- a file of an older version is brought up to date when it is opened, whole or not at all; one of a newer
  version is refused and left as it is;
- every write is one transaction, on the disk when it returns (`synchronous=FULL`); processes may share the
  file, so a key that one revokes is void for the other at its next request.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from service.errors import RecordsUnavailable

#: The setting `database` where it names no PostgreSQL.
EMBEDDED = "sqlite"

FILE_NAME = "service.sqlite"
BUSY_S = 5.0

_FIRST = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, collections TEXT,
    salt BLOB NOT NULL, digest BLOB NOT NULL, created_at TEXT NOT NULL, revoked_at TEXT
) STRICT;
CREATE UNIQUE INDEX live_names ON keys (name) WHERE revoked_at IS NULL;
CREATE TABLE sessions (
    owner TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, used INTEGER NOT NULL,
    PRIMARY KEY (owner, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE turns (
    owner TEXT NOT NULL, session TEXT NOT NULL, number INTEGER NOT NULL, turn TEXT NOT NULL,
    PRIMARY KEY (owner, session, number),
    FOREIGN KEY (owner, session) REFERENCES sessions (owner, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
"""
#: Who finds a file that another thread is making waits until that one has closed it.
_making = threading.Lock()
#: What takes the file from one version to the next. One that was published is never changed.
MIGRATIONS = (_FIRST,)


class RecordsAway(RecordsUnavailable):
    """The database of keys and conversations does not answer now, and may again."""

    retry_after_s = 2


class Rows(Protocol):
    """What a statement found or did."""

    @property
    def rowcount(self) -> int:
        """Rows that were changed."""

    def fetchone(self) -> Any:
        """The next row, a sequence; None behind the last."""

    def fetchall(self) -> Sequence[Any]:
        """The rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Takes statements."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run one; `?` stands for a value."""


class Records(Protocol):
    """Where keys and conversations are kept; safe from several threads."""

    @property
    def remote(self) -> bool:
        """Whether an answer crosses a network, and so may take long."""

    def reading(self) -> AbstractContextManager[Connection | None]:
        """A connection; None where nothing was ever written. Raises RecordsUnavailable."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection within one transaction, which an exception takes back; one writer works at a time.

        Raises:
            RecordsUnavailable: it cannot be written.
        """

    def empty_log(self) -> None:
        """Leave nothing of what was deleted where it can be read."""

    def close(self) -> None:
        """Close connections; the next use opens others."""


def records(setting: str, home: Path) -> Records:
    """What the setting `database` names; nothing is opened yet.

    Raises:
        SettingsError: it names nothing that can be used.
    """
    if setting in (EMBEDDED, ""):
        return Database(home)
    from service.postgres import Postgres

    return Postgres(setting)


def without_password(setting: str) -> str:
    """The setting `database` as it may be shown: without account and options, where a password can stand."""
    scheme, slashes, rest = setting.partition("://")
    place, _, options = rest.partition("?")
    if "@" in options and "@" not in place:  # a question mark in a password, or an @ in an option
        return f"{scheme}{slashes}***"
    _, at, host = place.rpartition("@")
    return f"{scheme}{slashes}{'***@' if at else ''}{host}"


class Database:
    """One connection to the file, opened when it is first needed; safe from several threads."""

    remote = False

    def __init__(self, home: Path) -> None:
        self.file = home / FILE_NAME
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """The connection; None where nothing was ever written.

        Raises:
            RecordsUnavailable: the file cannot be read.
        """
        with self._lock, self._translated():
            if self._connection is None and not self.file.is_file():
                yield None
            else:
                yield self._opened()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection within one transaction, which an exception takes back.

        Raises:
            RecordsUnavailable: the file cannot be written.
        """
        with self._lock, self._translated():
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def empty_log(self) -> None:
        """Take the log into the file and empty it, for what was deleted stands in it; see `ingest.store`."""
        with self._lock, self._translated():
            self._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._make()
            connection = sqlite3.connect(
                self.file, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make(self) -> None:
        """Make the file where there is none, for its owner only: SQLite would ask the umask.

        One that is there is not touched. Closing any descriptor of a file ends all locks of this process on
        it (fcntl(2), POSIX), those of another connection included; then the next process to leave would take
        itself for the last one and remove the log that this one still reads and writes.
        """
        with _making, contextlib.suppress(FileExistsError):
            os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        _log_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what was deleted is not left in free pages
        if _version(connection) < len(MIGRATIONS):
            connection.execute("BEGIN IMMEDIATE")
            try:
                for script in MIGRATIONS[_version(connection) :]:  # none where somebody was faster
                    for statement in script.split(";\n"):
                        connection.execute(statement)
                if _version(connection) < len(MIGRATIONS):
                    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        if (version := _version(connection)) != len(MIGRATIONS):
            raise RecordsUnavailable(
                f"{FILE_NAME} was written by a newer Lorebase (version {version}, this one knows "
                f"{len(MIGRATIONS)}): install that one, or move the file away"
            )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise RecordsUnavailable(
                f"{FILE_NAME} in the data folder cannot be used: {error}. Check the folder's permissions and "
                "its disk; a damaged file can be moved away while no service runs, with the -wal and -shm "
                "beside it, which loses keys and conversations only."
            ) from error


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log, waiting up to `BUSY_S` for another process that does the same.

    SQLite does not call its own busy handler where two connections that read ask for the exclusive lock at
    once, since waiting could be forever: one of them is told SQLITE_BUSY and has to let go and ask again.
    """
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.001 + 0.02 * int.from_bytes(os.urandom(1)) / 255)  # apart, or both ask at once again


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
