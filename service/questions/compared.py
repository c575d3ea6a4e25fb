"""The things that a comparison sets beside each other, by the words that each of them has for itself.

"How does packet switching differ from circuit switching?" compares packet with circuit: what both share does
not tell them apart. English and Chinese (both scripts); judged by words alone.

`weighed` is narrow, since the readers' calibrators rest on it: two things of a word each, or two of which
one is to be told (Which is taller, the tower or the bridge?). `things` is wide, for sentences that are given
anyway.
"""

from __future__ import annotations

import re
from collections import Counter

from service import evidence

#: A question for which of two things has more of something. A small model names one of them by chance.
_WEIGHS = re.compile(
    r"\b(?:more|less|fewer|most|least|better|best|worse|worst|(?:larg|bigg|small|tall|short|long|fast|quick|slow"
    r"|old|young|new|high|low|heavi|light|cheap|great|earli|lat|soon|clos|near|strong|weak|wid|deep|hott|cold|rich"
    r"|hard|easi)(?:er|est)) .*?"
    r"(?P<one>[\w'’-]+)(?: and|,)? or (?:(?:the|a|an|more|less|fewer) )?(?P<other>[\w'’-]+)",
    re.IGNORECASE,
)
#: A question for what sets two things apart.
_THING = r"(?:(?:the|an?) )?([\w'’./-]*\w)"
_DIFFER = re.compile(
    rf"\bdifferences? between {_THING}(?: [\w-]+)? and {_THING}"
    rf"|^how (?:do|does|did) {_THING} (?:and {_THING} differ|differ from {_THING})"
    rf"|^compare {_THING} (?:and|with|to) {_THING}"
    r"|^([^，,、？?]{1,20}?)\s*(?:和|与|與|跟|同)\s*([^，,、？?]{1,20}?)\s*(?:之间|之間|相比)?\s*"
    r"(?=[有的在各分差，,]).*?(?:不同|不一样|不一樣|区别|區別|差别|差別|差异|差異|差在|各自|分别|分別)",
    re.IGNORECASE,
)
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
#: Nobody compares two things in more, and the forms take cubic time.
MOST_CHARS = 300
_AND = re.compile(r"\s*(?:、|和|与|與)\s*")


def weighed(question: str) -> tuple[str, str] | None:
    """The two things that a question compares (Which is taller, the tower or the bridge?); None without."""
    if len(question) > MOST_CHARS:
        return None
    found = _WEIGHS.search(question) or _DIFFER.search(question.strip())
    if found is None:
        return None
    one, other = filter(None, found.groups())
    return one, other


def things(question: str) -> tuple[frozenset[str], ...]:
    """The content terms that each of the compared things has and no other one; () where none are told."""
    if len(question) > MOST_CHARS:
        return ()
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
