"""Numbers and bullets of Word paragraphs: Word stores rules, readers see "2.1" or "•".

WordprocessingML 17.9: a paragraph names a list (`numId`) and a level (`ilvl`); `numbering.xml` gives each
level a format, a start and a pattern such as "%1.%2.". Counting restarts when a paragraph of a higher level
comes in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PLACE = re.compile(r"%([1-9])")
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
    (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip
_CHINESE = "〇一二三四五六七八九"


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a list."""

    format: str  #: "bullet", "decimal", "lowerRoman" ...
    pattern: str  #: "%1.%2."
    start: int


def number_as(value: int, form: str) -> str:
    """`value` in one of Word's number formats; decimal where the format is unknown."""
    if form in ("lowerLetter", "upperLetter") and value > 0:  # z is followed by aa, bb ...
        letter = chr(ord("a") + (value - 1) % 26) * min((value - 1) // 26 + 1, 10)
        return letter.upper() if form == "upperLetter" else letter
    if form in ("lowerRoman", "upperRoman") and 0 < value < 4000:
        roman = ""
        for weight, sign in _ROMAN:
            roman += sign * (value // weight)
            value %= weight
        return roman.upper() if form == "upperRoman" else roman
    if (
        form in ("chineseCounting", "chineseCountingThousand", "japaneseCounting", "taiwaneseCounting")
        and 0 < value < 100
    ):
        tens, ones = divmod(value, 10)
        head = ("" if tens == 1 else _CHINESE[tens]) + "十" if tens else ""
        return head + (_CHINESE[ones] if ones else "")
    if form == "decimalZero":
        return f"{value:02d}"
    return str(value)


class Numbering:
    """The lists of one document, counting as its paragraphs pass by in order."""

    def __init__(self, root: Any | None) -> None:
        """Args: root: the element of `numbering.xml`, None where the document has none."""
        self._levels: dict[tuple[str, int], Level] = {}
        self._abstract_of: dict[str, str] = {}
        self._counts: dict[str, dict[int, int]] = {}
        if root is not None:
            self._load(root)

    def marker(self, number_id: str, level: int) -> str | None:
        """What stands before the next paragraph: "-" for bullets, "2.1." ..., None if it is no list."""
        own = self._levels.get((number_id, level))
        if own is None or own.format == "none":
            return None
        if own.format == "bullet":
            return "-"
        counts = self._counts.setdefault(self._abstract_of.get(number_id, number_id), {})
        counts[level] = counts.get(level, own.start - 1) + 1
        for deeper in [known for known in counts if known > level]:
            del counts[deeper]

        def shown(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            other = self._levels.get((number_id, place), own)
            return number_as(counts.get(place, other.start), other.format)

        return _PLACE.sub(shown, own.pattern).strip() or None

    def _load(self, root: Any) -> None:
        abstract: dict[str, list[tuple[int, Level]]] = {}
        for element in root.iterchildren(f"{W}abstractNum"):
            levels = [(_level(lvl), _described(lvl)) for lvl in element.iterchildren(f"{W}lvl")]
            abstract[element.get(f"{W}abstractNumId", "")] = levels
        for element in root.iterchildren(f"{W}num"):
            number_id = element.get(f"{W}numId", "")
            base = _value(element, "abstractNumId") or ""
            overrides = list(element.iterchildren(f"{W}lvlOverride"))
            # A list that starts anew counts for itself; others of one abstract list go on counting together.
            self._abstract_of[number_id] = f"num {number_id}" if overrides else f"abstract {base}"
            for at, level in abstract.get(base, []):
                self._levels[number_id, at] = level
            for override in overrides:
                at = _level(override)
                if (lvl := override.find(f"{W}lvl")) is not None:
                    self._levels[number_id, at] = _described(lvl)
                elif (
                    (start := _value(override, "startOverride"))
                    and start.isdecimal()
                    and (number_id, at) in self._levels
                ):
                    known = self._levels[number_id, at]
                    self._levels[number_id, at] = Level(known.format, known.pattern, int(start))


def _level(element: Any) -> int:
    at = element.get(f"{W}ilvl") or "0"
    return min(int(at), 8) if at.isdecimal() else 0


def _value(element: Any, child: str) -> str | None:
    found = element.find(f"{W}{child}")
    value = found.get(f"{W}val") if found is not None else None
    return value if isinstance(value, str) else None


def _described(lvl: Any) -> Level:
    start = _value(lvl, "start") or "1"
    return Level(
        _value(lvl, "numFmt") or "decimal",
        (_value(lvl, "lvlText") or "")[:40],
        int(start) if start.isdecimal() and len(start) < 9 else 1,
    )
