"""SQLite connections of one collection: a pool for readers, one for the writer, and the file they belong to.

Each reading transaction has a connection of its own, taken from a pool that grows with the number of threads
that read at once. The file is looked at before every use: a collection that another process deleted or
replaced is not read from an open descriptor for ever after.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ingest import words
from ingest.errors import CollectionClosed, StorageFull, UnknownCollection
from ingest.store.files import make_folder, sync_folder, write_again
from ingest.store.schema import check_version, connect, log_ahead, migrate, translated


def make_file(file: Path) -> None:
    """An empty database file that only its owner reads, in a folder that only its owner enters."""
    if file.exists():
        return
    make_folder(file.parent)
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        sync_folder(file.parent)
    except OSError as error:
        raise StorageFull(
            f"{file} cannot be made: {error.strerror}. Check the folder and the space on its disk."
        ) from error


class Connections:
    """Opens, migrates, lends and closes."""

    def __init__(self, file: Path, busy_timeout_s: float) -> None:
        self.file = file
        self._busy_timeout_s = busy_timeout_s
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._identity = self._look()
        self._immutable = False
        self._doubtful = (
            True  # whether the log may hold what never reached the disk: an earlier writer's, too
        )
        with translated(file):
            self._prepare()

    def _prepare(self) -> None:
        """Migrate where needed; fall back to reading a read-only medium."""
        try:
            connection = connect(self.file, busy_timeout_s=self._busy_timeout_s)
            try:
                check_version(connection, self.file)
                self.created = migrate(connection, self.file)
                log_ahead(connection)
                connection.execute(
                    "BEGIN"
                )  # a WAL file needs shared memory beside it: fails here on a read-only disk
                connection.execute("SELECT count(*) FROM collection").fetchone()
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
        except sqlite3.OperationalError as error:
            read_only = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in read_only or os.access(
                self.file.parent, os.W_OK
            ):
                raise
            wal = self.file.with_name(self.file.name + "-wal")
            if wal.exists() and wal.stat().st_size:
                raise
            self._immutable = True
            self.created = False
            connection = connect(self.file, immutable=True)
            check_version(connection, self.file)
            self._idle.append(connection)

    def _look(self) -> tuple[int, int]:
        try:
            found = self.file.stat()
        except FileNotFoundError:
            raise UnknownCollection(
                f"There is no collection in {self.file.parent} (any more). `python -m ingest collections` "
                "lists what there is."
            ) from None
        return found.st_dev, found.st_ino

    def _take(self) -> sqlite3.Connection:
        identity = self._look()
        with self._lock:
            if self._closed:
                raise CollectionClosed(
                    f"The collection in {self.file.parent} was closed, for it was deleted or replaced "
                    "meanwhile; open it again."
                )
            if identity != self._identity:
                self._drop_idle()
                self._identity = identity
            if self._idle:
                return self._idle.pop()
        return connect(self.file, busy_timeout_s=self._busy_timeout_s, immutable=self._immutable)

    def _give(self, connection: sqlite3.Connection, identity: tuple[int, int]) -> None:
        with self._lock:
            if self._closed or identity != self._identity or connection.in_transaction:
                connection.close()
            else:
                self._idle.append(connection)

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def empty_log(self) -> None:
        """Take the log into the file and empty it: what was removed stands in it otherwise, readable.

        Where a reader holds on to it for longer than a second, the next one that empties it does.
        """
        with translated(self.file):
            identity = self._look()
            connection = self._take()
            try:
                connection.execute("PRAGMA busy_timeout = 1000")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                connection.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout_s * 1000)}")
            finally:
                self._give(connection, identity)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside one read transaction: everything read through it is of one moment."""
        with translated(self.file):
            connection = self._take()
            identity = self._identity
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give(connection, identity)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection inside one write transaction: committed at the end, rolled back by any error."""
        with translated(self.file):
            connection = self._take()
            identity = self._identity
            try:
                connection.execute("BEGIN IMMEDIATE")
                self._make_log_sure()
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self._doubtful |= isinstance(error, sqlite3.Error)
                if connection.in_transaction:  # SQLite has rolled back by itself after some errors
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._give(connection, identity)

    def _make_log_sure(self) -> None:
        """Write the log anew where a sync of it may have failed; only while the right to write is held.

        SQLite reads back a commit that its log shows, also one whose sync failed, and writes behind it. If
        that commit never reached the disk, a power cut would take every later one away with it.
        """
        log = self.file.with_name(self.file.name + "-wal")
        if self._doubtful and log.exists() and log.stat().st_size:
            write_again(log)
        self._doubtful = False

    def describe(self, name: str) -> None:
        """Enter the row that describes a new collection; one that is there stays as it is."""
        with self.reading() as connection:
            if connection.execute("SELECT count(*) FROM collection").fetchone()[0]:
                return
        with self.transaction() as connection:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            connection.execute(
                "INSERT OR IGNORE INTO collection (one, name, uid, created_at, generation, documents, chunks,"
                " words_version) VALUES (1, ?, ?, ?, 0, 0, 0, ?)",
                (name, secrets.token_hex(8), now, words.VERSION),
            )

    def close(self) -> None:
        """Close all connections; the last one of all processes moves the log into the database file."""
        with self._lock:
            self._closed = True
            self._drop_idle()
