"""The keyword arm on Milvus: its BM25 proposes passages, the embedded store's BM25 scores them.

Milvus weighs words a little differently from SQLite, and a Lite file returns the scores with another sign. So
that a score means the same in both stores, and a threshold does, too, what Milvus proposes is scored here, by
the formula of `ingest.store.keywords`: from the passage's own terms, how many passages have each term, and
the mean length. Only a passage that Milvus ranks below `_DEEPER` times the wanted number can be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ingest.store import Match, keywords
from ingest.store.milvus import tables
from ingest.store.milvus.server import Row, Server
from ingest.words import Exact

_K1, _B = 1.2, 0.75
_DEEPER, _LEAST, _MOST = 4, 200, 16_000
#: Passages with a beginning of a word that are looked at: Milvus does not rank them.
_UNRANKED = 2000
_AT_ONCE = 8

Find = Callable[[str, str, int], list[Row]]  #: words as codes, condition, how many -> passages, best first


class Words:
    """The words of one generation; counts are asked once."""

    def __init__(self, server: Server, collection: str, visible: str, *, passages: int, words: int) -> None:
        self._server = server
        self._collection = collection
        self._visible = visible
        self._passages = passages
        self._mean = words / max(passages, 1)
        self._counts: dict[str, int] = {}

    def matching(
        self,
        terms: Sequence[str],
        k: int,
        *,
        where: str | None,
        exact: Sequence[Exact],
        required: bool,
        find: Find,
        read: Callable[[str, int], list[Row]],
    ) -> list[Match]:
        """See `ingest.store.Reader.matching`; `find` ranks by words, `read` takes what passes a condition."""
        asked = self._telling(terms)
        if not asked and not exact:
            return []
        allowed = [where] if where else []
        if required:
            allowed += [_has(one) for one in exact]
        condition = " and ".join(allowed)
        codes = [
            tables.code(term) for term in (*asked, *(t for e in exact if not e.is_prefix for t in e.terms))
        ]
        rows: dict[int, Row] = {}
        if codes:
            depth = min(_MOST, max(_LEAST, _DEEPER * k))
            rows |= {row["chunk_id"]: row for row in find(" ".join(dict.fromkeys(codes)), condition, depth)}
        if beginnings := [_has(one) for one in exact if one.is_prefix]:
            either = f"({' or '.join(beginnings)})"
            also = f"{condition} and {either}" if condition else either
            rows |= {row["chunk_id"]: row for row in read(also, _UNRANKED)}
        units = [_unit(term) for term in asked]
        units += [unit for one in exact for unit in _units(one)]
        weights = [keywords.weight(self._passages, n) for n in self._count(units)]
        scores = {chunk_id: self._score(row["terms"], units, weights) for chunk_id, row in rows.items()}
        found = sorted((-score, chunk_id) for chunk_id, score in scores.items() if score > 0)
        return [Match(chunk_id, -score) for score, chunk_id in found[:k]]

    def information(self, terms: Sequence[str | Exact]) -> list[float]:
        """See `ingest.store.Reader.information`."""
        units = [(_unit(term),) if isinstance(term, str) else _units(term) for term in terms]
        self._count([unit for alternatives in units for unit in alternatives])
        found = [[n for n in self._count(alternatives) if n] for alternatives in units]
        return [keywords.weight(self._passages, min(counts, default=0)) for counts in found]

    def _telling(self, terms: Sequence[str]) -> list[str]:
        """As in the embedded store: the rarest of very many, none that most of a large collection has."""
        distinct = list(dict.fromkeys(terms))
        if len(distinct) <= keywords.MOST_TERMS and self._passages < keywords.LEAVE_OUT_FROM:
            return distinct
        counts = dict(zip(distinct, self._count([_unit(term) for term in distinct]), strict=True))
        return keywords.telling(counts, self._passages)

    def _score(self, terms: str, units: Sequence[str], weights: Sequence[float]) -> float:
        length = len(terms.split())
        score = 0.0
        for unit, weight in zip(units, weights, strict=True):
            if n := _times(unit, terms):
                score += weight * n * (_K1 + 1) / (n + _K1 * (1 - _B + _B * length / self._mean))
        return score

    def _count(self, units: Sequence[str]) -> list[int]:
        """How many passages have each."""
        unknown = [unit for unit in dict.fromkeys(units) if unit not in self._counts]
        if unknown:
            with ThreadPoolExecutor(min(_AT_ONCE, len(unknown))) as pool:
                self._counts |= zip(unknown, pool.map(self._ask, unknown), strict=True)
        return [self._counts[unit] for unit in units]

    def _ask(self, unit: str) -> int:
        whole = unit.endswith(" ") and " " not in unit[1:-1]
        if whole:
            test = f'text_match(codes, "{tables.code(_unexchanged(unit.strip()))}")'
        else:
            test = f'terms like "%{unit}%"'
        return self._server.count(self._collection, f"{test} and {self._visible}")


def _unexchanged(term: str) -> str:
    return term.replace("\ue001", "_").replace("\ue004", "'")


def _unit(term: str) -> str:
    """A term as it stands in `terms`: with a space on both sides."""
    return tables.spaced([term])


def _units(exact: Exact) -> tuple[str, ...]:
    """A phrase as it stands in `terms`; of a beginning each alternative, with a space in front only."""
    if exact.is_prefix:
        return tuple(tables.spaced([term])[:-1] for term in exact.terms)
    return (tables.spaced(exact.terms),)


def _has(exact: Exact) -> str:
    """The condition that a passage has it."""
    return "(" + " or ".join(f'terms like "%{unit}%"' for unit in _units(exact)) + ")"


def _times(unit: str, terms: str) -> int:
    """How often it stands there; the space at the end of one is that at the start of the next."""
    found, at = 0, terms.find(unit)
    while at >= 0:
        found += 1
        at = terms.find(unit, at + 1)
    return found
