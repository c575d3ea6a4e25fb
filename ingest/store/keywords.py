"""The keyword arm: terms, phrases and beginnings of words in SQLite's FTS5, ranked by its BM25.

Everything asked for stands in double quotes, so nothing in a query is FTS5 syntax. A phrase or a beginning
weighs like one more term, by its own frequency.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ingest.store import Match
from ingest.store.rows import one
from ingest.words import Exact

#: A longer question is cut to its rarest terms; beyond this, more words cost time and change no ranking.
MOST_TERMS = 64
#: Passages from which on words that stand in most of them are left out, where rarer ones are asked for.
#: BM25 gives a word that half of the passages have no weight, but SQLite would still score each of these.
LEAVE_OUT_FROM = 10_000
_NO_WEIGHT = 1e-6  #: what `bm25()` takes for the weight of a word that most passages have


def matching(
    connection: sqlite3.Connection,
    passages: int,
    terms: Sequence[str],
    k: int,
    *,
    exact: Sequence[Exact] = (),
    required: bool = False,
    only: tuple[str, list[Any]] | None = None,
) -> list[Match]:
    """See `ingest.store.Reader.matching`. `bm25()` is lower-is-better: flipped here, and nowhere else.

    Args:
        connection: inside a transaction.
        passages: how many there are.
        terms: in any order.
        k: at most so many.
        exact: phrases and beginnings.
        required: whether a passage has to have all of `exact`.
        only: SQL for the chunk ids that may be found, with its values.
    """
    asked = [*map(_quoted, _telling(connection, passages, terms)), *map(_expression, exact)]
    if not asked:
        return []
    limits, values = "", []
    # The plus keeps SQLite from asking the keyword index once for every passage that is allowed.
    if only is not None:
        limits, values = f" AND +rowid IN ({only[0]})", [*only[1]]
    if required and exact:
        limits += " AND +rowid IN (SELECT rowid FROM words WHERE words MATCH ?)"
        values.append(" AND ".join(map(_expression, exact)))
    rows = connection.execute(
        f"SELECT rowid, -bm25(words) AS score FROM words WHERE words MATCH ?{limits}"
        " ORDER BY score DESC, rowid LIMIT ?",
        (" OR ".join(asked), *values, k),
    )
    return [Match(chunk_id, score) for chunk_id, score in rows]


def information(connection: sqlite3.Connection, passages: int, terms: Sequence[str | Exact]) -> list[float]:
    """ln((N - n + 1/2) / (n + 1/2)), at least 1e-6, as in SQLite's `bm25()`; see `Reader.information`."""
    return [weight(passages, _rarest(connection, term)) for term in terms]


def weight(passages: int, having: int) -> float:
    """What a word counts that so many of the passages have."""
    if having >= passages:
        return _NO_WEIGHT
    return max(_NO_WEIGHT, math.log((passages - having + 0.5) / (having + 0.5)))


def _rarest(connection: sqlite3.Connection, term: str | Exact) -> int:
    """How many passages have a term; of a beginning, its rarest alternative that there is."""
    if isinstance(term, str):
        return one(connection, "SELECT doc FROM words_df WHERE term = ?", term) or 0
    count = "SELECT count(*) FROM words WHERE words MATCH ?"
    if not term.is_prefix:
        return int(one(connection, count, _expression(term)))
    found = [int(one(connection, count, _quoted(beginning) + "*")) for beginning in term.terms]
    return min((n for n in found if n), default=0)


def _telling(connection: sqlite3.Connection, passages: int, terms: Iterable[str]) -> list[str]:
    """The distinct terms that are worth looking up."""
    distinct = list(dict.fromkeys(terms))
    if len(distinct) <= MOST_TERMS and passages < LEAVE_OUT_FROM:
        return distinct
    return telling({term: _rarest(connection, term) for term in distinct}, passages)


def telling(frequencies: Mapping[str, int], passages: int) -> list[str]:
    """Of terms, with how many passages have each: the rarest; in a large collection none that most have."""
    known = sorted((t for t in frequencies if frequencies[t]), key=lambda t: (frequencies[t], t))[:MOST_TERMS]
    rare = [t for t in known if 2 * frequencies[t] < passages] if passages >= LEAVE_OUT_FROM else []
    return rare or known


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _expression(exact: Exact) -> str:
    if exact.is_prefix:
        return "(" + " OR ".join(_quoted(beginning) + "*" for beginning in exact.terms) + ")"
    return _quoted(" ".join(exact.terms))
