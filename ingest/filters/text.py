"""The written form of a filter.

    author = "Li" and year >= 2020 or tag in (a, b)
    not (format = pdf) and created < 2026-05 and title ~ "annual report"

`and` binds tighter than `or`, `not` tightest. A value is a number, a word, or a text in quotes; a word that
spells an ISO 8601 date is one wherever it is compared with dates. Numbers are written as in JSON: `007` is a
word. Errors name the place, with the line and a mark under it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from ingest.fields import number_of
from ingest.filters import DEEPEST, MOST_CONDITIONS, All, AnyOf, Condition, Filter, InvalidFilter, Not, within
from ingest.types import Scalar

LONGEST = 20_000
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|“[^”]*”)
    | (?P<operator>==|!=|<>|<=|>=|≤|≥|≠|=|<|>|~)
    | (?P<mark>[(),])
    | (?P<word>[^\s(),=<>!~"'“”≤≥≠]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SAME = {"==": "=", "<>": "!=", "≠": "!=", "≤": "<=", "≥": ">="}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_FIELD = re.compile(r"[^\W\d][\w.-]*")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.casefold() in words

    @property
    def shown(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text[:40])


def parse(text: str) -> Filter:
    """The filter that a text says.

    Raises:
        InvalidFilter: it cannot be understood; the message shows where.
    """
    return _Parser(text).whole()


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > LONGEST:
            raise InvalidFilter(f"The filter has {len(text):,} characters; at most {LONGEST:,} are accepted.")
        self._tokens = self._cut()
        self._at = 0
        self._conditions = 0

    def _cut(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        end = len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                what = "this quote is never closed" if self._text[at] in "\"'“" else "this cannot stand here"
                self._fail(at, what)
            tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            at = match.end()
        return [*tokens, _Token("end", "", end)]

    def _fail(self, at: int, what: str) -> NoReturn:
        line = " ".join(self._text.splitlines()) if "\n" in self._text else self._text
        start = max(0, at - 60)
        shown = line[start : at + 40]
        raise InvalidFilter(
            f"filter, character {at + 1}: {what}.\n  {shown}\n  {' ' * (at - start)}^\n"
            'A filter reads: author = "Li" and year >= 2020 or tag in (a, b)'
        )

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def whole(self) -> Filter:
        """Everything."""
        if self._now.kind == "end":
            self._fail(0, "the filter is empty")
        found = self._or(0)
        if self._now.kind != "end":
            self._fail(self._now.at, f"expected 'and', 'or' or the end, found {self._now.shown}")
        return found

    def _or(self, depth: int) -> Filter:
        parts = [self._and(depth)]
        while self._now.is_word("or"):
            self._next()
            parts.append(self._and(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _and(self, depth: int) -> Filter:
        parts = [self._not(depth)]
        while self._now.is_word("and"):
            self._next()
            parts.append(self._not(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _not(self, depth: int) -> Filter:
        if depth > DEEPEST:
            self._fail(self._now.at, f"nested deeper than {DEEPEST}")
        if self._now.is_word("not"):
            self._next()
            return Not(self._not(depth + 1))
        if self._now.text == "(" and self._now.kind == "mark":
            opened = self._next()
            inside = self._or(depth + 1)
            if self._now.text != ")" or self._now.kind != "mark":
                self._fail(
                    self._now.at,
                    f"expected 'and', 'or' or ) for the ( at {opened.at + 1}, found {self._now.shown}",
                )
            self._next()
            return inside
        return self._condition()

    def _condition(self) -> Filter:
        name = self._next()
        field = name.text.casefold()
        if name.kind != "word" or name.is_word("and", "or", "in") or not _FIELD.fullmatch(field):
            self._fail(name.at, f"expected the name of a field, found {name.shown}")
        turned = self._now.is_word("not")
        if turned:
            self._next()
        if self._now.is_word("in"):
            self._next()
            listed = within(field, self._list())
            return Not(listed) if turned else listed
        compare = self._next()
        if compare.kind != "operator" or turned:
            wanted = "in" if turned else "=, !=, <, <=, >, >=, ~ or in"
            self._fail(compare.at, f"expected {wanted} after {name.shown}, found {compare.shown}")
        value = self._value(compare.text)
        return Condition(field, _SAME.get(compare.text, compare.text), value)  # type: ignore[arg-type]

    def _list(self) -> list[Scalar]:
        opened = self._next()
        if opened.kind != "mark" or opened.text != "(":
            self._fail(opened.at, f"expected ( after in, found {opened.shown}")
        values = [self._value("(")]
        while (mark := self._next()).kind == "mark" and mark.text == ",":
            values.append(self._value(","))
        if mark.kind != "mark" or mark.text != ")":
            self._fail(mark.at, f"expected a comma or ), found {mark.shown}")
        return values

    def _value(self, after: str) -> Scalar:
        token = self._next()
        if token.kind == "quoted":
            value: Scalar = (
                _ESCAPED.sub(r"\1", token.text[1:-1]) if token.text[0] != "“" else token.text[1:-1]
            )
        elif token.kind == "word" and not token.is_word("and", "or", "not", "in"):
            number = number_of(token.text)
            value = token.text if number is None else int(number) if _is_whole(token.text) else number
        else:
            self._fail(token.at, f"expected a value after {after}, found {token.shown}")
        self._conditions += 1
        if self._conditions > MOST_CONDITIONS:
            self._fail(token.at, f"more than {MOST_CONDITIONS} values to compare with")
        return value


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdigit()
