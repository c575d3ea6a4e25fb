r"""Questions for what something is, or which things there are, and the sentences that tell.

What something is takes a sentence: the few words that a reader finds ("reading English") are true of it and
do not say what it is. So its sentence is given, and of several likely ones that which defines: it begins with
the thing and goes on "is", "means", 是 or 指, or names it and says at once what it is ("the reader, a small
network"). A list is given in few words where these are one (rag, closed_book and quote); where they name a
single item, the sentences of its passage that speak as much of what is asked are given instead.

English and Chinese (both scripts). Judged by words alone, like `service.questions.wanted`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Words behind which a question asks for something of the thing, not for what it is (What is a name for X?).
_OF = (
    r"of|in|for|to|that|which|who|with|by|from|on|at|used|called|named|known|than|as|when|if|after|before|and|or"
    r"|not|another|name|term|word|example|synonym|abbreviation|made|done|meant|said"
)
_POINTS = r"this|that|these|those|his|her|its|their|my|your|our|one|some|there|it|he|she|they|being"
_ASKED = re.compile(
    r"^(?:please |can you |could you )*(?:tell me )?(?:"
    r"what(?:['’]s| is| are| was| were) (?:"
    rf"(?:an? )?(?!(?:the|{_POINTS}|{_OF})\b)(?P<plain>(?:(?!(?:{_OF})\b)[^\s?'’]+(?: |(?=\W*$))){{1,4}})"
    r"|the (?P<name>(?-i:(?:[A-Z][\w/&.-]*(?: |(?=\W*$))){1,4})))"
    r"|what does (?P<meant>\S+(?: \S+){0,4}?) mean(?: in \S+)?"
    r"|什[么麼]是\s*(?P<what>.{1,24}?)"
    r"|(?P<is>[^的]{1,16}?)\s*(?:到底|究竟)?是(?:一?[个個种種])?什[么麼](?:东西|東西|意思)?"
    r")\W*$",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"^(?:please |can you |could you )*(?:(?:what|which) (?:are|were) (?:the|all|some)\b"
    r"|which (?:[\w-]+ ){0,3}?[\w-]{2,}(?<![us])s (?:are|were|can|do|must|should|will|have)\b"
    r"|name (?:the|all|some|\d+|two|three|four|five|several)\b)(?!.*\bcalled\b)",
    re.IGNORECASE,
)
#: What stands between the items of a list; a comma within a number does not.
_BETWEEN = re.compile(r",(?!\d{3}\b)|;|、|，|；|\n|\band\b|\bor\b|和|与|與|以及|或", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WORDS = re.compile(r"\w+(?:[./&-]\w+)*")


def asked(question: str) -> str | None:
    """The thing that a question asks the meaning of; None where it asks for anything else."""
    found = _ASKED.match(question.strip())
    if found is None:
        return None
    return next((term.strip(" \"'“”`*") for term in found.groupdict().values() if term), None) or None


def defines(sentence: str, thing: str) -> bool:
    """Whether a sentence says what a thing is, by its form."""
    words = _WORDS.findall(thing)
    if not words:
        return False
    if _CJK.search(thing):
        named = rf"{re.escape(thing)}[”」》]?(?:（[^）]*）)?"
        return (
            re.search(rf"(?:^|[，、：“「《]|所谓|所謂){named}\s*(?:就?是|指|即|[为為])", sentence) is not None
        )
    named = r"\W+".join(re.escape(word.removesuffix("s")) + "(?:e?s)?" for word in words)
    # Behind the name, a short form in brackets or the thing's own name in code may follow.
    named = rf"\b{named}\b[\"”*`]*(?:\s+(?:\([^)]*\)|`[^`]*`))?"
    verbs = r"is|are|was|were|means?|denotes?|refers? to|stands? for"
    forms = (
        rf"^\W*(?:(?:an?|the|every|each) )?{named}\s*(?:\s(?:{verbs})\b|是|指)",
        rf"\b(?:is|are|was|were) (?:called|named|known as) (?:an? |the )?{named}",
        rf"{named}, (?:an?|the|one|which is)\b",
    )
    return any(re.search(form, sentence, re.IGNORECASE) for form in forms)


def first(question: str, quoted: Sequence[Sequence[str]]) -> int:
    """Of several answers, likeliest first: the first that defines what is asked, else the likeliest.

    Args:
        question: as asked.
        quoted: the sentences of each answer.
    """
    thing = asked(question)
    if thing is None:
        return 0
    return next((at for at, some in enumerate(quoted) if any(defines(s, thing) for s in some)), 0)


def lists(question: str) -> bool:
    """Whether a question asks which things there are, more than one."""
    return _LIST.match(question.strip()) is not None


def several(answer: str) -> bool:
    """Whether a short answer names more than one thing."""
    return sum(bool(item.strip()) for item in _BETWEEN.split(answer)) > 1


def takes_sentences(question: str, answer: str) -> bool:
    """Whether a short answer is too short for what is asked: its sentence is given instead."""
    return asked(question) is not None or (lists(question) and not several(answer))
