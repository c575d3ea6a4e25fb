"""Fields of a document: what its file says, what the user set, and the facts that a filter compares.

A value is a text, a number, or a list of these; a date is a text in ISO 8601 (`2026-11`, `2026-11-22`,
`2026-11-22T10:30:00+01:00`). `facts` turns a value into what can be compared: each element has a folded text
and, where it is one, a number or a moment. A filter that is answered by SQL and one that is answered by
`ingest.filters.fits` look at the same facts, so they cannot disagree about what a value is.

The user's own value of a field stands in front of the file's. A file's text is read generously (`"2020"` is a
number, too; keywords and authors are lists); the user's is taken as it was typed.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from ingest.errors import IngestError
from ingest.types import Scalar, StoredDocument, Value

#: What a document is written in, as `ingest.scripts` says, in small letters: "latin, cjk".
SCRIPT = "script"
#: Fields that are what they are; the user cannot set them.
BUILT_IN = ("path", "format", "pages", "characters", "ingested", SCRIPT)
MOST_FIELDS, LONGEST_TEXT, LONGEST_LIST = 64, 4000, 200
_FACT_CHARACTERS = 1000  # of a text that is compared; the rest of a longer one is not looked at
_KEY = re.compile(r"[^\W\d][\w.-]{0,63}")
_WORDS = {"and", "or", "not", "in"}  # of the filter language
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:[T ](?P<hour>\d\d):(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:\.\d{1,9})?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A file's fields that hold several names in one text, and what divides them.
_YAML_LIST = re.compile(r"\[(.*)\]", re.DOTALL)
_LISTS = {
    "keywords": re.compile(r"[,;，；、]"),
    "tags": re.compile(r"[,;，；、]"),
    "author": re.compile(r"[;；、]"),
    SCRIPT: re.compile(r","),
}


class InvalidField(IngestError):
    """A field's name or value that cannot be kept."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One element of a value as it is compared."""

    text: str  #: folded, see `fold`
    number: float | None = None
    moment: float | None = None  #: seconds since 1970, UTC; the start of what the date names


def fold(text: str) -> str:
    """A text as it is compared: no difference of case, width or white space."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = " ".join(plain.replace("\0", " ").split())[:_FACT_CHARACTERS]
    return plain.encode("utf-8", "replace").decode()  # half a surrogate pair is in no stored text


def number_of(text: str) -> float | None:
    """The number that a text spells, as JSON would (`007` is no number)."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def period(text: str) -> tuple[float, float] | None:
    """The stretch of time that an ISO 8601 text names, [start, end) in seconds since 1970.

    `2026` is a year, `2026-11` a month, `2026-11-22` a day. A time without a zone is UTC. None where the text
    is no date.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (
        int(match[name]) if match[name] else None
        for name in ("year", "month", "day", "hour", "minute", "second")
    )
    assert year is not None
    try:
        start = datetime(year, month or 1, day or 1, hour or 0, minute or 0, second or 0, tzinfo=UTC)
        first = (start - _EPOCH).total_seconds()
        if month is None:
            return first, first + 86400.0 * (366 if _is_leap(year) else 365)
        if day is None:
            later = (start + timedelta(days=31)).replace(day=1) if (year, month) < (9999, 12) else None
            return first, (later - _EPOCH).total_seconds() if later else first + 31 * 86400.0
    except (ValueError, OverflowError):
        return None
    first -= _offset_s(match["zone"])
    return first, first + (86400.0 if hour is None else 60.0 if second is None else 1.0)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _offset_s(zone: str | None) -> float:
    if zone is None or zone == "Z":
        return 0.0
    seconds = 3600 * int(zone[1:3]) + 60 * int(zone[-2:])
    return float(-seconds if zone[0] == "-" else seconds)


def plain(value: Scalar) -> str:
    """A value as a text: what `--set` would read back."""
    return value if isinstance(value, str) else json.dumps(value)


def facts(value: Value, *, generous: bool = False) -> tuple[Fact, ...]:
    """What a value can be compared by; with `generous`, a text that spells a number is one, too."""
    found: dict[Fact, None] = {}
    for element in value if isinstance(value, tuple) else (value,):
        if isinstance(element, str):
            text = element.strip()
            span = period(text) if len(text) > 4 else None  # four digits alone are a number or a word
            number = number_of(text) if generous and span is None else None
            found[Fact(fold(text), number, span[0] if span else None)] = None
        else:
            found[Fact(fold(plain(element)), float(element))] = None
    return tuple(found)


def document_facts(document: StoredDocument) -> dict[str, tuple[Fact, ...]]:
    """Everything about a document that a filter can ask for, by field."""
    found: dict[str, tuple[Fact, ...]] = {}
    for key, text in document.metadata.items():
        name = key.casefold()
        if _KEY.fullmatch(name) and name not in _WORDS:
            found[name] = facts(_several(name, text), generous=True)
    if "keywords" in found and "tags" not in found:
        found["tags"] = found["keywords"]
    found["title"] = facts(document.title)
    for key, value in document.own.items():
        found[key] = facts(value)
    return found | {
        "path": (Fact(fold(document.path)),),
        "format": (Fact(fold(PurePosixPath(document.path).suffix.removeprefix("."))),),
        "pages": facts(document.pages),
        "characters": facts(document.characters),
        "ingested": facts(document.ingested_at),
    }


def _several(name: str, text: str) -> Value:
    """A file's value: the whole text, and its parts where it lists several."""
    if name not in _LISTS:
        return text
    listed = _YAML_LIST.fullmatch(text.strip())
    parts = [
        part.strip().strip("\"'") if listed else part.strip()
        for part in _LISTS[name].split(listed[1] if listed else text)
        if part.strip()
    ]
    if listed and len(parts) == 1:
        return (text, *parts)
    return tuple(dict.fromkeys((text, *parts))) if len(parts) > 1 else text


