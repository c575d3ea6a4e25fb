"""Filters: which documents a search, a question or a list looks at.

A filter is a small tree: `Condition`s under `All`, `AnyOf` and `Not`. It is written as text
(`author = "Li" and year >= 2020`, `ingest.filters.text`) or as JSON (`ingest.filters.wire`), answered by SQL
(`ingest.store.facts`) and here, by `fits`, which says what the operators mean and is what tests and the store
check SQL against.

What a condition means, for the facts of a field (`ingest.fields.document_facts`; a list has several):

- it holds where it holds for one of them; `!=` is exactly `not =`, so it holds where the field is missing;
- a number is compared with numbers, and a year such as 2020 also with dates;
- a date is compared as the stretch of time that it names: `created = 2020-05` is anywhere in May 2020,
  `created > 2020-05` after May;
- text is compared without regard to case; `~` is "contains"; numbers and dates are not smaller or greater
  than a text.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.errors import IngestError
from ingest.fields import Fact, fold, period, plain
from ingest.types import Scalar

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
OPERATORS: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=", "~")
#: Of one filter. SQLite would take more; nobody writes it, and deeper ones are an attack on a parser.
MOST_CONDITIONS, DEEPEST = 200, 32

_COMPARE: dict[str, Callable[[float, float], bool] | Callable[[str, str], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class InvalidFilter(IngestError):
    """A filter that cannot be understood; the message names the place."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One field compared with one value."""

    field: str  #: folded
    operator: Operator
    value: Scalar


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part or more holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Filter


Filter = Condition | All | AnyOf | Not


def within(field: str, values: Sequence[Scalar]) -> Filter:
    """`field in (a, b)`: equal to one of them."""
    return AnyOf(tuple(Condition(field, "=", value) for value in values))


def moment(value: Scalar) -> tuple[float, float] | None:
    """The stretch of time that a filter's value names, if it names one; a whole number is a year."""
    if isinstance(value, str):
        return period(value)
    if isinstance(value, float) and not value.is_integer():
        return None
    return period(str(int(value))) if 1000 <= value <= 9999 else None


def compares(span: tuple[float, float], operator: Operator) -> tuple[Operator, float]:
    """An order of moments as one comparison: `> May` is `>= June`. Not for `=`, which is two."""
    start, end = span
    if operator in ("<", ">="):
        return operator, start
    return ("<" if operator == "<=" else ">="), end


def fits(filter_: Filter, facts: Mapping[str, Sequence[Fact]]) -> bool:
    """Whether a document with these facts passes; see the head of this module."""
    if isinstance(filter_, All):
        return all(fits(part, facts) for part in filter_.parts)
    if isinstance(filter_, AnyOf):
        return any(fits(part, facts) for part in filter_.parts)
    if isinstance(filter_, Not):
        return not fits(filter_.part, facts)
    if filter_.operator == "!=":
        return not fits(Condition(filter_.field, "=", filter_.value), facts)
    return any(_holds(fact, filter_.operator, filter_.value) for fact in facts.get(filter_.field, ()))


def _holds(fact: Fact, operator: Operator, value: Scalar) -> bool:
    if operator == "~":
        return fold(plain(value)) in fact.text
    if fact.moment is not None and (span := moment(value)) is not None:
        if operator == "=":
            return span[0] <= fact.moment < span[1]
        operator, bound = compares(span, operator)
        return _COMPARE[operator](fact.moment, bound)  # type: ignore[arg-type]
    if not isinstance(value, str):
        return fact.number is not None and _COMPARE[operator](fact.number, float(value))  # type: ignore[arg-type]
    if operator == "=":
        return fact.text == fold(value)
    is_text = fact.number is None and fact.moment is None
    return is_text and _COMPARE[operator](fact.text, fold(value))  # type: ignore[arg-type]
