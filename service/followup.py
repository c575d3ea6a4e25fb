"""A follow-up question, made self-contained before anything is searched or read.

"And Austria?" finds nothing by itself. A small generator rewrites such questions badly, so no model is asked:
whether a question leans on what was said before is read off its words (pronouns, "and ...?", 呢, a missing
subject), and then

- `Standalone.text` is what is read: the question before with the new thing in it, where one is exchanged
  (`service.swaps`); the question with its pronoun replaced by the subject of the question before, where that
  subject is plain; else the question before in front of this one;
- `Standalone.searches` are what is searched, each with a weight: the words of the follow-up weigh more than
  what is carried over, and the raw follow-up is always among them, so that a change of subject that was
  taken for a follow-up is not dragged back.

Invariants: without history, and for a question that leans on nothing, text and search are the question
unchanged; nothing is carried over that the user or the answer did not say.

What was tried and how it measures: `benchmarks/followups.py`, `benchmarks/log.md`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ingest.types import Hit, SearchMode, SearchResult
from service import evidence
from service.swaps import swapped

#: Of a question before, and of the answer to it, at most so many characters are carried over.
CARRIED_QUESTION_CHARS, CARRIED_ANSWER_CHARS = 300, 160
#: Each question is understood by the ones before it, so far back at most.
MOST_TURNS = 40
#: Weight of the search with what is carried over; the raw follow-up has the rest.
CARRIED = 0.7
#: How deep each search looks, so that a passage that is fair in both can win.
DEPTH, DEPTH_A_HIT = 50, 4


@dataclass(frozen=True, slots=True)
class Said:
    """One earlier turn of the conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Standalone:
    """A question that can be understood by itself."""

    text: str
    searches: tuple[tuple[str, float], ...]  #: queries with weights that add up to 1

    @property
    def carried(self) -> bool:
        """Whether something was carried over."""
        return len(self.searches) > 1


def standalone(question: str, history: Sequence[Said] = ()) -> Standalone:
    """The question as it can be understood without its history (oldest turn first)."""
    asked = [i for i, said in enumerate(history) if said.role == "user"]
    if not asked or not leans(question):  # nothing to lean on, or no need
        return Standalone(question, ((question, 1.0),))
    last = asked[-1]
    earlier = history[max(0, last - MOST_TURNS) : last]
    before = standalone(history[last].text, earlier).text[-CARRIED_QUESTION_CHARS:]
    answer = next((_plain(said.text) for said in history[last + 1 :] if said.role == "assistant"), "")
    ended = (
        before if re.search(r"[?？。.!！]\W*$", before) else before + ("？" if _HAN.search(before) else "?")
    )
    exchanged = swapped(question, before)
    text = exchanged or _resolved(question, before, answer) or f"{ended} {question}"
    said = exchanged or f"{before} {answer[:CARRIED_ANSWER_CHARS]} {question}"
    return Standalone(text, ((question, 1.0 - CARRIED), (said, CARRIED)))


# --- does a question lean on what was said? -----------------------------------------------------------------

