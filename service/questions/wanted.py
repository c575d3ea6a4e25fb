"""Whether a question is answered by a few words, or by sentences: how-to, lists, reasons, summaries.

Judged by the question's own words, in English and Chinese (both scripts); other languages get the few words
within their sentence, which the citation shows.
"""

from __future__ import annotations

import re
from itertools import pairwise

from service import evidence

#: A way to do something, a reason, an overview, a comparison, a list, what something is.
_WHOLE = re.compile(
    r"^(?:please |can you |could you )*"
    r"(?:how (?:to\b|(?:do|can|could|should|would|does|did|i|we|you|one) )"
    r"|why\b|what happens\b|summari[sz]e\b|explain\b|describe\b|list\b"
    r"|(?:give|write|show) (?:me |us )?(?:an? )?(?:short |brief )?(?:overview|summary|outline)\b"
    r"|what (?:is|was|are|were) .* about\s*\?*$|what is (?:an? |the )?[\w-]+\s*\?*$)"
    r"|\bdifferences?\b|\bdiffer\b|\bcompared?\b"
    r"|怎样|怎樣|怎么|怎麼|如何|(?<![作成称稱认認视視名改现現命评評译譯选選定])[为為]什[么麼]|为何|為何|原因是什么|原因是什麼|步骤|步驟"
    r"|总结|總結|概括|概述|介绍|介紹|说明|說明|描述|解释|解釋|简述|簡述"
    r"|哪些|哪几|哪幾|区别|區別|不同|差别|差別|各自|分别|分別|^什[么麼][是叫]|^[^的]{1,16}是什[么麼]\s*[?？]?$",
    re.IGNORECASE,
)
#: Of these, the ones that no short answer does justice to: in English, where a generator would try one.
_NEVER_SHORT = re.compile(
    r"^(?:please |can you |could you )*(?:how (?:to\b|(?:(?:do|can|could|should|would) )?(?:i|we|you|one)\b)"
    r"|(?:give|write|show) (?:me |us )?(?:an? )?(?:short |brief )?(?:overview|summary|outline)\b"
    r"|summari[sz]e\b|explain\b|describe\b|list (?:the|all|every)\b"
    r"|what (?:is|was|are|were) .* about\s*\?*$"
    r"|(?:.*\b)?what (?:can|could|should|must|shall|do) (?:i|we|you|one) do\b)",
    re.IGNORECASE,
)
#: A Chinese question for yes or no; 吗啡 is morphine.
POLAR_ZH = (
    r"[吗嗎](?!啡)|(?<![什怎那这這多要])么[\s？?。！!]*$|有[无無]|是否|能否|可否|(\w)[不没沒]\1|有[没沒]有"
)
#: A question for yes or no.
_POLAR = re.compile(
    r"^(?:(?:hi|hello|hey|please|so|and|but)\b[\s,!.]*)*"
    r"(?!(?:can|could|will|would) (?:you|u) (?:(?:\w+ly|please|perhaps|maybe) )*"
    r"(?:(?:tell|show|remind) (?:me|us) (?!if\b|whether\b)"
    r"|(?:give|list|explain|describe|name|say|summari[sz]e)\b)"
    r"|do you (?:happen to )?know (?:wh(?!ether)|how\b))"
    r"(?:is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|shall|should|may|must)(?:n['’]?t)?\b"
    rf"|^(?:can['’]?t|won['’]?t)\b|{POLAR_ZH}",
    re.IGNORECASE,
)
#: What ends each of several questions.
_MARKS = re.compile(r"(?<![?？])[?？]++(?=\s|[\u3400-\u9fff]|$)")
_GREETING = re.compile(
    r"^\W*(?:(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|thanks|thank you|ok|okay|well|so|and|but"
    r"|then)\b(?: (?:there|all|everyone|team)\b)?[\s,!.:–-]*)+",
    re.IGNORECASE,
)
#: Where it holds what is asked: in front of a comma.
_CONDITION = re.compile(
    r"^(?:if|when|once|after|before|while|in case|suppose|assuming)\b[^,?]{3,80}, *(?=\w)", re.IGNORECASE
)
#: A person or a time is asked for, whatever else is named: who wrote the summary, when is it due.
WHO_OR_WHEN = re.compile(
    r"^(?:who(?:se)?|when|where|(?:at |on )?(?:what|which) (?:time|date|day|year))\b"
    r"|[谁誰](?!和|与|與)|什[么麼](?:时候|時候|时间|時間)|[几幾][点點号號]|哪一?[天年日]|何[时時]",
    re.IGNORECASE,
)
#: What a question is wrapped in, and says nothing: could you kindly let me know when; 能告诉我…吗.
_WRAPPED = re.compile(
    r"^(?:please,? )?(?:(?:(?:can|could|would|will) (?:you|u)|(?:please|kindly|just)) "
    r"(?:(?:\w+ly|please|perhaps|maybe|just) )*(?:(?:tell|show|remind) (?:me|us)|let (?:me|us) know)"
    r"|(?:tell|show|remind) (?:me|us)|let (?:me|us) know|do you (?:happen to )?know"
    r"|(?:may|can|could|might) i (?:please )?(?:ask|know)"
    r"|i(?:(?:['’]d| would)? (?:just )?(?:like|love)| want(?:ed)?| need) to (?:know|find out|understand)"
    r"|i(?:['’]m| am) wondering|i wonder"
    r"|(?:would|is) it (?:be )?possible to (?:know|tell (?:me|us))|any idea),? "
    r"(?=(?:what|whats|who|whom|whose|which|when|where|why|how)\b)",
    re.IGNORECASE,
)
_WRAPPED_ZH = re.compile(
    r"^(?:你好|您好|麻烦|麻煩|请问|請問|请|請|[，,\s])*(?:(?:[你您]?(?:能不能|能否|可不可以|可否|可以|能)?(?:麻烦|麻煩)?(?:告诉|告訴)(?:我|一下)+"
    r"|[你您](?:们|們)?知不?知?道|(?:我)?想(?:知道|问一下|問一下|了解一下|请问一下))(?:一下)?[，,：:\s]*)"
    r"(?=.*(?:[谁誰哪几幾怎]|什[么麼]|多少|多[大久长長远遠高重]|如何|[为為]何))(?P<asks>.*?)[吗嗎]?(?=[？?。\s]*$)"
)
#: Behind the last mark, what is a question all the same: "When is it? how do i ask for it".
_ASKS_AGAIN = re.compile(
    r"^(?:(?:and|or|but|so|also)\b[, ]*)?(?:how(?! about)|what(?! about)|when|where|which|who|whom|whose|why"
    r"|can|could|does|do|did|is|are|was|were|will|would|should|may|must|has|have)\b(?= \w+)"
    r"|^[^呢]*(?:[谁誰哪怎吗嗎]|什[么麼]|多少|多[大久长長远遠高重]|如何|[几幾][个個天点點号號月年])[^呢]*$",
    re.IGNORECASE,
)
#: A part of a message that asks something by itself.
_ASKS = re.compile(
    r"\b(?:how|what|when|where|which|who|whom|whose|why|whats|wheres|whos)\b"
    r"|(?:^|[.,;!:] |\b(?:and|or|but|so|also|then) )(?:can|could|does|do|did|is|are|was|were|will|would"
    r"|should|may|must|has|have|had)(?:n['’]?t)?\b"
    r"|[谁誰哪怎吗嗎呢]|什[么麼]|多少|多[大久长長远遠高重]|如何|[几幾]|是否|能否|可否|[为為]何|(\w)[不没沒]\1",
    re.IGNORECASE,
)
#: More questions than these are taken for one text that has question marks.
MOST_APART = 4
#: Characters of what is no question of its own: Why? 谁？
SHORTEST = 5
#: Between what somebody tells first and what is then asked: "I hope you are well. Could you tell me when".
_TOLD_FIRST = re.compile(r"(?<=\w{3}[.!])(?<!Mrs\.)(?<!Prof\.)(?<!etc\.)\s+|(?<=[。！])\s*")
_NOUNS = frozenset(("总结", "總結", "概括", "概述", "介绍", "介紹", "说明", "說明"))
#: What adds nothing of its own to the words beside it: an aside in brackets, and what joins a clause.
_BESIDE = re.compile(r"[（(][^（()）]*[)）]|^\s*(?:因为|因為|由于|由於|所以|而且|但是|而|但)")


