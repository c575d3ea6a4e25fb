r"""What every parser does to text before it is stored, and nothing more.

Stored text is what citations are cut from, so it is changed as little as possible:

- line ends become `\n` (also form feed, vertical tab and the Unicode line and paragraph separators);
- characters that are no text are dropped: C0 and C1 controls other than tab, lone surrogates, noncharacters,
  a leading byte order mark.

It is *not* brought into a Unicode normal form: a quote must be found in the file by whoever looks for it, and
NFC would change, for instance, Hangul and Arabic as their authors typed them. Search normalises its own
terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ingest.types import Section

LONGEST_TITLE = 200
"""Characters of a title or heading that are kept; a longer one is a paragraph in disguise."""

_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_RAISABLE = re.compile(r"\s*([+\-−]?\d{1,6}[+\-−]?)\s*")
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_SPACES = re.compile(r"\s+")


def tidy(text: str) -> tuple[str, int]:
    """The text as it will be stored, and how many characters were dropped because they are no text."""
    text, dropped = _NO_TEXT.subn("", _LINE_ENDS.sub("\n", text))
    return text.removeprefix("\ufeff"), dropped


def raised(text: str) -> str:
    """What is written above the line: digits as characters of their own, so that 10 to the 6th is not 106."""
    number = _RAISABLE.fullmatch(text)
    return number[1].translate(_RAISED) if number else text


def one_line(title: str) -> str:
    """A title or heading on one line, at most `LONGEST_TITLE` characters."""
    line = _SPACES.sub(" ", tidy(title)[0]).strip()
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1].rstrip() + "…"


def sections_of(headings: Iterable[tuple[int, int, str]], length: int) -> tuple[Section, ...]:
    """Sections that cover `[0, length)`, from headings as (char_start, level, title) in order of their place.

    Levels may skip (an h4 below an h2 is its child). A heading without a title ends the section before it and
    hangs its text below the next outer heading. Of several headings at one place all count, the last one
    opens the section.
    """
    sections: list[Section] = []
    stack: list[tuple[int, str]] = []
    start = 0

    def close(end: int) -> None:
        if end > start:
            sections.append(Section(tuple(title for _, title in stack if title), start, end))

    for at, level, title in headings:
        close(at)
        start = max(start, at)
        while stack and stack[-1][0] >= level:
            stack.pop()
        stack.append((level, one_line(title)))
    close(length)
    return tuple(sections)
