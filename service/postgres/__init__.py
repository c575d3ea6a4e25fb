"""Keys and conversations in a PostgreSQL, so that several services on several machines share them.

SQLAlchemy keeps the connections, Alembic the schema (`versions/`); the client is psycopg. The SQL is that of
whoever keeps something, the same as for the embedded file.

Invariants:
- one writer works at a time, as in SQLite: a write begins by taking a lock that ends with its transaction;
- a read is one statement and sees what was committed when it began, on whichever service;
- a database that is away is asked again at the next use: nothing has to be restarted. After a failed try
  the next one waits a second, and who asks meanwhile is told at once;
- no password, user or address is in a message: strangers get these as replies. The address is logged.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ingest.settings import SettingsError
from service.database import Connection, RecordsAway, Rows, without_password
from service.errors import RecordsUnavailable

try:
    from sqlalchemy import Connection as Opened
    from sqlalchemy import create_engine, exc
    from sqlalchemy.engine import URL, make_url

    from service.postgres import schema
except ImportError as error:  # pragma: no cover - the extra is installed where tests run
    raise SettingsError(
        f"a PostgreSQL as database needs the extra postgres ({error.name} is missing): "
        "pip install 'lorebase[postgres]', or set database to sqlite."
    ) from error

logger = logging.getLogger(__name__)

CONNECT_S = 5
#: How long a write waits for others, in milliseconds.
BUSY_MS = 5000
#: After a failed connection, how long before the next is tried.
PAUSE_S = 1.0
CONNECTIONS, MORE_CONNECTIONS = 4, 8
#: What libpq shall notice, seconds but for the last: a network that swallows everything.
_NETWORK = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "lorebase",
    "prepare_threshold": None,  # poolers such as PgBouncer may hand the next statement to another server
}
_REFUSED = re.compile(
    "authentication failed|no password supplied|does not exist|no pg_hba.conf entry|permission denied|"
    "not permitted to log in"
)


class Postgres:
    """Keys and conversations behind an address; nothing is opened before something is read or written."""

    remote = True

    def __init__(self, address: str) -> None:
        """Take the setting `database`. Raises SettingsError."""
        url = _parsed(address)
        self._shown = without_password(address)
        told = {key: value for key, value in _NETWORK.items() if key not in url.query}
        self._engine = create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=MORE_CONNECTIONS,
            pool_timeout=CONNECT_S,
            pool_pre_ping=True,  # a server that was restarted meanwhile is noticed before a statement is lost
            hide_parameters=True,
            connect_args=told,
        )
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()
        self._prepared = False
        self._away: tuple[float, str] | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single statements.

        Raises:
            RecordsUnavailable: the database cannot be read; RecordsAway where it may be soon.
        """
        with self._translated():
            self._prepare()
            with self._single.connect() as opened:
                yield _Statements(opened)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection within one transaction, which an exception takes back; others wait to write.

        Raises:
            RecordsUnavailable: the database cannot be written; RecordsAway where it may be soon.
        """
        with self._translated():
            self._prepare()
            with self._engine.begin() as opened:
                schema.lock(opened, BUSY_MS)
                yield _Statements(opened)

    def empty_log(self) -> None:
        """Nothing to do: what a server keeps of a deleted row is its own affair."""

    def close(self) -> None:
        """Close connections; the next use opens others."""
        self._engine.dispose()

    def _told_away(self) -> None:
        if self._away is not None and time.monotonic() < self._away[0]:
            raise RecordsAway(self._away[1])

    def _prepare(self) -> None:
        self._told_away()
        if self._prepared:
            return
        with self._lock:
            self._told_away()  # while this one waited, another may have found out
            if not self._prepared:
                with self._engine.begin() as opened:
                    schema.upgrade(opened, BUSY_MS)
                self._prepared = True

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            raise RecordsAway(
                f"all {CONNECTIONS + MORE_CONNECTIONS} connections to PostgreSQL are busy; try again soon."
            ) from error
        except exc.DBAPIError as error:
            raise self._problem(error) from error
        except exc.SQLAlchemyError as error:
            raise RecordsUnavailable(f"PostgreSQL cannot be used: {type(error).__name__}.") from error
        else:
            self._away = None

    def _problem(self, error: exc.DBAPIError) -> RecordsUnavailable:
        """What a failure means, and whether it may be over soon."""
        reason = _reason(error)
        state = getattr(error.orig, "sqlstate", None)
        logger.warning("database %s: %s", self._shown, reason)
        if state == "55P03":  # lock_not_available
            return RecordsAway(
                f"another service has been writing for {BUSY_MS / 1000:g} s; try again soon ({reason})."
            )
        if _REFUSED.search(reason):
            return RecordsUnavailable(
                f"PostgreSQL refuses the service: {reason}. Check user, password and name of the database in "
                "the setting database (or PGPASSWORD), and what that user may do there."
            )
        if isinstance(error, exc.OperationalError) or error.connection_invalidated:
            said = (
                f"the PostgreSQL of keys and conversations does not answer: {reason}. Check that it runs and "
                "is reached at the setting database; everything goes on when it is back."
            )
            self._away = time.monotonic() + PAUSE_S, said
            return RecordsAway(said)
        return RecordsUnavailable(f"PostgreSQL cannot do what is asked: {reason}.")


class _Statements:
    """Statements as the embedded database takes them."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        """Run one, `?` standing for a value."""
        return self._opened.exec_driver_sql(statement.replace("?", "%s"), tuple(values))


def _parsed(address: str) -> URL:
    try:
        url = make_url(address)
        if url.drivername not in ("postgresql", "postgres") or (not url.host and "host" not in url.query):
            raise ValueError("another scheme, or no host")
    except (exc.ArgumentError, ValueError) as error:  # their messages repeat the address
        raise SettingsError(
            "the setting database is neither sqlite nor an address such as "
            "postgresql://USER:PASSWORD@HOST:5432/NAME; special characters of the password are "
            "percent-encoded."
        ) from error
    return url.set(drivername="postgresql+psycopg")


def _reason(error: exc.DBAPIError) -> str:
    """The last thing that PostgreSQL or its client said, without who and where."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    said = next((line for line in lines if "failed: " in line or "error" in line), lines[0] if lines else "?")
    said = said.rpartition("failed: ")[2]
    said = re.sub(r"^(connection failed|connection is bad): ", "", said)
    said = re.sub(r' for (user|role) "[^"]*"', "", said)
    return re.sub(r"""(["'])[^"']*\1""", "…", said).replace("FATAL:", "").strip().rstrip(".")
