"""Filters as Milvus expressions, and the facts that they compare.

Beside each passage stands what is known of its document (`ingest.fields.document_facts`), in a form in which
every operator of `ingest.filters` is exact: a list of texts for equality, extremes for order, tokens of year,
month, day, minute and second for dates. What the operators mean is said by `ingest.filters.fits`.

Engines differ in what `not` makes of a comparison with a field that is missing. So `not` is carried inwards
to the single condition, and asks there whether the field exists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.errors import IngestError
from ingest.fields import Fact, fold, plain
from ingest.filters import All, AnyOf, Condition, Filter, Not, compares, moment
from ingest.store.milvus import tables

_NOTHING, _EVERYTHING = "row < 0", "row >= 0"
_HIGH, _LOW = 1e308, -1e308  # beyond every number that a field can have
_LAST = "\U0010ffff"  # after every text
_BREAK = "\ue005"  # between the texts of a list, so that none contains what spans two
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def known(facts: Mapping[str, Sequence[Fact]]) -> dict[str, Any]:
    """The facts of a document as they stand beside its passages.

    Raises:
        IngestError: they are longer than Milvus takes.
    """
    told = {tables.plain(field): _field(found) for field, found in facts.items()}
    if (size := len(json.dumps(told, ensure_ascii=False).encode())) > tables.LONGEST:
        raise IngestError(
            f"The fields of a document take {size:,} bytes; Milvus keeps at most {tables.LONGEST:,} beside a "
            "passage."
        )
    return told


def _field(facts: Sequence[Fact]) -> dict[str, Any]:
    numbers = [fact.number for fact in facts if fact.number is not None]
    moments = [fact.moment for fact in facts if fact.moment is not None]
    texts = [tables.plain(fact.text) for fact in facts]
    ordered = [f" {tables.plain(f.text)}" for f in facts if f.number is None and f.moment is None]
    return {
        "t": texts,
        "u": [tables.plain(fact.text) for fact in facts if fact.moment is None],
        "n": [repr(number) for number in numbers],
        "d": sorted({token for at in moments for token in _tokens(at)}),
        "j": _BREAK.join(texts),
        "n0": min(numbers, default=_HIGH),
        "n1": max(numbers, default=_LOW),
        "d0": min(moments, default=_HIGH),
        "d1": max(moments, default=_LOW),
        "t0": min(ordered, default=_LAST),
        "t1": max(ordered, default=""),
    }


def _tokens(at: float) -> list[str]:
    """The year, month, day, minute and second in which a moment lies; `_token` names a stretch likewise."""
    found = [f"s{int(at // 1)}", f"i{int(at // 60)}", f"d{int(at // 86400)}"]
    day = _EPOCH + timedelta(days=int(at // 86400))
    return [*found, f"m{day.year}-{day.month}", f"y{day.year}"]


def _token(span: tuple[float, float]) -> str:
    """What a year, month, day, minute or second is called (`ingest.fields.period` gives no other stretch)."""
    start, length = span[0], span[1] - span[0]
    for unit, seconds in (("s", 1), ("i", 60), ("d", 86400)):
        if length == seconds:
            return f"{unit}{int(start // seconds)}"
    day = _EPOCH + timedelta(days=int(start // 86400))
    return f"y{day.year}" if length > 31 * 86400 else f"m{day.year}-{day.month}"


def among(filter_: Filter, holds: bool = True) -> str:
    """The expression that passages of documents pass for which the filter holds, or does not."""
    if isinstance(filter_, Not):
        return among(filter_.part, not holds)
    if isinstance(filter_, All | AnyOf):
        every = isinstance(filter_, All) is holds
        return _joined([among(part, holds) for part in filter_.parts], every=every)
    if filter_.operator == "!=":
        return among(Condition(filter_.field, "=", filter_.value), not holds)
    field = f'facts["{tables.plain(filter_.field)}"]'
    test = _test(filter_, field)
    return f"(exists {field} and {test})" if holds else f"(not exists {field} or not {test})"


def _joined(parts: Sequence[str], *, every: bool) -> str:
    if not parts:
        return _EVERYTHING if every else _NOTHING
    return f"({(' and ' if every else ' or ').join(parts)})"


def _test(condition: Condition, field: str) -> str:
    """The condition on a field that exists; the same cases as in `ingest.filters`."""
    operator, value = condition.operator, condition.value
    if operator == "~":
        return f'({field}["j"] like "%{tables.plain(fold(plain(value)))}%")'
    cases = []
    span = moment(value)
    if span is not None:
        if operator == "=":
            cases.append(f'json_contains({field}["d"], "{_token(span)}")')
        else:
            compare, bound = compares(span, operator)
            cases.append(_ordered(field, "d", compare, repr(bound)))
    if not isinstance(value, str):
        number = float(value)
        if operator == "=":
            cases.append(f'json_contains({field}["n"], "{number!r}")')
        else:
            cases.append(_ordered(field, "n", operator, repr(number)))
    elif operator == "=":
        texts = "u" if span is not None else "t"
        cases.append(f'json_contains({field}["{texts}"], "{tables.plain(fold(value))}")')
    else:
        cases.append(_ordered(field, "t", operator, f'" {tables.plain(fold(value))}"'))
    return _joined(cases, every=False)


def _ordered(field: str, kind: str, operator: str, bound: str) -> str:
    """One of several is smaller where the smallest is, greater where the greatest is."""
    return f'{field}["{kind}{0 if operator[0] == "<" else 1}"] {operator} {bound}'