def asked(question: str) -> str:
    """The part of a question that asks: without greeting, condition and courtesy, of several the last.

    "Hello, why was it moved?" asks why, "If I cancel, do I get a refund?" whether, "Could you tell me who it
    was?" who.
    """
    part = _parts(question)[-1]
    last = _TOLD_FIRST.split(part)[-1]
    part = last if _ASKS_AGAIN.match(last) or _WRAPPED.match(last) else part
    part = _CONDITION.sub("", _GREETING.sub("", part)) or part
    return _WRAPPED.sub("", plain(part)) or part


def _parts(question: str) -> list[str]:
    """What ends in a question mark each, and what asks again behind it; the whole where there is no mark."""
    flat = " ".join(question.split())
    ends = [0, *(mark.end() for mark in _MARKS.finditer(flat))]
    parts = [flat[a:b].strip() for a, b in pairwise(ends)]
    rest = flat[ends[-1] :].strip()
    return [*parts, rest] if not parts or _ASKS_AGAIN.match(rest) else parts


def apart(question: str) -> tuple[str, ...]:
    """The questions of a message that holds several of them; () of one, and of more than `MOST_APART`.

    What is told in front of a question stays with it; behind the last one it is no question.
    """
    parts = _parts(question)
    asks = all(_ASKS.search(part) and len(part) > SHORTEST for part in parts)
    return tuple(parts) if asks and 1 < len(parts) <= MOST_APART else ()


def plain(question: str) -> str:
    """A Chinese question without the courtesy around it, which a reader takes for part of it: 你知道谁主持吗.

    In English what is left of one is no question by its order of words, so it stays.
    """
    bare = question.strip()
    wrapped = _WRAPPED_ZH.match(bare)
    return wrapped["asks"] + bare[wrapped.end() :] if wrapped else question


def sentences(question: str) -> bool:
    """Whether whole sentences answer, rather than a few words; so they do where yes or no is asked for."""
    part = asked(question)
    found = _WHOLE.search(part)
    noun = found is not None and found[0] in _NOUNS and WHO_OR_WHEN.search(part)
    return (found is not None and not noun) or polar(question)


def never_short(question: str) -> bool:
    """Whether no short answer does justice to a question, so that a generator need not try one."""
    return _NEVER_SHORT.match(asked(question)) is not None


def polar(question: str) -> bool:
    """Whether yes or no is asked for."""
    return _POLAR.search(asked(question)) is not None


def repeats(question: str, words: str) -> bool:
    """Whether words say nothing beyond the question: that answers whether it is so, and nothing else."""
    asked = frozenset(evidence.terms(question))
    said = evidence.terms(_BESIDE.sub("", words)) or evidence.terms(words)
    return not polar(question) and asked.issuperset(said)
