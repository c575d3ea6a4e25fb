"""Where the sentences of a text stand: the unit that is quoted, checked and cited.

A sentence is a span of code points into its text, trimmed of white space and never empty; spans are ordered
and do not overlap. Structure comes first: a heading, a list item, a table row, a line of indented JSON and a
fenced code block each end what was before them; only then are paragraphs cut, at CJK full stops and at
Western ones that are not part of a number, a name or an abbreviation. A line that is only a picture is none.
Of a line of JSON whose value is prose, the value is the text and the key its heading, so that no brace, key
or quotation mark is quoted with it; with a few words or a number, the line is one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sentence", "heading", "code", "row"]

ABBREVIATIONS = frozenset(
    [
        "e.g",
        "i.e",
        "etc",
        "vs",
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "jr",
        "sr",
        "no",
        "fig",
        "figs",
        "eq",
        "sec",
        "ch",
        "vol",
        "pp",
        "approx",
        "ca",
        "cf",
        "al",
        "inc",
        "ltd",
        "co",
        "corp",
        "dept",
        "est",
        "u.s",
        "u.k",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "a.d",
        "b.c",
        "a.m",
        "p.m",
        "ph.d",
        "z.b",
        "d.h",
        "u.a",
        "bzw",
        "nr",
        "abs",
        "ggf",
        "inkl",
        "vgl",
        "p",
        "art",
        "para",
        "mt",
        "gen",
        "sen",
        "gov",
        "lt",
        "col",
        "capt",
        "sgt",
        "rev",
        "incl",
        "excl",
    ]
)
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]")
_ITEM = re.compile(
    r"[ \t]*(?:(?:[-*+•‣▪●◦·–]|\d{1,3}[.)]|[a-z][.)]|\(\d{1,2}\))[ \t]+"
    r"|(?:\d{1,3}[、．]|（\d{1,2}）|[(（]?[一二三四五六七八九十]{1,3}[)）、]|[①-⑳])[ \t]*)"
)
_ROW = re.compile(r"[ \t]*\|")
#: A line of a form: Present: Ann, Bo; 时间：三月五日. Below one another, each is a sentence of its own.
_LABEL = re.compile(
    r"[ \t]*[*_]{0,2}(?!\d+[:：])(?=[A-ZÀ-Þ0-9\u3400-\u9fff])[^\s:：。.!?！？，,；;|]{1,20}"
    r"(?: [^\s:：。.!?！？，,；;|]{1,20}){0,2}[:：][*_]{0,2}(?!//)[ \t]*\S"
)
#: A line of indented JSON: a member or a bracket.
_JSON = re.compile(
    r'[ \t]*(?:"(?:[^"\\\n]|\\.)*"[ \t]*:[ \t](?:.*[,{\[\]}"\d]|true|false|null)|[{}\[\]][{}\[\],]*)[ \t]*$'
)
#: A member, or an item of a list, that is a string: what stands before it, and the string.
_STRING = re.compile(r'([ \t]*"(?:[^"\\\n]|\\.)*"[ \t]*:[ \t]*|[ \t]{2,})"((?:[^"\\\n]|\\.)*)",?[ \t]*$')
#: More than a name or a setting: four words, or eight characters of Chinese.
_PROSE = re.compile(r"\S+(?:[ \t]+\S+){3}|(?:[\u3400-\u9fff][^\u3400-\u9fff]*){8}")
#: A line that is a picture and nothing else: Markdown's way to show one says nothing to quote.
_PICTURE = re.compile(r"[ \t]*(?:[-*+][ \t]+)?!\[[^\]\n]*\]\([^()\n]*\)[ \t]*$")
#: A sentence may end here: CJK marks anywhere; Western marks with closing quotes, before white space or the
#: end.
_END = re.compile(
    r"[。！？!?…]+(?![”’」』）)\]\"']*[》〉])[”’」』）)\]\"'*_]*(?:\[\d{1,3}\])*(?=[\s\S]|$)"
    r"|\.+[”’\"')\]*_]*(?:\[\d{1,3}\])*(?=\s|$)"
)
_WORD_BEFORE = re.compile(r"[\w.]+$")
#: German writes the day of a month and a century as an ordinal: 1. März 2024, im 19. Jahrhundert.
_ORDINAL = re.compile(
    r"\s+(?:Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
    r"|Jahrhundert(?:s|er?n?)?)\b"
)
_NEXT = re.compile(r"\s+[\"'“‘(\[*_`]*(\S)")


@dataclass(frozen=True, slots=True)
class Span:
    """One sentence: `text[start:end]`."""

    start: int
    end: int
    kind: Kind = "sentence"


def split(text: str) -> list[Span]:
    """The sentences of a text, in order."""
    spans: list[Span] = []
    for start, end, kind in _blocks(text):
        pieces = _cut(text, start, end) if kind == "sentence" else [(start, end)]
        for first, last in pieces:
            piece = text[first:last]
            if stripped := piece.strip():
                begins = first + len(piece) - len(piece.lstrip())
                spans.append(Span(begins, begins + len(stripped), kind))
    return spans


#: What may stand between the items of one list: their signs and white space.
ITEM_SIGNS = " \t\r\n-*+•‣▪●◦·–0123456789.)(、．（）一二三四五六七八九十①②③④⑤⑥⑦⑧⑨⑩"


def is_item(text: str, start: int) -> bool:
    """Whether the sentence that starts there is the first of an item of a list."""
    line = text.rfind("\n", 0, start) + 1
    found = _ITEM.match(text, line)
    return found is not None and found.end() == start


def _blocks(text: str) -> Iterator[tuple[int, int, Kind]]:
    """Stretches that a sentence never crosses. A list marker is left out of its item."""
    start: int | None = None  # of the paragraph that is open
    fence: tuple[int, str] | None = None
    at = 0
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        end = at + len(line)
        opening = _FENCE.match(line)
        if fence is not None:
            if opening and opening[1].startswith(fence[1]) and not line.strip(" \t\r\n`~"):
                yield fence[0], end, "code"
                fence = None
        elif (
            opening
            or _HEADING.match(line)
            or _ROW.match(line)
            or _JSON.match(line)
            or _prose(line)
            or _PICTURE.match(line)
            or not line.strip()
        ):
            if start is not None:
                yield start, at, "sentence"
                start = None
            if opening:
                fence = (at, opening[1][:3])
            elif prose := _prose(line):
                yield at, at + prose.start(2) - 1, "heading"
                yield at + prose.start(2), at + prose.end(2), "sentence"
            elif heading := _HEADING.match(line):
                yield at + heading.end(), end, "heading"
            elif line.strip() and not _PICTURE.match(line):
                yield at, end, "row"
        elif item := _ITEM.match(line):
            if start is not None:
                yield start, at, "sentence"
            start = at + item.end()
        elif start is None:
            start = at
        elif _LABEL.match(line) and any(
            _LABEL.match(beside) for beside in lines[number - 1 : number + 2 : 2]
        ):
            yield start, at, "sentence"
            start = at
        at = end
    if fence is not None:
        yield fence[0], at, "code"
    elif start is not None:
        yield start, at, "sentence"


def _prose(line: str) -> re.Match[str] | None:
    """A line of JSON whose value is prose: what stands before that, and the prose."""
    found = _STRING.match(line)
    return found if found and _PROSE.search(found[2]) else None


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    for mark in _END.finditer(text, start, end):
        if text[mark.start()] in ".!?" and not _ends(text, mark, end):
            continue
        yield at, mark.end()
        at = mark.end()
    if at < end:
        yield at, end


def _ends(text: str, mark: re.Match[str], end: int) -> bool:
    """Whether a Western mark ends a sentence: not after an abbreviation, not before a small letter."""
    following = _NEXT.match(text, mark.end(), end)
    if following is None:
        return not text[mark.end() : end].strip()  # glued to what follows: 3.5, a.b, why?not
    if following[1].islower():  # below a line that asks stands its answer, however it begins
        return text[mark.start()] in "?!" and "\n" in following[0]
    if text[mark.start()] != "." or mark[0].startswith(".."):
        return True
    before = _WORD_BEFORE.search(text, max(0, mark.start() - 24), mark.start())
    word = before[0].lower() if before else ""
    initial = len(word) == 1 and word.isalpha() and before is not None and before[0].isupper()
    ordinal = word.isdigit() and len(word) < 3 and _ORDINAL.match(text, mark.end(), end)
    return not (initial or ordinal or word in ABBREVIATIONS)
