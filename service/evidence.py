"""How much of a sentence's content stands in a stretch of text: words, numbers and names, not meaning.

The measure is lexical on purpose: it can be recomputed by anyone who reads the reply. Its terms are those of
the keyword arm (`ingest.words`: stems, identifiers, numbers, pairs of Chinese characters) without function
words. Support is the weighted share of them that the stretch has; a number that the stretch lacks, or a
negation on one side only, means none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ingest import words

#: Beside grammar, the words with which questions ask and with which small models introduce what they say.
_FUNCTION_WORDS = frozenset(
    words.terms(
        """
        a about after again all also although am an and another any are as at be because been before
        being but by can could did do does doing done during each either else ever few for from
        further get gets got had has have having he her here hers him his how however i if in into
        is it its itself just let like many may me might more most much must my neither never no
        none nor not now of off often on once one only onto or other our ours out over own per
        please quite rather same say says shall she should since so some such than that the their
        theirs them then there these they this those though through thus to too under until up upon
        us use used using very via was we were what when where whether which while who whom whose
        why will with within without would yes yet you your yours answer context according based
        provided passage passages text mention mentioned tell give explain describe know mean means
        find called known name hello hi hey thanks thank
        """
    )
)
#: Particles and question words: a pair of characters with one of them is a cut through words, not a word.
_CJK_PARTICLES = frozenset("的了吗呢吧啊么什怎哪谁几何")
#: Characters that carry grammar rather than content; a pair made of them alone is no term.
_CJK_FUNCTION = frozenset("是在和与及或也都很就而之其这那有为以于上下中到从对把被让给多少如请问个不没们")
_NEGATION = re.compile(
    r"\b(?:not(?! only)|no(?!\.? ?\d)|never|none|neither|nor|cannot|without|\w+n['’]t)\b"
    # Not 不锈钢, 不仅, 不同, 没收, 无线, 未来, 非洲, 非常: words that deny nothing.
    r"|不(?!过|過|锈|鏽|仅|僅|但|同|断|斷|论|論|管|久|少|丹|列颠)|[没沒](?!收)|[無无](?!线|線|锡|錫|论|論|人机|数|數)"
    r"|未(?!来|來)|(?<![南北东東西是])非(?!洲|常|凡)",
    re.IGNORECASE,
)

_CJK, _LATIN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"), re.compile(r"[A-Za-zÀ-ɏ]+")

NUMBER_WEIGHT = 2.0
ECHO_WEIGHT = 0.34  #: of a term that the question already contains: repeating the question supports nothing


def terms(text: str) -> list[str]:
    """Content terms in their order, with repeats."""
    return [t for t in words.terms(words.without_asking(text)) if _tells(t)]


def _tells(term: str) -> bool:
    if term in _FUNCTION_WORDS or (len(term) == 1 and term.isascii() and term.isalpha()):
        return False
    return not (set(term) & _CJK_PARTICLES or set(term) <= _CJK_FUNCTION)


def weights(text: str, echoed: Collection[str] = ()) -> dict[str, float]:
    """Each term of a sentence and how much it counts; `echoed` are the question's terms."""
    return {
        t: (NUMBER_WEIGHT if is_number(t) else 1.0) * (ECHO_WEIGHT if t in echoed else 1.0)
        for t in terms(text)
    }


def within(few: Sequence[str], many: Sequence[str]) -> bool:
    """Whether words, one at least, stand in others one after another."""
    n, some = len(few), tuple(few)
    return n > 0 and any(
        many[at] == some[0] and tuple(many[at : at + n]) == some for at in range(len(many) - n + 1)
    )


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


def in_chinese(question: str) -> bool:
    """Whether to speak Chinese to who asks: it may be mostly an English name, so a character is a word."""
    return len(_CJK.findall(question)) > len(_LATIN.findall(question))
