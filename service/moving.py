"""Keys and conversations of one data folder into the database that several services share.

It may be done again: what is there already stays as it is, but for a key that was revoked since, which is
void there, too. All of it is one transaction. Nothing else has to move: documents are `ingest`'s,
classifiers are files, and jobs are forgotten when a service ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.database import Connection, Database, Records
from service.errors import InvalidKey

_KEY = "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SESSION = "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)"
_TURN = "INSERT INTO turns VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Moved:
    """What was copied, and how much of it was there before."""

    keys: int
    sessions: int
    turns: int
    known_keys: int
    known_sessions: int


def copy(source: Database, target: Records) -> Moved:
    """Copy keys and conversations; the source is only read.

    Raises:
        InvalidKey: another valid key has a name there that a valid key here has; nothing was copied.
        RecordsUnavailable: one of them cannot be used; nothing was copied.
    """
    keys, sessions, turns = _read(source)
    with target.writing() as db:
        known = {row[0]: row[1] for row in db.execute("SELECT id, revoked_at FROM keys")}
        _refuse_twice(db, [key for key in keys if key[0] not in known])
        for key in keys:
            if key[0] not in known:
                db.execute(_KEY, key)
            elif key[7] is not None and known[key[0]] is None:
                db.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (key[7], key[0]))
        there = {tuple(row) for row in db.execute("SELECT owner, id FROM sessions")}
        new = [session for session in sessions if tuple(session[:2]) not in there]
        said = [turn for turn in turns if tuple(turn[:2]) not in there]
        for session in new:
            db.execute(_SESSION, session)
        for turn in said:
            db.execute(_TURN, turn)
    known_keys = sum(key[0] in known for key in keys)
    return Moved(len(keys) - known_keys, len(new), len(said), known_keys, len(sessions) - len(new))


Table = list[Sequence[Any]]


def _read(source: Database) -> tuple[Table, Table, Table]:
    """The three tables as they were at one moment."""
    with source.writing() as db:  # whoever writes to it meanwhile waits: a read would be three moments
        return (
            db.execute("SELECT * FROM keys").fetchall(),
            db.execute("SELECT * FROM sessions").fetchall(),
            db.execute("SELECT * FROM turns").fetchall(),
        )


def _refuse_twice(db: Connection, new: Table) -> None:
    taken = {row[0] for row in db.execute("SELECT name FROM keys WHERE revoked_at IS NULL")}
    if twice := sorted(key[1] for key in new if key[7] is None and key[1] in taken):
        raise InvalidKey(
            f"another valid key there has the same name: {', '.join(map(repr, twice[:5]))}. Revoke one of "
            "the two (python -m service keys revoke ID), then copy again; nothing was copied."
        )
