"""The year that a question is about, and passages of another: an allowance of 2023 is not that of 2024.

A passage is of a year if its title, headings or file say so. What it says itself counts for more: a report of
2024 that speaks of 2023 in the passage answers a question about 2023. Where nothing says a year, nothing is
told.
"""

from __future__ import annotations

import re

from ingest.types import Hit

_ONE, _NO_MORE = r"(?<![\d.])(?:19|20)\d\d", r"(?!\d|[.,]\d)"
#: A year that stands in a text.
YEAR = re.compile(_ONE + _NO_MORE)
#: A year, or several of them: 2023, 2023/24, 2021-2024.
_YEARS = re.compile(rf"({_ONE})(?:\s?[/–—-]\s?(\d{{4}}|\d\d)(?![\d-]))?{_NO_MORE}")
_LONGEST = 30
#: Behind a number, what makes it an amount.
_COUNTED = re.compile(
    r"\s*(?:%|[元人个個件米块塊次字份只条條]|(?:euros?|dollars?|pounds?|people|persons?|employees|customers|words|tokens"
    r"|characters|items|pieces|units|metres?|meters?|miles|km|kg|m|g|w|watts?|calories|kcal|usd|eur|gbp|rmb|yuan)\b)",
    re.IGNORECASE,
)
#: In front of a year, or behind it, what makes it the end of a longer time.
_SINCE = re.compile(
    r"(?:\b(?:since|after|before|until|till|by|from|to|than)|[自从從到至])"
    r"\s*(?:the )?(?:(?:end|start|beginning|year) (?:of )?)?$",
    re.IGNORECASE,
)
_SINCE_BEHIND = re.compile(
    r"\s*年?(?:\d{1,2}月)?(?:\d{1,2}[日号號])?(?:以|之)?(?:来|來|后|後|前|起|至今)"
    r"|\s*(?:onwards?|or later|or earlier)\b"
)
_MONEY = re.compile(r"[$€£¥￥#]\s?$")


def asked(question: str) -> frozenset[int]:
    """The years that a question is about; none where it names the end of a longer time, or an amount."""
    found: set[int] = set()
    for year in _YEARS.finditer(question):
        before, behind = question[: year.start()], question[year.end() :]
        if _SINCE.search(before) or _SINCE_BEHIND.match(behind):
            return frozenset()
        if not (_COUNTED.match(behind) or _MONEY.search(before)):
            found |= _all(year)
    return frozenset(found)


def said(text: str) -> frozenset[int]:
    """The years that a text names."""
    return frozenset().union(*map(_all, _YEARS.finditer(text)))


def of_another(question: str, hit: Hit) -> bool:
    """Whether a passage is of another year than the question asks about."""
    wanted = asked(question)
    if not wanted:
        return False
    own = said(" ".join((hit.title, *hit.heading_path, hit.path.rpartition("/")[2])))
    return bool(own) and own.isdisjoint(wanted) and said(hit.text).isdisjoint(wanted)


def _all(found: re.Match[str]) -> frozenset[int]:
    first, last = int(found[1]), found[2]
    if last is None:
        return frozenset((first,))
    end = int(last) if len(last) == 4 else first // 100 * 100 + int(last)
    return frozenset(range(first, end + 1)) if first < end <= first + _LONGEST else frozenset((first,))