_LEANS_EN = re.compile(
    r"^\W*(?:and|but|or|so|then|also|what about|how about|no|nope|not|sorry|i mean|i meant|actually|rather)\b"
    r"|\b(?:i mean|i meant|the (?:other|same|former|latter|first|second|last) one|(?:that|this|these|those"
    r"|another|other) ones?|others?|any more|(?:what|where|who|when|how|anything) else|instead"
    r"|the above|as well|than (?:that|this|it|those|them))\b",
    re.IGNORECASE,
)
_PRONOUN_EN = re.compile(
    r"\b(?:it|its|he|him|his|she|her|hers|they|them|their|theirs|that|this|these|those|one|there)\b",
    re.IGNORECASE,
)
#: To do something with something of its own: "to charge a phone", not "to install" nor "to install on it".
_DOING = r"to \w+ (?!(?:on|in|with|by|at|from|for|again|now|it|this|that|them)\b)\w+"
#: "this" or "that" with a noun of its own, as relative word, or "there is": no reference by itself.
_NO_PRONOUN_EN = re.compile(
    r"\b(?:(?:is|are|was|were|am) there|there (?:is|are|was|were|a|an|any)|one of|(?:no|at least|more than"
    r"|only|every|which|each) one|(?<=\w )that (?!\?|$)\w+"
    # What stands for nothing: how long does it take to ..., is it safe to ..., what time is it, this year.
    rf"|(?:does|did|will|would|can|could|should|must) it (?:\w+ )?take (?:\w+ )?{_DOING}"
    r"|(?:is|was|will|would|be) it (?:\w+ )?(?:possible|true|necessary|allowed|legal|safe|ok|okay|normal"
    rf"|important|easy|hard|difficult|better|best) (?:that|(?:for \w+ )?{_DOING})|what time is it"
    r"|this (?:year|week|month|quarter)(?:['’]s)?|(?:does|do|should|can|must|would) one (?=[a-z]))\b",
    re.IGNORECASE,
)
_NAME_EN = re.compile(r"(?<=\w )(?:(?!I\b)[A-Z][\w.'-]*|\w+[_\d/:.-]\w+)")
#: "What is X?" is whole, however short X is; so are X 是什么 and 什么是 X.
_DEFINES = re.compile(
    r"^(?:what|who) (?:is|are|was|were) (?!(?:it|this|that|these|those|he|she|they|the \w+)\W*$)"
    r"(?!(?:the )?(?:price|cost|name|reason|date|deadline)\b)[\w .&/+#'’-]+\??$"
    r"|^[^它他她牠这這那其]{2,}是(?:什么|什麼)[？?]?$|^(?:什么|什麼)是[^它他她牠这這那其]{2,}[？?]?$",
    re.IGNORECASE,
)
#: 上海的市长是谁 says whose it is. What qualifies instead of owning (最大的, 主要的) says nothing of that.
_OWNED_ZH = re.compile(
    r"^(?!最|主要|首|第|现|現|前|后|後|新|另|当时|當時|目前|具体|具體|真正|唯一|大部分|常见|常見|在|[书書文图圖][中里裡])"
    r"[\u3400-\u9fff·]{2,10}的[\u3400-\u9fff]{1,8}[是在有叫](?:谁|誰|哪|什么|什麼|多少|几|幾)"
)
_LEANS_ZH = re.compile(
    r"(?<![其吉])[它他她牠]|^(?:那(?!英|曲)|[这這])"
    r"|[这這那](?:个|個|些|样|樣|种|種|里|裡|儿|时|時|次|位|两|兩|家|部)"
    r"|前者|后者|後者|上面|上述|以上(?!海)|刚才|剛才|呢\s*[？?]*$"
    r"|^(?:还|還|另外|其他|其它|别的|別的|(?:不对|不對|不是)(?=[，,。、！! 我这這那])"
    r"|里面|裡面|其中|之后|之後|然后|然後"
    # Not 比亚迪, 比特币 and the like, which only begin so.
    r"|比(?!亚|亞|特|利|尔|爾|赛|例|萨|基尼|重|较|較))|(?:还|還)有(?:什么|哪|呢|吗|谁|別|别)"
    r"|^[跟和与與同].{1,20}比|我(?:说|說|问|問|指)的|我是(?:说|說|问|問|指)|相比"
    r"|(?<![应應我你您他她们們就还還不也都活])该(?=[\u4e00-\u9fff])(?!怎|如何|不该|去|做|用|找|选|向)"
)
_ASKING_ZH = re.compile(
    r"什么时候|什麼時候|为什么|為什麼|什么|什麼|哪(?:里|裡|儿|个|個|些|一年|年|天)?|谁|誰|几|幾|多少|多大|多久|多长|多長|怎么|怎麼|怎样"
    r"|怎樣|如何|可以|需要|请问|請問|[吗嗎呢吧啊的了是在有能会會要个個年月日号號和与与]|\W"
)
#: One such character makes a question Chinese: in 那 ZeRO2 呢 most letters are Latin.
_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z0-9]")
#: So few content words, or Chinese characters, leave no room for a subject.
_FEW_WORDS, _FEW_CHARACTERS, _FEW_CHARACTERS_OF_SOMETHING = 1, 2, 4
#: Whose is missing where it begins so: 最近的出口是哪个？
_OF_SOMETHING_ZH = re.compile("最|主要|现任|現任|首都|总人口|總人口")


