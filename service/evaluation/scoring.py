"""Is a reply right? Exact match, F1 and ROUGE-L against the accepted answers, and containment.

Normalisation is SQuAD's (arXiv 1606.05250: lower case, no punctuation, no articles, single spaces), after
NFKC. Tokens are words, except that each Chinese or Japanese character is one by itself, as CMRC 2018
(arXiv 1810.07366) counts them: mixed text needs no switch. ROUGE-L (Lin 2004) is the F-measure of the longest
common subsequence; `rouge-score` agrees for English and sees nothing in Chinese, so it is computed here.

Invariants: every score lies in [0, 1] and is 1 for a reply that equals an accepted answer.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from service.evidence import within

#: Typographic apostrophes, and full-width characters that stand in a number or for money.
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "＇": "'"})
_WIDE = re.compile(r"(?<=[\d０-９])[．，：／－](?=[\d０-９])|[＄￥％＋～＃＆＠]")
_ARTICLES = frozenset({"a", "an", "the"})
#: One character of a script without spaces, or a run of other letters, digits and marks.
_ALONE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")
#: What stands between two words that normalisation would join: governments.[3], four-valve.
_JOINT = re.compile(r"[][(){}<>\"]|[!-/:-@[-`{-~]{2,}|(?<=[^\W\d_])-(?=[^\W\d_])")


@lru_cache(maxsize=65536)
def tokens(text: str) -> tuple[str, ...]:
    """The words of a normalised text; Chinese and Japanese ones by the character."""
    text = _WIDE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text.translate(_APOSTROPHES))
    text = "".join(map(_unpunctuated, text))
    text = unicodedata.normalize("NFKC", text).lower()
    return tuple(t for t in _TOKEN.findall(text) if t not in _ARTICLES)


def _unpunctuated(character: str) -> str:
    """SQuAD takes ASCII's punctuation out; that of other scripts, which write no space, becomes one."""
    if character in string.punctuation:
        return ""
    return " " if unicodedata.category(character).startswith("P") else character


def exact_match(reply: str, answers: Sequence[str]) -> float:
    """1 if the reply is one of the answers, normalised."""
    return float(any(tokens(reply) == tokens(answer) for answer in answers))


def f1(reply: str, answers: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over tokens, against the best answer."""
    return _best(reply, answers, lambda said, wanted: sum((Counter(said) & Counter(wanted)).values()))


def rouge_l(reply: str, answers: Sequence[str]) -> float:
    """The same over the longest common subsequence."""
    return _best(reply, answers, lcs)


def _best(reply: str, answers: Sequence[str], shared: Callable[[Sequence[str], Sequence[str]], int]) -> float:
    said = tokens(reply)
    scores = [0.0]
    for answer in answers:
        wanted = tokens(answer)
        if not said or not wanted:
            scores.append(float(said == wanted))
        elif common := shared(said, wanted):
            scores.append(2 * common / (len(said) + len(wanted)))
    return max(scores)


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence: one row at a time, the shorter sequence along it."""
    if len(a) < len(b):
        a, b = b, a
    row = [0] * (len(b) + 1)
    for left in a:
        diagonal = 0
        for place, right in enumerate(b, 1):
            above = row[place]
            row[place] = diagonal + 1 if left == right else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def holds(text: str, answer: str) -> bool:
    """Whether the answer's tokens stand in the text one after another (so "no" is not found in "notes").

    What SQuAD's normalisation joins may stand apart, too: "governments.[3]" holds "governments".
    """
    apart = tuple(_JOINT.sub(" ", some) for some in (answer, text))
    return any(within(tokens(wanted), tokens(having)) for wanted, having in ((answer, text), apart))


def contains(text: str, parts: Sequence[Sequence[str]]) -> float:
    """The share of the parts of which the text holds some spelling; 0 where there are none."""
    if not parts:
        return 0.0
    return sum(any(holds(text, spelling) for spelling in part) for part in parts) / len(parts)
