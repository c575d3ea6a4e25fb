"""Is anything relevant here? One probability from the search's result, and a threshold on it.

Relevance joins two signals, since either alone lies: how close in meaning the best passage is, on a scale
where unrelated texts are 0 (`ingest.search.unrelated_cosine`; raw cosines of e5 lie above 0.7 whatever is
asked), and which share of the question's content words, weighted by their rarity in the collection, one of
the best passages has. Where question and passage are written in different scripts, words cannot agree and
meaning decides alone.

Figures (`benchmarks/refusal.py`, multilingual-e5-small, hybrid search, threshold 0.5, n = 80 each). Answered
of the questions whose passage is in the collection: SQuAD 98%, CMRC 100%, Chinese questions to English
passages 79%. Refused of the questions about something else: other SQuAD articles 96%, Natural Questions 92%,
other CMRC articles 96%, Chinese questions to English passages 95%, English ones to Chinese passages 99%. What
it cannot see is a question on the documents' own subject that they do not answer: of SQuAD2's adversarial
ones it refuses 11%.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ingest.scripts import script
from ingest.types import Hit
from service import evidence
from service.events import Refusal
from service.questions.names import COUNTRIES, names

#: Inverse document frequency of each term.
Rarity = Callable[[Sequence[str]], Sequence[float]]

#: Logistic regression on the questions above, each side weighing the same.
CLOSENESS, COVERAGE, BIAS = 7.6, 6.7, -5.9
#: The same for another script: closeness alone, on its own (lower) scale.
FOREIGN_CLOSENESS, FOREIGN_BIAS = 20.0, -4.2
#: Passages that are looked at; one of them must do.
LOOKED_AT = 3
#: No text has this term (`ingest.words` leaves it out), so nothing is rarer.
NOWHERE = "_"
#: A name is misspelt where a word of the passages is so much like it.
MISSPELT = 0.8
#: Letters of a name from which on it is looked for within other words, too.
LONG_NAME = 4
#: Letters that are no others with a mark, and how they are written without them.
_PLAIN_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe"})
#: Stands in for closeness where nobody measured it (keyword search): what answering passages have on average.
TYPICAL_CLOSENESS = 0.45


@dataclass(frozen=True, slots=True)
class Relevance:
    """What the search's result says about the question."""

    probability: float  #: 0 to 1, that the passages are about what is asked
    closeness: float  #: 0 unrelated, 1 the same text
    coverage: float  #: share of the question's content words, 0 to 1


def relevance(
    question: str, hits: Sequence[Hit], rarity: Rarity | None = None, unrelated_cosine: float = 0.0
) -> Relevance:
    """How relevant the hits are to the question.

    Args:
        question: as asked.
        hits: best first.
        rarity: how rare terms are in the collection; without it all count the same.
        unrelated_cosine: what the embedder gives texts that have nothing to do with each other.
    """
    best = hits[:LOOKED_AT]
    if not best:
        return Relevance(0.0, 0.0, 0.0)
    cosines = [hit.dense_score for hit in best if hit.dense_score is not None]
    closeness = TYPICAL_CLOSENESS
    if cosines:
        closeness = max(0.0, (max(cosines) - unrelated_cosine) / max(1e-6, 1.0 - unrelated_cosine))
    wanted = dict.fromkeys(evidence.terms(question), 1.0)
    if rarity is not None and wanted:
        wanted = dict(zip(wanted, rarity(list(wanted)), strict=True))
    coverage = max(evidence.share(wanted, frozenset(evidence.terms(_whole(hit)))) for hit in best)
    foreign = script(question) != script(best[0].text)
    if foreign and coverage == 0.0 and cosines:
        weighed = FOREIGN_CLOSENESS * closeness + FOREIGN_BIAS
    else:
        weighed = CLOSENESS * closeness + COVERAGE * coverage + BIAS
    return Relevance(1.0 / (1.0 + math.exp(-weighed)), closeness, coverage)


def _whole(hit: Hit) -> str:
    return " ".join((hit.title, *hit.heading_path, hit.text))


def unmentioned(question: str, hits: Sequence[Hit], rarity: Rarity | None = None) -> list[str]:
    """The names of a question that no passage of the whole collection has.

    Not those that are a misspelling of a word of the hits; and none where a question in letters meets
    a passage in another script, which may write its names otherwise.

    Args:
        question: as asked.
        hits: best first.
        rarity: how rare terms are in the collection; without it nobody can tell.
    """
    named = [(name, evidence.terms(name.casefold())) for name in names(question)]
    if rarity is None or not hits or not named:
        return []
    own = ("", script(question))  # rows of numbers have no script
    if not evidence.in_chinese(question) and any(script(hit.text) not in own for hit in hits):
        return []
    most = rarity([NOWHERE])[0]
    missing = [
        (name, terms[0])
        for name, terms in named
        if min(rarity(terms)) >= most
        and not ((country := COUNTRIES.get(name.casefold())) and min(rarity(evidence.terms(country))) < most)
    ]
    if not missing:
        return []
    written = {term for hit in hits for term in evidence.terms(_whole(hit))}
    run = [_joined(_whole(hit)) for hit in hits]
    return [
        name
        for name, term in missing
        if not any(_alike(term, other) for other in written)
        and not (len(name) >= LONG_NAME and any(_joined(name) in text for text in run))
    ]


def _joined(text: str) -> str:
    """Letters and digits only, plain ones: "iPhone 15" is iPhone15, "git hub" GitHub, Łukasz Lukasz."""
    flat = unicodedata.normalize("NFKD", text.casefold().translate(_PLAIN_LETTERS))
    return "".join(c for c in flat if c.isalnum())


def _alike(one: str, other: str) -> bool:
    near = one[0] == other[0] and abs(len(one) - len(other)) <= 2
    return near and SequenceMatcher(None, one, other, autojunk=False).ratio() >= MISSPELT


def explain(reason: Refusal, collection: str, question: str = "", missing: Sequence[str] = ()) -> str:
    """What the reply says instead of an answer, in Chinese where the question is.

    Args:
        reason: why there is none.
        collection: that was asked.
        question: as asked.
        missing: the names of the question that the documents never mention.
    """
    if missing:
        if evidence.in_chinese(question):
            return f"文档里没有提到{'、'.join(f'“{name}”' for name in missing)}。最接近的段落列在来源中。"
        never = ", ".join(f'"{name}"' for name in missing)
        return f"The documents never mention {never}. The nearest passages are listed as sources."
    command = f"python -m ingest ./docs --collection {collection}"
    if evidence.in_chinese(question):
        return {
            "nothing_ingested": f"集合 {collection!r} 中还没有任何文档。请运行：{command}",
            "nothing_found": "文档里没有与这些词相同或相近的段落。",
            "not_in_passages": "找到的段落没有给出答案。最接近的段落列在来源中。",
            "not_sure_enough": (
                "找到了可能的答案，但把握不够大，达不到所要求的错误率。最接近的段落列在来源中。"
            ),
        }.get(reason, "这些文档似乎没有回答这个问题。最接近的段落列在来源中。")
    return {
        "nothing_ingested": (
            f"Nothing has been ingested into the collection {collection!r} yet. Run: {command}"
        ),
        "nothing_found": "The documents hold no passage with any of these words or anything like them.",
        "not_in_passages": (
            "The passages that were found do not tell. The nearest ones are listed as sources."
        ),
        "not_sure_enough": (
            "An answer was found, but it is not sure enough for the error rate that was asked for. "
            "The nearest passages are listed as sources."
        ),
    }.get(
        reason,
        "The documents do not seem to answer this question. The nearest passages are listed as sources.",
    )
