"""Keys with a name, a role and, if wanted, collections of their own: made, listed, revoked, recognised.

A key is `lb_ID_SECRET` with 256 random bits of secret. The data folder keeps the id and a keyed hash of the
secret (BLAKE2b, RFC 7693, keyed by a random salt). A slow password hash would protect nothing: nobody can try
256 bits, so all that it would do is let strangers burn this machine's processor with wrong keys.

Invariants:
- the secret is told once, when the key is made, and stored nowhere;
- a key is looked up at every request, so making and revoking are effective at once in a running service;
- a name means one key that is valid; revoked ones stay listed, and as long as any is listed, requests need a
  key: revoking the last one shuts the door, it does not open it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from service.database import Records
from service.errors import InvalidKey, UnknownKey

Role = Literal["reader", "editor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

SECRET_BYTES = 32
LONGEST_NAME = 80
_FORM = re.compile(r"lb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_COLUMNS = "id, name, role, collections, created_at, revoked_at"


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret."""

    id: str
    name: str
    role: Role
    collections: tuple[str, ...] | None  #: None: all, those that are made later included
    created_at: str
    revoked_at: str | None = None


class Keys:
    """The keys of a data folder, or of services that share a database."""

    def __init__(self, database: Records) -> None:
        self._database = database

    @property
    def remote(self) -> bool:
        """Whether looking a key up crosses a network."""
        return self._database.remote

    @property
    def any(self) -> bool:
        """Whether keys are listed, revoked ones included: then every request needs one."""
        with self._database.reading() as db:
            return db is not None and bool(db.execute("SELECT EXISTS (SELECT 1 FROM keys)").fetchone()[0])

    def all(self) -> list[Key]:
        """Every key, oldest first, revoked ones included."""
        with self._database.reading() as db:
            rows = () if db is None else db.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id")
            return [_key(row) for row in rows]

    def create(self, name: str, role: Role, collections: Sequence[str] | None = None) -> tuple[Key, str]:
        """Make a key; returns it with the text to bring, which cannot be had again.

        Raises:
            InvalidKey: the name is taken or no name, or an admin shall have some collections only.
        """
        name = unicodedata.normalize("NFC", name.strip())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidKey(f"a key's name has 1 to {LONGEST_NAME} printable characters")
        if role == "admin" and collections is not None:
            raise InvalidKey(
                "an admin may do everything, so it cannot be held to some collections; make it an editor"
            )
        if collections is not None and not [c for c in collections if c]:
            raise InvalidKey("name at least one collection, or leave the list out for all of them")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        salt = secrets.token_bytes(16)
        only = (
            None
            if collections is None
            else tuple(sorted({unicodedata.normalize("NFC", c) for c in collections}))
        )
        key = Key(secrets.token_hex(8), name, role, only, _now())
        with self._database.writing() as db:
            if db.execute("SELECT 1 FROM keys WHERE name = ? AND revoked_at IS NULL", (name,)).fetchone():
                raise InvalidKey(
                    f"there is a valid key named {name!r} already: take another name, or revoke it"
                )
            db.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    key.id,
                    name,
                    role,
                    None if only is None else json.dumps(only, ensure_ascii=False),
                    salt,
                    _digest(secret, salt),
                    key.created_at,
                ),
            )
        return key, f"lb_{key.id}_{secret}"

    def revoke(self, named: str) -> Key:
        """Make a key void, by its id or name.

        Raises:
            UnknownKey: no valid key is called that.
        """
        with self._database.writing() as db:
            row = db.execute(
                "UPDATE keys SET revoked_at = ? WHERE revoked_at IS NULL AND (id = ? OR name = ?) "
                f"RETURNING {_COLUMNS}",
                (_now(), named, named),
            ).fetchone()
            if row is None:
                raise UnknownKey(
                    f"no valid key {named!r}; `python -m service keys list` shows those there are"
                )
        return _key(row)

    def forget(self, named: str) -> int:
        """Take revoked keys off the list, by id or name, with the conversations they had; returns how many.

        Raises:
            UnknownKey: no revoked key is called that.
        """
        with self._database.writing() as db:
            gone = db.execute(
                "DELETE FROM keys WHERE revoked_at IS NOT NULL AND (id = ? OR name = ?) RETURNING id",
                (named, named),
            ).fetchall()
            if not gone:
                raise UnknownKey(f"no revoked key {named!r}: a key is revoked before it is forgotten")
            for (owner,) in gone:
                db.execute("DELETE FROM sessions WHERE owner = ?", (owner,))
        return len(gone)

    def find(self, presented: str) -> Key | None:
        """The valid key with this text; takes as long whatever is wrong with the secret."""
        form = _FORM.fullmatch(presented)
        if form is None:
            return None
        with self._database.reading() as db:
            row = (
                None
                if db is None
                else db.execute(
                    f"SELECT {_COLUMNS}, salt, digest FROM keys WHERE id = ?", (form[1],)
                ).fetchone()
            )
        *fields, salt, digest = row or (*[None] * 6, b"", b"\0" * 32)
        same = hmac.compare_digest(_digest(form[2], salt), digest)
        if row is None or not same or fields[-1] is not None:
            return None
        return _key(fields)

    def close(self) -> None:
        """Close connections; the next use opens others."""
        self._database.close()


def _digest(secret: str, salt: bytes) -> bytes:
    return hashlib.blake2b(secret.encode(), key=salt, digest_size=32).digest()


def _key(row: Sequence[str | None]) -> Key:
    key_id, name, role, collections, created_at, revoked_at = row
    assert key_id and name and created_at
    known: Role = next(
        (r for r in ROLES if r == role), "reader"
    )  # what a newer version knows gives least here
    return Key(
        key_id,
        name,
        known,
        None if collections is None else tuple(json.loads(collections)),
        created_at,
        revoked_at,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
