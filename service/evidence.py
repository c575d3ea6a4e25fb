"""How much of a sentence's content stands in a stretch of text: words, numbers and names, not meaning.

The measure is lexical on purpose: it can be recomputed by anyone who reads the reply. Its terms are those of
the keyword arm (`ingest.words`: stems, identifiers, numbers, pairs of Chinese characters) without function
words. Support is the weighted share of them that the stretch has; a number that the stretch lacks, or a
negation on one side only, means none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ingest import words

#: Beside grammar, the words with which questions ask and with which small models introduce what they say.
_FUNCTION_WORDS = frozenset(
    words.terms(
        """a about after again all also although am an and another any are as at be because been before being but by can
        could did do does doing done during each either else ever few for from further get gets got had has have having he
        her here hers him his how however i if in into is it its itself just let like many may me might more most much
        must my neither never no none nor not now of off often on once one only onto or other our ours out over own per
        please quite rather same say says shall she should since so some such than that the their theirs them then there
        these they this those though through thus to too under until up upon us use used using very via was we were what
        when where whether which while who whom whose why will with within without would yes yet you your yours
        answer context according based provided passage passages text mention mentioned tell give explain describe know
        mean means find called known name"""
    )
)
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
#: Characters that carry grammar rather than content; a pair made of them alone is no term.
_CJK_FUNCTION = frozenset(
    "的了是在和与及或也都很就而之其这那有为以于上下中到从对把被让给吗呢吧啊么什怎哪谁几多少如何请问个不没们"
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|cannot|without|\w+n['’]t)\b|[不没無无未非]", re.IGNORECASE
)

NUMBER_WEIGHT = 2.0
ECHO_WEIGHT = 0.34  #: of a term that the question already contains: repeating the question supports nothing


def terms(text: str) -> list[str]:
    """Content terms in their order, with repeats."""
    return [
        t
        for t in words.terms(text)
        if t not in _FUNCTION_WORDS
        and not (set(t) <= _CJK_FUNCTION or (len(t) == 1 and t.isascii() and t.isalpha()))
    ]


def weights(text: str, echoed: Collection[str] = ()) -> dict[str, float]:
    """Each term of a sentence and how much it counts; `echoed` are the question's terms."""
    return {
        t: (NUMBER_WEIGHT if is_number(t) else 1.0) * (ECHO_WEIGHT if t in echoed else 1.0)
        for t in terms(text)
    }


def share(wanted: Mapping[str, float], having: Collection[str]) -> float:
    """The weighted share of `wanted` that stands in `having`, 0 to 1; 0 where nothing is wanted."""
    total = sum(wanted.values())
    return sum(w for t, w in wanted.items() if t in having) / total if total else 0.0


def is_negative(text: str) -> bool:
    """Whether a sentence denies something."""
    return _NEGATION.search(text) is not None


def is_number(term: str) -> bool:
    """Whether a term is a number."""
    return term[:1].isdigit()


def cjk_share(text: str) -> float:
    """The share of a text's letters that are Chinese, Japanese or Korean."""
    letters = [c for c in text if c.isalpha()]
    return sum(_CJK.match(c) is not None for c in letters) / len(letters) if letters else 0.0
