"""Mending what a PDF's text layer does to text: pages are drawn, not written.

Everything here is about a page's appearance leaking into its text: words cut at the end of a line, ligatures
drawn as one glyph, Chinese lines broken without a space, glyphs without a meaning. Nothing else is changed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

#: Latin ligatures of fonts; the letters are what the author typed (Unicode Alphabetic Presentation Forms).
_LIGATURES = {chr(c): unicodedata.normalize("NFKC", chr(c)) for c in range(0xFB00, 0xFB07)}
#: Where a word is cut at the end of a line. pdfium puts U+FFFE (or U+0002) there and removes the break.
_CUT = re.compile("[\ufffe\x02]|[-\u00ad\u2010]\n")
_MARKS = "\ufffe\x02"
_REACH = 60  #: characters that are looked at on each side of a cut
_LINE_TAILS = re.compile(r"(?<![ \t\u00a0])[ \t\u00a0]++(?=\n|\Z)")
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff"
_CJK_BREAK = re.compile(f"(?<=[{_CJK}\u3001\uff0c\uff08\u300a\u201c])\n(?=[{_CJK}\uff09\u300b\u201d])")
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]"
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_NO_SIGN = re.compile("[\x00\x01\x03-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd\uffff\U000f0000-\U0010ffff]")
_GLYPH_NAME = re.compile(r"/[A-Za-z]{0,10}\d{1,5}(?=/|\s|\Z)|\(cid:\d+\)")


def mend(pages: Sequence[str]) -> list[str]:
    """The pages' texts with ligatures written out, cut words joined and broken Chinese lines closed.

    A cut word keeps its hyphen where the document elsewhere writes it with one (`well-known`), where it is
    part of an address, or where it carries more hyphens; else it is joined (`exam-` `ple`).
    """
    texts = [_LINE_TAILS.sub("", _letters(page.replace("\r\n", "\n").replace("\r", "\n"))) for page in pages]
    words: set[str] = set()
    if any(_CUT.search(text) for text in texts):
        words = {word.casefold() for text in texts for word in _WORD.findall(text)}
    return [
        _close_lines(_CUT.sub(lambda cut: _mark(cut, words), text).replace("\u00ad", "")) for text in texts
    ]


def _letters(text: str) -> str:
    for ligature, letters in _LIGATURES.items():  # many times faster than `translate`: most texts have none
        text = text.replace(ligature, letters)
    return text


def _mark(cut: re.Match[str], words: set[str]) -> str:
    """What stands in the place of a cut: nothing, a hyphen, or what was there."""
    before = cut.string[max(0, cut.start() - _REACH) : cut.start()]
    after = cut.string[cut.end() : cut.end() + _REACH]
    if not (before[-1:].isalpha() and after[:1].isalpha()):
        return "-" if cut[0] in _MARKS else cut[0]
    left = re.split(r"[\s\ufffe\x02]", before)[-1]
    right = re.split(r"[\s\ufffe\x02]", after, maxsplit=1)[0]
    first, second = re.split(r"[\W\d_]", left)[-1], re.split(r"[\W\d_]", right, maxsplit=1)[0]
    if re.search(r"[-/@_:.]", left) or re.search(
        r"[/@_]", right
    ):  # an address, a file name, a chain of words
        return "-"
    if f"{first}-{second}".casefold() in words and f"{first}{second}".casefold() not in words:
        return "-"
    if second[0].isupper() and not first.isupper():  # a name such as Jean-Paul
        return "-"
    return ""


def _close_lines(text: str) -> str:
    """Join Chinese and Japanese lines where the first is full: they are broken anywhere, without a space."""
    if not _CJK_BREAK.search(text):
        return text
    lines = text.split("\n")
    widths = [len(line) + len(_WIDE.findall(line)) for line in lines]
    full = 0.85 * sorted(widths)[int(0.95 * (len(widths) - 1))]
    parts = [lines[0]]
    for width, (before, line) in zip(widths, pairwise(lines), strict=False):
        closes = width >= full and _CJK_BREAK.search(f"{before[-1:]}\n{line[:1]}")
        parts += ("" if closes else "\n", line)
    return "".join(parts)


def is_language(text: str, unmapped: float = 0.0) -> bool:
    """Whether a text layer is text at all, and not glyph numbers, control codes or private-use characters.

    Args:
        text: a page's text as extracted.
        unmapped: share of its glyphs that the font gives no Unicode value for.
    """
    if unmapped > 0.3:
        return False
    signs = len("".join(text.split()))
    if sum(len(name) for name in _GLYPH_NAME.findall(text)) > 0.3 * signs:
        return False
    return len(_NO_SIGN.findall(text)) <= 0.3 * signs


def ranges(numbers: Sequence[int]) -> str:
    """Page numbers for a message: "3", "2-5, 9"."""
    parts: list[str] = []
    start = last = None
    for number in [*numbers, None]:
        if last is not None and number == last + 1:
            last = number
            continue
        if start is not None:
            parts.append(f"{start}" if start == last else f"{start}-{last}")
        start = last = number
    return ", ".join(parts)
