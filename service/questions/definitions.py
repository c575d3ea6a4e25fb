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
    r"|(?:what|which) (?:[\w-]+ ){0,2}?[\w-]{2,}(?<![us])s (?:(?:are|were) (?:on|in|included|listed|part of)"
    r"|(?:do|does|did) .* (?:have|include|contain|offer|cover|need|require|come with))\b"
    r"|name (?:the|all|some|\d+|two|three|four|five|several)\b)(?!.*\bcalled\b)",
    re.IGNORECASE,
)
#: Numbers by their words, and what asks for so many things by their names.
_WORDS_FOR = (
    "two 2 两 兩 二", "three 3 三", "four 4 四", "five 5 五", "six 6 六", "seven 7 七", "eight 8 八",
    "nine 9 九", "ten 10 十",
)  # fmt: skip
_COUNTED = {word: number for number, some in enumerate(_WORDS_FOR, 2) for word in some.split()}
_LATIN = "|".join(word for word in _COUNTED if word.isascii() and word.isalpha())
_HAN = "".join(word for word in _COUNTED if not word.isascii())
_WHICH_ONES = re.compile(
    rf"\b(?:which|what (?:are|were) the|(?:name|list) (?:the |all |any )?) ?(?P<latin>{_LATIN}|\d\d?)\b"
    rf"|哪\s*(?P<han>[{_HAN}]|\d\d?)",
    re.IGNORECASE,
)
#: A number with what is counted; not that of a place in a row (第三), nor a part of a longer one.
_SAYS_NUMBER = re.compile(
    rf"\b(?P<latin>{_LATIN})\b|(?<![\d.,])(?P<digits>\d\d?)(?![\d.,%])"
    rf"|(?<![第{_HAN}百千万萬亿億几幾])(?P<han>[{_HAN}])(?=[个個种種项項类類大条條点點部方步阶階层層段期位名家座只])",
    re.IGNORECASE,
)
#: What stands between the items of a list; a comma within a number does not.
_BETWEEN = re.compile(r",(?!\d{3}\b)|;|、|，|；|\n|\band\b|\bor\b|和|与|與|以及|或", re.IGNORECASE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
#: The first word of a sentence, or its first Chinese character.
_BEGINNING = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
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
    return items(answer) > 1


def items(text: str) -> int:
    """How many things a text may name, by what stands between them."""
    return sum(bool(item.strip()) for item in _BETWEEN.split(text))


def how_many_named(question: str) -> int | None:
    """How many things are to be named (Which three ...?, 哪三个); None where the question has no number."""
    found = _WHICH_ONES.search(question)
    return None if found is None else _number(found["latin"] or found["han"])


def announces(sentence: str, number: int) -> bool:
    """Whether a sentence says that there are so many things, and does not name them."""
    said = {_number(found[0]) for found in _SAYS_NUMBER.finditer(sentence)}
    return number in said and items(sentence) < number


def naming(behind: Sequence[str], number: int) -> int:
    """How many of the sentences behind an announcing one name the things: one for all, or one for each.

    A sentence for each begins as the others do: The first ..., The second ...; 第一 ..., 第二 ...
    """
    if behind and items(behind[0]) >= number:
        return 1
    begin = {found[0].lower() for text in behind[:number] if (found := _BEGINNING.search(text))}
    return number if len(behind) >= number and len(begin) == 1 else 0


def _number(word: str) -> int | None:
    return _COUNTED.get(word.lower(), int(word) if word.isdigit() else None)


def takes_sentences(question: str, answer: str) -> bool:
    """Whether a short answer is too short for what is asked: its sentence is given instead."""
    return asked(question) is not None or (lists(question) and not several(answer))