def leans(question: str) -> bool:
    """Whether a question seems to need what was said before to be understood; judged by its words alone."""
    if _HAN.search(question):
        if _LEANS_ZH.search(question):
            return True
        if _DEFINES.match(question) or _OWNED_ZH.match(question):
            return False
        few = _FEW_CHARACTERS_OF_SOMETHING if _OF_SOMETHING_ZH.match(question) else _FEW_CHARACTERS
        return not _LATIN.search(question) and len(_ASKING_ZH.sub("", question)) <= few
    if _LEANS_EN.search(question):
        return True
    for pronoun in _PRONOUN_EN.finditer(_NO_PRONOUN_EN.sub(lambda m: " " * len(m.group()), question)):
        if not _NAME_EN.search(question[: pronoun.start()]):  # else it may well mean that name
            return True
    return len(set(evidence.terms(question))) <= _FEW_WORDS and not _DEFINES.match(question)


# --- whom or what does it mean? -----------------------------------------------------------------------------

#: What is corrected is not what is meant.
_CORRECTS = re.compile(
    r"^\W*(?:no|nope|not|sorry|actually)\b|\bi mean\b|\bi meant\b|^不|我(?:是)?[说說问問指]", re.IGNORECASE
)
_MARKERS = re.compile(r"\s*\[\d+\]")
_SUBJECT_ZH = re.compile(
    r"^(?:那|请问|請問)?(?P<subject>[^，,。？?！!的是在有]{2,24}?)"
    r"(?:的|是|在|有|属于|屬於|叫|位于|位於|成立|创立|創立|毕业|畢業|签订|簽訂|支持|负责|負責|运行|運行|获得|獲得"
    r"|需要|提供|包括|包含|可以|出生|生活|住|吃|什么时候|什麼時候|大约|大約|多|哪|为什么|怎)"
)
#: What ends in a verb, or begins with one, is more than a subject: 公司支持哪些付款方式.
_VERB_ZH = re.compile(
    r"(?:[于於]|支持|负责|負責|需要|要|获得|獲得|运行|運行|签订|簽訂|提供|使用|采用|採用|包括|包含|生产|生產|发布|發布|收取?|付|交|给|給"
    r"|做|买|買|卖|賣|到|去|来|來|由|被)$|^(?:需要|可以|能|应该|應該|如何|必须|必須|申请|申請|使用)"
)
#: Whom or what else a pronoun may mean: 员工离职时他的社保.
_SOMEBODY_ZH = re.compile(r"[\u3400-\u9fff]{2,}(?<!之)[时時后後]$")
_PRONOUN_ZH = re.compile(r"(?<![其吉])(?:[它他她牠]们|[它他她牠])(?!们)")
_ASKS_WHO = re.compile(r"\bwho\b|谁|誰", re.IGNORECASE)
_SUBJECT_EN = re.compile(
    r"^(?:\w+ ){1,4}?(?:is|are|was|were|does|do|did|has|have|can) "
    r"(?P<subject>(?:(?:the|an?) )?(?!I\b)[A-Z0-9][\w.'’+#&-]*(?: (?:of |and |the )?[A-Z0-9][\w.'’+#&-]*)*)"
)
_DEFINED_EN = re.compile(
    r"^What (?:is|was) (?P<subject>(?!.* of )(?:the |an? )?(?:[\w.'’+#&-]+ ?){1,5}?)\s*\?$", re.IGNORECASE
)
_NAME = re.compile(r"^(?:[A-Z][\w.'-]*,? ?){1,4}\.?$")
_IT = re.compile(r"\b(?P<word>it|its|he|him|his|she|her)\b", re.IGNORECASE)
_HER_OWN = re.compile(
    r"\s+(?!(?:in|on|at|to|for|from|by|with|as|and|or|when|before|after|during|about)\b)\w", re.IGNORECASE
)
#: A clause before the pronoun that may well have what it means.
_CLAUSE_EN = re.compile(r"(?:\b(?:if|while|because|and|so|but)|\w.*\bwhen)\b(?:.*\w+)? $", re.IGNORECASE)
#: Who does it, whose own it may be.
_OF_ANOTHER_EN = re.compile(
    r"^(?:how|when|where|why|what|which)\b(?: \w+)?"
    r" (?:do|does|did|can|could|will|would|should|must|has|have|had)"
    r" (?:the|an?|each|every|our|my|your) \w+ \w+|^(?:which|what) \w+ (?:has|have|had)\b",
    re.IGNORECASE,
)
_CLAUSE_ZH = re.compile(r"[，,。？?！!]")
_THING_ZH = re.compile("[它牠]")


