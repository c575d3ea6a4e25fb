"""The JSON form of a filter, and back.

    {"field": "author", "op": "=", "value": "Li"}          op: = != < <= > >= ~ in
    {"and": [...]}   {"or": [...]}   {"not": {...}}

A JSON string is taken for the written form (`ingest.filters.text`).
"""

from __future__ import annotations

import math
from typing import Any

from ingest.filters import (
    DEEPEST,
    MOST_CONDITIONS,
    OPERATORS,
    All,
    AnyOf,
    Condition,
    Filter,
    InvalidFilter,
    Not,
    within,
)
from ingest.filters.text import parse
from ingest.types import Scalar


def from_json(value: Any) -> Filter:
    """The filter that a JSON value says.

    Raises:
        InvalidFilter: it says none; the message names the place, as in `filters.and[1].value`.
    """
    if isinstance(value, str):
        return parse(_text(value))
    left = [MOST_CONDITIONS]
    return _tree(value, "filters", 0, left)


def to_json(filter_: Filter) -> dict[str, Any]:
    """The JSON form of a filter."""
    if isinstance(filter_, All):
        return {"and": [to_json(part) for part in filter_.parts]}
    if isinstance(filter_, AnyOf):
        return {"or": [to_json(part) for part in filter_.parts]}
    if isinstance(filter_, Not):
        return {"not": to_json(filter_.part)}
    return {"field": filter_.field, "op": filter_.operator, "value": filter_.value}


def _tree(value: Any, where: str, depth: int, left: list[int]) -> Filter:
    if depth > DEEPEST:
        raise InvalidFilter(f"{where[:200]}: nested deeper than {DEEPEST}.")
    if not isinstance(value, dict):
        raise InvalidFilter(f"{where}: expected an object or the written form, got {type(value).__name__}.")
    keys = set(value)
    for name, kind in (("and", All), ("or", AnyOf)):
        if keys == {name}:
            parts = value[name]
            if not isinstance(parts, list) or not parts:
                raise InvalidFilter(f"{where}.{name}: expected a list with one filter or more.")
            return kind(tuple(_tree(p, f"{where}.{name}[{n}]", depth + 1, left) for n, p in enumerate(parts)))
    if keys == {"not"}:
        return Not(_tree(value["not"], f"{where}.not", depth + 1, left))
    if keys != {"field", "op", "value"}:
        raise InvalidFilter(
            f'{where}: expected {{"field", "op", "value"}}, or one of "and", "or" and "not" alone; got '
            f"{', '.join(map(repr, sorted(map(str, keys))))[:200] or 'nothing'}."
        )
    return _condition(value, where, left)


def _condition(value: dict[str, Any], where: str, left: list[int]) -> Filter:
    field, op, given = value["field"], value["op"], value["value"]
    if not isinstance(field, str) or not field.strip():
        raise InvalidFilter(f"{where}.field: expected the name of a field.")
    name = _text(field.strip().casefold())
    if op not in (*OPERATORS, "in"):
        raise InvalidFilter(f"{where}.op: {str(op)[:40]!r} is none of {', '.join(OPERATORS)} and in.")
    if op == "in":
        if not isinstance(given, list) or not given:
            raise InvalidFilter(f"{where}.value: expected a list with one value or more after in.")
        return within(name, [_value(v, f"{where}.value[{n}]", left) for n, v in enumerate(given)])
    return Condition(name, op, _value(given, f"{where}.value", left))


def _value(value: Any, where: str, left: list[int]) -> Scalar:
    left[0] -= 1
    if left[0] < 0:
        raise InvalidFilter(f"{where}: more than {MOST_CONDITIONS} values to compare with.")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float) and abs(value) <= 1e300 and math.isfinite(value):
        return value
    raise InvalidFilter(f"{where}: expected a text or a number, got {str(value)[:40]}.")


def _text(value: str) -> str:
    """Half a surrogate pair, which JSON can spell and no store can hold, as a question mark."""
    return value.encode("utf-8", "replace").decode()
