"""Conversations that the service remembers, so that a client may send a question and a name and nothing else.

A session is made by the first question that names it. What was said in it is handed to the next question as
its history, exactly as `messages` of a request would be.

Invariants:
- a session belongs to the key that asked; the same name under another key is another session;
- bounded: of a session the last `MOST_TURNS` turns are kept, of an owner the `MOST_SESSIONS` that were used
  last;
- a turn keeps the answer and where it stands, not the passages themselves: what was deleted from a collection
  does not live on here as a source.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from service.database import Connection, Records
from service.errors import RecordsUnavailable, UnknownSession
from service.events import Final
from service.followup import Said

MOST_SESSIONS, MOST_TURNS = 500, 200
#: How many turns back a follow-up can reach.
HISTORY_TURNS = 20
TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sentence of an answer stood; offsets are code points into the document's text."""

    marker: int
    document_id: str
    path: str
    title: str
    page_first: int | None
    page_last: int | None
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and what became of it."""

    id: str
    question: str
    standalone_question: str | None
    answer: str
    answered: bool
    refusal_reason: str | None
    collection: str
    mode: str
    model: str
    citations: tuple[Place, ...]
    asked_at: str

    @classmethod
    def of(cls, question: str, collection: str, final: Final) -> Exchange:
        """From the conductor's last event."""
        names = Place.__dataclass_fields__
        return cls(
            final.id,
            question,
            final.standalone_question,
            final.answer,
            final.answered,
            final.refusal_reason,
            collection,
            final.mode,
            final.model,
            tuple(Place(**{name: getattr(c, name) for name in names}) for c in final.citations),
            _now(),
        )


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation in figures."""

    id: str
    title: str  #: its first question, cut
    turns: int
    created_at: str
    updated_at: str


class Sessions:
    """The conversations of a data folder, or of services that share a database."""

    def __init__(self, database: Records) -> None:
        self._database = database

    def all(self, owner: str) -> list[Session]:
        """An owner's sessions, the last used first."""
        with self._database.reading() as db:
            if db is None:
                return []
            rows = db.execute(
                "SELECT id, title, (SELECT count(*) FROM turns WHERE owner = s.owner AND session = s.id), "
                "created_at, updated_at FROM sessions s WHERE owner = ? ORDER BY used DESC",
                (owner,),
            )
            return [Session(*row) for row in rows]

    def one(self, owner: str, session: str) -> tuple[Session, list[Exchange]]:
        """A session and what was said in it, oldest first.

        Raises:
            UnknownSession: this owner has none of that name.
        """
        found = next((s for s in self.all(owner) if s.id == session), None)
        if found is None:
            raise UnknownSession(f"no session {session!r}; the first question that names one makes it")
        return found, self._turns(owner, session, MOST_TURNS)

    def history(self, owner: str, session: str) -> tuple[Said, ...]:
        """What was said, oldest first, as far back as a follow-up can reach; nothing in a new session."""
        said: list[Said] = []
        for turn in self._turns(owner, session, HISTORY_TURNS):
            said += [Said("user", turn.question), Said("assistant", turn.answer)]
        return tuple(said)

    def add(self, owner: str, session: str, turn: Exchange) -> None:
        """Keep a turn, making the session if need be.

        Raises:
            RecordsUnavailable: it cannot be written.
        """
        with self._database.writing() as db:
            # A clock that was set back, or another service's that is slow: what is used now comes last.
            last = db.execute("SELECT max(used) FROM sessions WHERE owner = ?", (owner,)).fetchone()[0]
            used = max(time.time_ns(), (last or 0) + 1)
            db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner, id) DO UPDATE "
                "SET updated_at = excluded.updated_at, used = excluded.used",
                (owner, session, _title(turn.question), turn.asked_at, turn.asked_at, used),
            )
            number = db.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM turns WHERE owner = ? AND session = ?",
                (owner, session),
            ).fetchone()[0]
            told = json.dumps(asdict(turn), ensure_ascii=False)
            db.execute("INSERT INTO turns VALUES (?, ?, ?, ?)", (owner, session, number, told))
            self._shorten(db, owner, session, number)

    def delete(self, owner: str, session: str) -> None:
        """Forget a session. Raises UnknownSession."""
        if all(s.id != session for s in self.all(owner)):
            raise UnknownSession(f"no session {session!r}")
        with self._database.writing() as db:
            gone = db.execute("DELETE FROM sessions WHERE owner = ? AND id = ?", (owner, session))
            if not gone.rowcount:
                raise UnknownSession(f"no session {session!r}")
        with contextlib.suppress(RecordsUnavailable):  # it is deleted all the same
            self._database.empty_log()

    def close(self) -> None:
        """Close connections; the next use opens others."""
        self._database.close()

    def _shorten(self, db: Connection, owner: str, session: str, newest: int) -> None:
        db.execute(
            "DELETE FROM turns WHERE owner = ? AND session = ? AND number <= ?",
            (owner, session, newest - MOST_TURNS),
        )
        db.execute(
            "DELETE FROM sessions WHERE owner = ? AND id NOT IN "
            "(SELECT id FROM sessions WHERE owner = ? ORDER BY used DESC LIMIT ?)",
            (owner, owner, MOST_SESSIONS),
        )

    def _turns(self, owner: str, session: str, most: int) -> list[Exchange]:
        with self._database.reading() as db:
            rows: Sequence[tuple[str]] = (
                ()
                if db is None
                else db.execute(
                    "SELECT turn FROM turns WHERE owner = ? AND session = ? ORDER BY number DESC LIMIT ?",
                    (owner, session, most),
                ).fetchall()
            )
        return [_exchange(json.loads(turn)) for (turn,) in reversed(rows)]


def _exchange(told: dict[str, Any]) -> Exchange:
    return Exchange(**{**told, "citations": tuple(Place(**place) for place in told["citations"])})


def _title(question: str) -> str:
    line = " ".join(question.replace("\0", " ").split())  # PostgreSQL's texts hold no zero bytes
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1] + "…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