def _plain(answer: str) -> str:
    return " ".join(_MARKERS.sub("", answer).split())


def _resolved(question: str, before: str, answer: str) -> str | None:
    """The question with its pronoun replaced or its subject put in front, where there is no doubt."""
    if _CORRECTS.search(question):
        return None
    if _HAN.search(question):
        return _resolved_zh(question, before, answer)
    return _resolved_en(question, before, answer)


def _resolved_zh(question: str, before: str, answer: str) -> str | None:
    found = _SUBJECT_ZH.match(before)
    subject = found["subject"] if found and not _ASKING_ZH.fullmatch(found["subject"]) else ""
    if _ASKS_WHO.search(before) and not _THING_ZH.search(question):  # a thing is no person
        short = answer.rstrip("。.")
        subject = short if 2 <= len(short) <= 24 and not re.search(r"[，,。；;\s]", short) else ""
    if not subject or re.search(r"谁|誰|什么|什麼|哪|怎", subject) or _VERB_ZH.search(subject):
        return None
    pronouns = list(_PRONOUN_ZH.finditer(question))
    if len(pronouns) == 1:
        if _CLAUSE_ZH.search(question, 0, pronouns[0].start()) or _SOMEBODY_ZH.search(
            question, 0, pronouns[0].start()
        ):
            return None
        return _PRONOUN_ZH.sub(lambda _: subject, question)  # a subject may hold a backslash
    if not pronouns and not _LEANS_ZH.search(question):  # its subject is missing
        return subject + question
    return None


def _resolved_en(question: str, before: str, answer: str) -> str | None:
    pronouns = list(_IT.finditer(question))
    if len(pronouns) != 1 or _CLAUSE_EN.search(question[: pronouns[0].start()]):
        return None
    word = pronouns[0]["word"].lower()
    if word in ("its", "his", "her") and _OF_ANOTHER_EN.search(question[: pronouns[0].start()]):
        return None  # how does the company pay its suppliers
    if word in ("it", "its"):
        found = _SUBJECT_EN.match(before) or _DEFINED_EN.match(before)
        if not found or _ASKS_WHO.search(before):
            return None
        subject = found["subject"].strip()
        if subject.endswith(("'s", "’s")):
            return None
    else:
        if not (_ASKS_WHO.search(before) and _NAME.match(answer)):
            return None
        subject = answer.removesuffix(".") if not answer.endswith("r.") else answer
    tail = question[pronouns[0].end() :]
    owning = word in ("its", "his") or (word == "her" and _HER_OWN.match(tail) is not None)
    return question[: pronouns[0].start()] + subject + ("'s" if owning else "") + tail


# --- several searches as one --------------------------------------------------------------------------------


#: The search of one collection: query, number of passages, mode.
Search = Callable[[str, int, SearchMode], SearchResult]


def search_all(search: Search, asked: Standalone, k: int, mode: SearchMode) -> SearchResult:
    """The best `k` passages of all searches together: scores are added by weight, and stay within [0, 1].

    A hit's other scores are those of the search that puts it highest.
    """
    if not asked.carried:
        return search(asked.text, k, mode)
    start = time.perf_counter()
    depth = max(DEPTH, DEPTH_A_HIT * k)
    results = [(search(query, depth, mode), weight) for query, weight in asked.searches]
    newest = max(result.generation for result, _ in results)
    sums: dict[int, float] = {}
    best: dict[int, Hit] = {}
    for result, weight in results:
        if result.generation != newest:
            continue  # written to meanwhile: hits of two generations are never mixed
        for hit in result.hits:
            sums[hit.chunk_id] = sums.get(hit.chunk_id, 0.0) + weight * hit.score
            if hit.chunk_id not in best or hit.score > best[hit.chunk_id].score:
                best[hit.chunk_id] = hit
    order = sorted(sums, key=lambda c: (-sums[c], c))[:k]
    hits = tuple(replace(best[c], score=sums[c]) for c in order)
    return SearchResult(hits, newest, (time.perf_counter() - start) * 1000)
