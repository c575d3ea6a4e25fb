"""Mending what a PDF's text layer does to text: pages are drawn, not written.

Everything here is about a page's appearance leaking into its text: words cut at the end of a line, ligatures
drawn as one glyph, Chinese lines broken without a space, glyphs without a meaning. Nothing else is changed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

#: Latin ligatures of fonts; the letters are what the author typed (Unicode Alphabetic Presentation Forms).
_LIGATURES = str.maketrans({chr(c): unicodedata.normalize("NFKC", chr(c)) for c in range(0xFB00, 0xFB07)})
#: A word cut by a hyphen at the end of a line. pdfium puts U+FFFE (or U+0002) where it saw that and removes
#: the break.
_CUT = re.compile(
    "(?P<left>[^\\s\ufffe\x02]*[^\\W\\d_])(?:[\ufffe\x02]|[-\u00ad\u2010]\n)(?P<right>[^\\W\\d_][^\\s\ufffe\x02]*)"
)
_CUT_OTHERWISE = re.compile("[\ufffe\x02]")
_LINE_TAILS = re.compile(r"[ \t\u00a0]+(?=\n|\Z)")
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff"
_CJK_BREAK = re.compile(f"(?<=[{_CJK}\u3001\uff0c\uff08\u300a\u201c])\n(?=[{_CJK}\uff09\u300b\u201d])")
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]"
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+|[^\W\d_]+")
_GLYPH_NAME = re.compile(r"/[A-Za-z]{0,10}\d{1,5}(?=/|\s|\Z)|\(cid:\d+\)")


def mend(pages: Sequence[str]) -> list[str]:
    """The pages' texts with ligatures written out, cut words joined and broken Chinese lines closed.

    A cut word keeps its hyphen where the document elsewhere writes it with one (`well-known`), where it is
    part of an address, or where it carries more hyphens; else it is joined (`exam-` `ple`).
    """
    texts = [
        _LINE_TAILS.sub("", page.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES))
        for page in pages
    ]
    words: set[str] | None = None
    mended = []
    for text in texts:
        if _CUT.search(text):
            if words is None:
                words = {word.casefold() for page in texts for word in _WORD.findall(page)}
            known = words
            text = _CUT.sub(lambda cut: _joined(cut, known), text)  # noqa: B023, PLW2901 - used at once
        mended.append(_close_lines(_CUT_OTHERWISE.sub("-", text).replace("\u00ad", "")))
    return mended


def _joined(cut: re.Match[str], words: set[str]) -> str:
    left, right = cut["left"], cut["right"]
    head = re.search(r"[^\W\d_]+\Z", left)
    tail = re.match(r"[^\W\d_]+", right)
    first, second = (head[0] if head else left), (tail[0] if tail else right)
    hyphenated, whole = f"{first}-{second}".casefold(), f"{first}{second}".casefold()
    if re.search(r"[-/@_:.]", left) or re.match(r"[^\W\d_]*[/@_]", right):  # an address, a file name, a chain
        return f"{left}-{right}"
    if hyphenated in words and whole not in words:
        return f"{left}-{right}"
    if second[0].isupper() and not first.isupper():  # a name such as Jean-Paul
        return f"{left}-{right}"
    return left + right


def _close_lines(text: str) -> str:
    """Join Chinese and Japanese lines where the first is full: they are broken anywhere, without a space."""
    if not _CJK_BREAK.search(text):
        return text
    lines = text.split("\n")
    widths = [len(line) + len(_WIDE.findall(line)) for line in lines]
    full = 0.85 * sorted(widths)[int(0.95 * (len(widths) - 1))]
    closed = [lines[0]]
    for before, line in zip(range(len(lines)), lines[1:], strict=False):
        if widths[before] >= full and line and _CJK_BREAK.search(f"{lines[before][-1:]}\n{line[:1]}"):
            closed[-1] += line
        else:
            closed.append(line)
    return "\n".join(closed)


def is_language(text: str, unmapped: float = 0.0) -> bool:
    """Whether a text layer is text at all, and not glyph numbers, control codes or private-use characters.

    Args:
        text: a page's text as extracted.
        unmapped: share of its glyphs that the font gives no Unicode value for.
    """
    if unmapped > 0.3:
        return False
    signs = [c for c in text if not c.isspace() and c not in "\ufffe\x02\u00ad"]
    if not signs:
        return True
    if sum(len(name) for name in _GLYPH_NAME.findall(text)) > 0.3 * len(signs):
        return False
    odd = sum(unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs") or c == "\ufffd" for c in signs)
    return odd <= 0.3 * len(signs)


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
