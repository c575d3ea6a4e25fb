"""What is known about documents beside their text: the user's own fields, and the facts that filters compare.

Tables `own` (by path, so that a changed file does not lose them) and `facts` (by document; derived, and
written in the transaction that changes what they are derived from). A filter becomes SQL over `facts`; what
its operators mean is said, and checked again on every hit, by `ingest.filters.fits`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ingest.fields import document_facts, fold, merged, plain
from ingest.filters import All, AnyOf, Condition, Filter, Not, compares, moment
from ingest.store.rows import DOCUMENT, columns, one, stored_document
from ingest.store.schema import checksum, damaged
from ingest.types import StoredDocument, Value

Sql = tuple[str, list[Any]]


def own_of(fields: str, path: str, stored: bytes, file: Path) -> dict[str, Value]:
    """The user's fields of a document, from its row.

    Raises:
        IndexDamaged: the row is not what was written.
    """
    if checksum(path, fields) != stored:
        raise damaged(file, f"the fields that were set for {path!r} do not match their checksum")
    found = json.loads(fields)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def read_own(connection: sqlite3.Connection, path: str, file: Path) -> dict[str, Value]:
    """The user's fields of the document of this path."""
    row = connection.execute("SELECT fields, path, checksum FROM own WHERE path = ?", (path,)).fetchone()
    return {} if row is None else own_of(row[0], row[1], row[2], file)


def read_all_own(connection: sqlite3.Connection, file: Path) -> dict[str, dict[str, Value]]:
    """The user's fields of all documents that have some, by path."""
    rows = connection.execute("SELECT fields, path, checksum FROM own")
    return {path: own_of(fields, path, stored, file) for fields, path, stored in rows}


def change_own(
    connection: sqlite3.Connection, path: str, changes: Mapping[str, Value | None], file: Path
) -> None:
    """Set and take away fields of a document; `write_facts` has to follow."""
    kept = merged(read_own(connection, path, file), changes)
    if not kept:
        connection.execute("DELETE FROM own WHERE path = ?", (path,))
        return
    fields = json.dumps(kept, ensure_ascii=False, sort_keys=True)
    connection.execute(
        "INSERT OR REPLACE INTO own (path, fields, checksum) VALUES (?, ?, ?)",
        (path, fields, checksum(path, fields)),
    )


def fact_rows(number: int, document: StoredDocument) -> list[tuple[Any, ...]]:
    """What table `facts` holds for a document."""
    return [
        (number, field, place, fact.text, fact.number, fact.moment)
        for field, facts in sorted(document_facts(document).items())
        for place, fact in enumerate(facts)
    ]


def write_facts(connection: sqlite3.Connection, number: int, document: StoredDocument) -> None:
    """Enter a document's facts in the place of those that were there."""
    connection.execute("DELETE FROM facts WHERE document = ?", (number,))
    connection.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)", fact_rows(number, document))


def refill(connection: sqlite3.Connection, file: Path | None = None) -> None:
    """Derive the facts of every document anew."""
    file = file or Path(connection.execute("PRAGMA database_list").fetchone()[2])
    own = read_all_own(connection, file)
    rows = connection.execute(f"SELECT number, {columns(DOCUMENT, 'd')} FROM documents d").fetchall()
    for number, *row in rows:
        write_facts(connection, number, stored_document(row, file, own))


def annotate(
    connection: sqlite3.Connection, changes: Mapping[str, Mapping[str, Value | None]], file: Path
) -> list[str]:
    """Set and take away fields of documents, by path; returns the paths that are there."""
    changed: list[str] = []
    for path, fields in changes.items():
        row = connection.execute(
            f"SELECT number, {columns(DOCUMENT, 'd')} FROM documents d WHERE path = ?", (path,)
        ).fetchone()
        if row is not None:
            change_own(connection, path, fields, file)
            document = stored_document(row[1:], file, {path: read_own(connection, path, file)})
            write_facts(connection, row[0], document)
            changed.append(path)
    return changed


def among(filter_: Filter) -> Sql:
    """The condition on `d.number` that a filter means, with the values to bind."""
    if isinstance(filter_, All | AnyOf):
        sql, values = _joined([among(part) for part in filter_.parts], isinstance(filter_, All))
        return sql, values
    if isinstance(filter_, Not):
        sql, values = among(filter_.part)
        return f"NOT {sql}", values
    if filter_.operator == "!=":
        sql, values = among(Condition(filter_.field, "=", filter_.value))
        return f"NOT {sql}", values
    test, values = _test(filter_)
    return f"d.number IN (SELECT document FROM facts WHERE field = ? AND {test})", [filter_.field, *values]


def _joined(parts: Iterable[Sql], every: bool) -> Sql:
    parts = list(parts)
    if not parts:
        return ("1" if every else "0"), []
    sql = f" {'AND' if every else 'OR'} ".join(part for part, _ in parts)
    return f"({sql})", [value for _, values in parts for value in values]


def _test(condition: Condition) -> Sql:
    """The condition on one fact; the same cases as in `ingest.filters`."""
    operator, value = condition.operator, condition.value
    if operator == "~":
        return "instr(text, ?) > 0", [fold(plain(value))]
    cases: list[Sql] = []
    span = moment(value)
    if span is not None and operator == "=":
        cases.append(("moment >= ? AND moment < ?", list(span)))
    elif span is not None:
        bounded, bound = compares(span, operator)
        cases.append((f"moment {bounded} ?", [bound]))
    undated = "moment IS NULL AND " if span is not None else ""
    if not isinstance(value, str):
        cases.append((f"{undated}number {operator} ?", [float(value)]))
    elif operator == "=":
        cases.append((f"{undated}text = ?", [fold(value)]))
    else:
        cases.append((f"moment IS NULL AND number IS NULL AND text {operator} ?", [fold(value)]))
    return _joined([(f"({sql})", values) for sql, values in cases], every=False)


def check_facts(connection: sqlite3.Connection, file: Path) -> Iterator[str]:
    """What is wrong with `own` and `facts`, as sentences."""
    own = read_all_own(connection, file)
    paths = {path for (path,) in connection.execute("SELECT path FROM documents")}
    for path in sorted(set(own) - paths):
        yield f"fields are set for {path!r}, which is no document"
    rows = connection.execute(f"SELECT number, {columns(DOCUMENT, 'd')} FROM documents d").fetchall()
    for number, *row in rows:
        expected = fact_rows(number, stored_document(row, file, own))
        found = connection.execute(
            "SELECT document, field, place, text, number, moment FROM facts WHERE document = ?"
            " ORDER BY field, place",
            (number,),
        ).fetchall()
        if found != expected:
            yield f"document {row[1]!r}: what filters compare is not what is known about it"
    strange = "SELECT count(*) FROM facts WHERE document NOT IN (SELECT number FROM documents)"
    if count := one(connection, strange):
        yield f"{count} facts belong to no document"
