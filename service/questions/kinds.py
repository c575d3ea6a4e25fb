"""What kind of answer a question wants, judged by its own words, in English and Chinese (both scripts).

A way to do something, a list, a comparison, a reason, an explanation, a summary, a definition, yes or no:
these are answered by sentences, and which sentences answer depends on the kind (`service.choosing`). Other
languages, and questions for a few words, have none.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from service import evidence
from service.questions import definitions, wanted

Kind = Literal["how-to", "list", "comparison", "why", "explain", "summary", "definition", "yes-no"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Kinds that several sentences may answer.
SEVERAL: frozenset[Kind] = frozenset(("how-to", "list", "comparison", "summary", "explain"))

#: Kinds that a few words never answer.
ALWAYS: frozenset[Kind] = frozenset(("how-to", "comparison", "summary"))

_ONE = r"(?:i|we|you|one|people|someone|somebody)"
_POLITE = (
    r"^(?:please,? |(?:can|could|would) you (?:please )?(?:tell me |show me )?|tell me |i want to know )*"
)
_WHAT = r"(?:什[么麼]|啥|何)"
_HOW = r"(?:怎[样樣么麼]|如何|咋)"
#: In this order: the first that fits.
_FORMS: tuple[tuple[Kind, str], ...] = (
    (
        "comparison",
        rf"\bdifferences? between\b|\bthe difference\b|^differences?\b|\bdiffer\b|\bdifferent from\b"
        rf"|{_POLITE}compare\b|\bversus\b|\bvs\b|\bsets? .* apart\b",
    ),
    ("why", rf"{_POLITE}why\b|\bhow come\b|what (?:is|was|are|were) the reasons?\b|for what reason"),
    (
        "how-to",
        r"(?:^|[,;:.?!] *|\b(?:tell|show) me |\b(?:can|could|would) you )(?:and )?"
        rf"how (?:to\b|(?:do|can|could|should|shall|would|must|might) {_ONE}\b)|\bhow\W*$"
        rf"|^how {_ONE} (?:can|could|should|shall|would|must|might|may|get|set|use|make|do)\b"
        rf"|{_POLITE}(?:what(?:['’]s| is) (?:the|a) (?:\w+ )?way (?:to|of)"
        r"|is there (?:a|any) (?:\w+ )?way (?:to|of)|what (?:are the )?steps)"
        rf"|what (?:can|could|should|must|shall|do) {_ONE} (?:do|check|try|need to do|have to do)\b|^steps\b",
    ),
    (
        "summary",
        r"\b(?:overview|summary|outline|gist|main points?|key (?:points?|findings?|takeaways?))\b"
        rf"|{_POLITE}(?:summari[sz]e\b|sum up\b)|^what (?:is|was|are|were) .* about\W*$",
    ),
    (
        "explain",
        rf"{_POLITE}(?:explain|describe)\b|^what (?:happens|happened|becomes|became)\b"
        r"|^what does .* (?:do|mean)\W*$",
    ),
    (
        "list",
        rf"{_POLITE}(?:list|enumerate|name (?:the|all|some|two|three|four|five|several))\b"
        r"|^(?:what|which) (?:are|were) (?:the|all|some)\b"
        r"|^(?:what|which) (?:\w+ )?(?:kinds?|types?|sorts?|forms?|ways) of\b",
    ),
    # Chinese. What begins by asking for a way is one, whatever the way is for (to compare, say).
    ("how-to", rf"^(?:请问|請問|想)?{_HOW}(?!区分|區分)"),
    (
        "comparison",
        rf"(?:有|{_WHAT}|哪些|[么麼]大的?)(?:不同|不一样|不一樣)|不同(?:点|點|之处|之處|在|\W*$)"
        r"|区别|區別|区分|區分|差别|差別|差异|差異|相比|对比|對比|差在哪|哪[个個]更?好|各自|分别用|分別用",
    ),
    (
        "why",
        rf"(?<![作成称稱认認视視名改现現命评評译譯选選定])[为為]{_WHAT}(?![样樣])|什[么麼]原因|原因[是有](?:什[么麼]|哪)",
    ),
    ("summary", r"总结|總結|概括|概述|介绍|介紹|简述|簡述|主要(?:讲|講|内容|內容|说|說)|大意"),
    (
        "explain",
        r"解释|解釋|^(?:请|請)?(?:说明|說明|描述)|(?:说明|說明|描述)一下"
        rf"|{_HOW}回事|有{_WHAT}(?:用|作用|意义|意義)",
    ),
    ("how-to", rf"{_HOW}|步骤|步驟|(?:{_WHAT}|哪[种種些])(?:办法|辦法|方法)"),
    (
        "list",
        rf"哪些|哪[几幾]|有{_WHAT}|列出|列举|列舉|各(?:代表|表示|是)|分别是|分別是"
        r"|哪[两兩二三四五六七八九十]",
    ),
    (
        "definition",
        rf"^(?:请问|請問)?{_WHAT}[是叫]"
        rf"|^[^的]{{1,16}}(?:到底|究竟)?是(?:一?[个個种種])?{_WHAT}(?:意思|东西|東西|人)?\W*$"
        rf"|{_WHAT}意思|指的?是?(?:{_WHAT}|[谁誰]|哪)|(?:做|幹|干)(?:{_WHAT}|嘛)(?:用)?的",
    ),
    ("yes-no", wanted.POLAR_ZH),
)
#: Kinds that a noun tells, unless who or when is asked: the executive summary may be due some day.
NAMED_BY_NOUN: frozenset[Kind] = frozenset(("comparison", "summary"))
_PATTERNS = [(kind, re.compile(form, re.IGNORECASE)) for kind, form in _FORMS]


def kind(question: str) -> Kind | None:
    """The kind of sentences that a question wants; None where a few words answer, or nobody can tell."""
    asked = wanted.asked(question)
    for found, form in _PATTERNS:
        if form.search(asked) and not (found in NAMED_BY_NOUN and wanted.WHO_OR_WHEN.search(asked)):
            return found
    if definitions.lists(asked) or definitions.how_many_named(asked) is not None:
        return "list"
    if definitions.asked(asked) is not None:
        return "definition"
    return "yes-no" if wanted.polar(asked) else None


def chosen(question: str) -> bool:
    """Whether the sentences that answer are chosen without asking a generator: see `service.choosing`.

    So it is in Chinese wherever the kind is told, and else where nobody would try a few words first: whether
    something is so is left to the readers in English, as a list is that may be named in few words.
    """
    found = kind(question)
    if found is None or evidence.in_chinese(question):
        return found is not None
    return found != "yes-no" and (found in ALWAYS or wanted.sentences(question))
