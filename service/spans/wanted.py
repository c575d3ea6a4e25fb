"""Whether a question is answered by a few words, or by sentences: how-to, lists, reasons, summaries.

Judged by the question's own words, in English and Chinese (both scripts); other languages get the few words
within their sentence, which the citation shows.
"""

from __future__ import annotations

import re

from service import evidence
from service.citations import POLAR

#: A way to do something, a reason, an overview, a comparison, a list, what something is.
WHOLE = re.compile(
    r"^(?:please |can you |could you )*(?:how (?:to\b|(?:do|can|could|should|would|does|did) )"
    r"|why\b|what happens\b|summari[sz]e\b|explain\b|describe\b|list\b"
    r"|(?:give|write|show) (?:me |us )?(?:an? )?(?:short |brief )?(?:overview|summary|outline)\b"
    r"|what (?:is|was|are|were) .* about\s*\?*$|what is (?:an? |the )?[\w-]+\s*\?*$)"
    r"|\bdifferences?\b|\bdiffer\b|\bcompared?\b"
    r"|怎样|怎樣|怎么|怎麼|如何|(?<![作成称稱认認视視])[为為]什[么麼]|为何|為何|原因是什么|原因是什麼|步骤|步驟"
    r"|总结|總結|概括|概述|介绍|介紹|说明|說明|描述|解释|解釋|简述|簡述"
    r"|哪些|哪几|哪幾|区别|區別|不同|差别|差別|各自|分别|分別|^什[么麼][是叫]|^[^的]{1,16}是什[么麼]\s*[?？]?$",
    re.IGNORECASE,
)
#: Of these, the ones that several sentences may answer.
SEVERAL = re.compile(
    r"^(?:please |can you |could you )*(?:how (?:to\b|(?:do|can|could|should|would) (?:i|we|you|one)\b)"
    r"|summari[sz]e\b|explain\b|describe\b|list\b|what are\b|which .*s (?:are|were)\b)"
    r"|overview|summary|\bdifferences?\b|怎样|怎樣|怎么|怎麼|如何|步骤|步驟|总结|總結|概括|概述|介绍|介紹|说明|說明"
    r"|描述|哪些|哪几|哪幾|区别|區別|不同|差别|差別|各自|分别|分別",
    re.IGNORECASE,
)


#: What adds nothing of its own to the words beside it: an aside in brackets, and what joins a clause.
_BESIDE = re.compile(r"[（(][^（()）]*[)）]|^\s*(?:因为|因為|由于|由於|所以|而且|但是|而|但)")


def sentences(question: str) -> bool:
    """Whether whole sentences answer, rather than a few words; so they do where yes or no is asked for."""
    asked = question.strip()
    return bool(WHOLE.search(asked) or POLAR.search(asked))


def repeats(question: str, words: str) -> bool:
    """Whether words say nothing beyond the question: that answers whether it is so, and nothing else."""
    asked = frozenset(evidence.terms(question))
    said = evidence.terms(_BESIDE.sub("", words)) or evidence.terms(words)
    return not POLAR.search(question.strip()) and asked.issuperset(said)


def several(question: str) -> bool:
    """Whether more than one sentence may be needed."""
    return bool(SEVERAL.search(question.strip()))