def checked(values: Mapping[str, Any]) -> dict[str, Value | None]:
    """The user's fields, checked; None as a value means: take the field away.

    Raises:
        InvalidField: a name or value that cannot be kept; the message names it.
    """
    if len(values) > MOST_FIELDS:
        raise InvalidField(f"{len(values)} fields; a document has at most {MOST_FIELDS}.")
    return {
        _checked_key(key): None if value is None else _checked(key, value) for key, value in values.items()
    }


def merged(own: Mapping[str, Value], changes: Mapping[str, Value | None]) -> dict[str, Value]:
    """The user's fields after these changes, by name. Raises InvalidField where there are too many."""
    together = {**own, **changes}
    kept = {key: value for key, value in sorted(together.items()) if value is not None}
    if len(kept) > MOST_FIELDS:
        raise InvalidField(f"{len(kept)} fields; a document has at most {MOST_FIELDS}.")
    return kept


def _checked_key(key: str) -> str:
    name = unicodedata.normalize("NFKC", key).casefold()
    if not _KEY.fullmatch(name) or name in _WORDS:
        raise InvalidField(
            f"{key[:80]!r} cannot name a field: a letter first, then letters, digits, '_', '.' and '-', at "
            "most 64, and not one of and, or, not, in."
        )
    if name in BUILT_IN:
        raise InvalidField(f"The field {name!r} cannot be set: it says what the document is.")
    return name


def _checked(key: str, value: Any) -> Value:
    if isinstance(value, list | tuple):
        if len(value) > LONGEST_LIST:
            raise InvalidField(f"The field {key!r} has {len(value)} elements; at most {LONGEST_LIST}.")
        return tuple(_checked_scalar(key, element) for element in value)
    return _checked_scalar(key, value)


def _checked_scalar(key: str, value: Any) -> Scalar:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if abs(value) > 1e300 or not math.isfinite(value):
            raise InvalidField(f"The field {key!r} has a number that cannot be kept: {str(value)[:40]}.")
        return value
    if not isinstance(value, str):
        raise InvalidField(
            f"The field {key!r} has a value of type {type(value).__name__}: give a text, a number, or a list "
            "of these."
        )
    if len(value) > LONGEST_TEXT or any("\ud800" <= c <= "\udfff" or c == "\0" for c in value):
        raise InvalidField(f"The field {key!r} has more than {LONGEST_TEXT} characters, or what is no text.")
    return value


def parse_settings(settings: Iterable[str]) -> dict[str, Value | None]:
    """What `--set key=value` means: a number, a text or date, `[a, b]` a list, nothing takes the field away.

    Quotes make a text of what would be a number or a list. A key that is named again gets both values.

    Raises:
        InvalidField: no `=`, or a name or value that cannot be kept.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key, text = key.strip(), text.strip()
        if not equals:
            raise InvalidField(f"--set {setting!r}: write key=value, or key= to take the field away.")
        value: Any = None
        if text.startswith("[") and text.endswith("]"):
            value = [_typed(part.strip()) for part in text[1:-1].split(",") if part.strip()]
        elif text:
            value = _typed(text)
        if key in found:
            before = found[key] if isinstance(found[key], list) else [found[key]]
            value = [v for v in (*before, *(value if isinstance(value, list) else [value])) if v is not None]
        found[key] = value
    return checked(found)


def _typed(text: str) -> Scalar:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    number = number_of(text)
    if number is None:
        return text
    return int(text) if re.fullmatch(r"-?\d+", text) else number
