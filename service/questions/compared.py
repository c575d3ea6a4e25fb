"""The things that a comparison sets beside each other, by the words that each of them has for itself.

"How does packet switching differ from circuit switching?" compares packet with circuit: what both share does
not tell them apart. English and Chinese (both scripts); judged by words alone.
"""

from __future__ import annotations

import re
from collections import Counter

from service import evidence

_END = r"(?=\W*$|[,;:?]| in\b| when\b| if\b| for\b| on\b)"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"\bdifferences? between (.+?) and (.+?)" + _END,
        r"\bhow (?:do|does|did|is|are|was|were) (.+?) (?:differ(?:s|ent)?|distinct) (?:from|to|than) (.+?)"
        + _END,
        r"\bhow (?:do|does|did|are) (.+?) and (.+?) (?:differ|compare|relate)\b",
        r"\bhow (?:do|does|did) (.+?) compare (?:with|to|and) (.+?)" + _END,
        r"\bwhat (?:sets?|distinguish(?:es)?|tells?) (.+?) (?:apart )?from (.+?)" + _END,
        r"\bcompare (.+?) (?:and|with|to) (.+?)" + _END,
        r"(?:^|[,:;?] *)(?:what(?:['’]s| is)? )?(?:the )?(?:differences? (?:of|in)? *)?"
        r"(.+?) (?:vs\.?|versus) (.+?)"
        r"(?: (?:differences?|comparison))?" + _END,
        r"^(.+?) and (.+?)(?: [\w-]+)?[:,] *what['’]?s?(?: is)? (?:the )?difference",
        r"^(?:请问|請問|请|請)?(?:比较|比較|对比|對比|说明|說明|解释|解釋)?(?:一下)?([^，,。？?]{1,40}?)"
        r"\s*(?:和|与|與|跟|同|、|还是|還是)\s*([^，,。？?]{1,40}?)\s*"
        r"(?:[这這]?[两兩二三四][个個者种種类類项項]|的|之间|之間|在|对|對|有|是|相比|怎|如何|哪|谁|誰|差|各"
        r"|分别|分別|[，,]|\W*$)",
    )
)
_AND = re.compile(r"\s*(?:、|和|与|與)\s*")


def things(question: str) -> tuple[frozenset[str], ...]:
    """The content terms that each of the compared things has and no other one; () where none are told."""
    for form in _FORMS:
        if (found := form.search(question.strip())) is not None:
            named = [part for group in found.groups() for part in _AND.split(group) if part.strip()]
            terms = [frozenset(evidence.terms(name)) for name in named]
            shared = Counter(term for some in terms for term in some)
            own = tuple(frozenset(term for term in some if shared[term] == 1) for some in terms)
            if len(own) > 1 and all(own):
                return own
    return ()


def speaks(text_terms: frozenset[str], thing: frozenset[str]) -> bool:
    """Whether a text with these terms speaks of a thing: it has half of what is its own."""
    return 2 * len(thing & text_terms) >= len(thing)
