"""A follow-up that exchanges one thing of the question before: and in 2022?, what about Austria?, 那李明呢.

The question is asked again with the new thing in the place of the old one, where there is no doubt which one
that is: a year for the year, a person for the person, a name for the only name, a plan for the plan.
"""

from __future__ import annotations

import re

from service.questions.years import YEAR

_HAN = re.compile(r"[\u3400-\u9fff]")
#: What a swap in English begins with.
_IN = "in|at|for|of|from|on|by|with"
_BEGINS = re.compile(
    r"^\W*(?:(?:and|or|but|so|ok|okay|then)\b[\s,]*)*(?:(?:what|how) about\b\s*)?"
    rf"(?:(?:and|for)\b\s*(?=(?:{_IN})\b))?",
    re.IGNORECASE,
)
_LED = re.compile(r"^\W*(?:and|or|but|so|what about|how about)\b", re.IGNORECASE)
_PREPOSITION = re.compile(rf"^(?P<word>{_IN})\s+(?P<thing>.+)$", re.IGNORECASE)
_ENDS = f"{_IN}|cost|take|have|need"
_PHRASE = re.compile(
    rf"\b(?P<word>{_IN}) (?P<thing>(?:(?!\b(?:{_ENDS}|and|or)\b)[^?,.;!]){{2,60}}?)"
    rf"(?=\s+(?:{_ENDS})\b|\s*[?,.;!]|\s*$)",
    re.IGNORECASE,
)
#: What makes a new question of it, or leans on something else.
_MORE = re.compile(
    r"\b(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should|has"
    r"|have|it|its|he|him|his|she|her|they|them|their|that|this|these|those|there|one|ones|else|other|others|not|i|you|we)\b",
    re.IGNORECASE,
)
_NAMES = re.compile(r"(?<![.?!] )(?<!^)\b(?!I\b)[A-Z][\w'’.-]*(?: [A-Z0-9][\w'’.-]*)*")
_MOST_WORDS = 6
#: What a phrase may stand for that begins otherwise: the rent for 14 Maple Street, and at Birch Lane.
_FOR = {"at": "in on for of", "in": "at on for of", "on": "at in", "for": "of", "of": "for"}

_NEW_ZH = re.compile(
    r"^(?:那|那么|那麼|还有|還有|如果是|换成|換成)?[，,]?(?P<new>[^，,。？?！!呢]{1,16}?)的?呢[？?\s]*$"
)
_OLD_ZH = re.compile(
    r"^(?:那么?|请问|請問)?(?P<old>[^，,。？?的]{1,16}?)(?=的|是多少|有多|多少|叫什|什么时候|什麼時候|怎么|怎麼|在哪|有哪|有什)"
)
_ASKING_ZH = re.compile(r"[谁誰哪几幾怎它他她这這其]|什[么麼]|多少|如何|[为為]何")
_SURNAMES = frozenset(
    "王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何林罗羅郑鄭梁谢謝宋唐许許韩韓冯馮邓鄧曹彭曾肖田董袁潘蒋蔣蔡余杜叶葉程苏蘇魏吕呂丁"
    "沈任姚卢盧傅钟鍾姜崔谭譚廖范范汪陆陸金石戴贾賈韦韋邱侯邹鄒熊孟秦白江阎閻薛尹雷"
)
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]*")


def swapped(question: str, before: str) -> str | None:
    """The question before with what the follow-up names in its place; None where that is not plain.

    Args:
        question: a question that leans on what was said before.
        before: the question before it, understood by itself.
    """
    return _swapped_zh(question, before) if _HAN.search(question) else _swapped_en(question, before)


def _swapped_zh(question: str, before: str) -> str | None:
    found = _NEW_ZH.match(question.strip())
    if found is None or _ASKING_ZH.search(found["new"]):
        return None
    new = found["new"].strip()
    years = YEAR.findall(before)
    if re.fullmatch(r"(?:19|20)\d\d年?(?:度)?", new):
        return YEAR.sub(new[:4], before) if len(years) == 1 else None
    codes = [code for code in _CODE.finditer(before) if re.search(r"[A-Za-z]", code[0])]
    if _CODE.fullmatch(new) and re.search(r"[A-Za-z]", new):
        if len(codes) != 1:
            return None
        end = codes[0].start() + len(codes[0][0].rstrip())
        return before[: codes[0].start()] + new + before[end:]
    old = _OLD_ZH.match(before)
    if old is None or not _alike_zh(old["old"], new):
        return None
    return before[: old.start("old")] + new + before[old.end("old") :]


def _alike_zh(old: str, new: str) -> bool:
    """Whether two things are of one sort: two people, or two that end alike (东区 and 西区)."""
    if old == new:
        return False
    if all(2 <= len(name) <= 3 and name[0] in _SURNAMES for name in (old, new)):
        return True
    return len(new) > 1 and len(old) > 1 and old[-1] == new[-1] and old[-1] not in "人的了"


def _swapped_en(question: str, before: str) -> str | None:
    rest = _BEGINS.sub("", question.strip()).strip().rstrip("?!. ")
    if not rest or len(rest.split()) > _MOST_WORDS or _MORE.search(rest):
        return None
    led = _LED.match(question) is not None
    phrase = _PREPOSITION.match(rest)
    if not led and phrase is None:
        return None
    years, new = YEAR.findall(before), YEAR.findall(rest)
    thing = phrase["thing"] if phrase else rest
    if new:
        plain = re.fullmatch(r"(?:the year )?(?:19|20)\d\d", thing.strip())
        return YEAR.sub(new[0], before) if plain and len(years) == len(new) == 1 else None
    if phrase:
        places = [p for p in _PHRASE.finditer(before) if not YEAR.search(p["thing"])]
        word = phrase["word"].lower()
        same = [p for p in places if p["word"].lower() == word] or [
            p for p in places if p["word"].lower() in _FOR.get(word, "").split()
        ]
        if len(same) != 1:
            return None
        return before[: same[0].start()] + rest + before[same[0].end() :]
    return _by_its_kind(thing, before) or _by_its_name(thing, before)


def _by_its_kind(new: str, before: str) -> str | None:
    """The premium plan for the basic plan, and plan B for plan A."""
    words = re.sub(r"^(?:the|an?|my|our|your)\s+", "", new, flags=re.IGNORECASE).split()
    if len(words) != 2:
        return None
    kind = re.escape(words[1])
    found = list(
        re.finditer(
            rf"\b(?:(?:the|an?|my|our|your) )?(?!(?:the|an?|my|our|your|this|that)\b)[\w-]+ {kind}\b",
            before,
            re.IGNORECASE,
        )
    )
    if not found and re.fullmatch(r"[A-Z]|\d{1,3}", words[1]):
        kind = re.escape(words[0])
        found = list(
            re.finditer(
                rf"\b(?:(?:the|an?|my|our|your) )?{kind} (?:(?-i:[A-Z])|\d{{1,3}})\b", before, re.IGNORECASE
            )
        )
    if len(found) != 1:
        return None
    return before[: found[0].start()] + new + before[found[0].end() :]


def _by_its_name(new: str, before: str) -> str | None:
    """Austria for Germany: where either is a name, and the only one."""
    if not re.fullmatch(r"(?:the )?[A-Z][\w'’.-]*(?: [A-Z0-9][\w'’.-]*)*", new):
        return None
    found = list(_NAMES.finditer(before))
    if len(found) != 1 or re.search(r"['’]s$", found[0][0]):
        return None
    return before[: found[0].start()] + new.removeprefix("the ") + before[found[0].end() :]
