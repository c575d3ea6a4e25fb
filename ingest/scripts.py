"""In which scripts a text is written.

An embedder puts texts of one language closer together whatever they say, so who asks in one language and
wants the documents in the other has to search among these alone. What tells languages apart without a model
is the script: Chinese, Japanese and Korean count as one (CJK), for most of their texts share characters.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

_CJK = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"}
#: Characters that are looked at of a text, and of a document in so many places, spread over it.
_LOOKED_AT, _PLACES = 2000, 8
#: A Chinese character says as much as so many letters; a script with so much of a document is one of its own.
_LETTERS_A_CHARACTER, _SHARE = 3, 0.25


def script(text: str) -> str:
    """The script of most letters: LATIN, CJK (Chinese, Japanese and Korean), CYRILLIC, ...; or ""."""
    counted = _counted(text[:_LOOKED_AT])
    return counted.most_common(1)[0][0] if counted else ""


def scripts(text: str) -> tuple[str, ...]:
    """The scripts of a document, the main one first, judged by pieces from all over it; none: no letters."""
    size = _LOOKED_AT // _PLACES
    if len(text) > _LOOKED_AT:
        step = (len(text) - size) / (_PLACES - 1)
        text = " ".join(text[round(i * step) :][:size] for i in range(_PLACES))
    counted = _counted(text)
    if "CJK" in counted:
        counted["CJK"] *= _LETTERS_A_CHARACTER
    least = _SHARE * counted.total()
    return tuple(name for name, count in counted.most_common() if count >= least)


def _counted(text: str) -> Counter[str]:
    """How many letters of each script."""
    counts = Counter(unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha())
    together = Counter[str]()
    for name, count in counts.items():
        together["CJK" if name in _CJK else name] += count
    return together
