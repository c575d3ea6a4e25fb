"""Sentences that say the opposite of what is asked: the lowest for the highest, an arrival for a departure.

Small readers take them, and with much confidence, for all other words fit. Only pairs that do not stand for
each other in the same event are here: whoever buys from somebody is told by who sold, so buying and selling
are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from service.questions import wanted

_PAIRS = """
    highest | lowest
    largest biggest greatest | smallest
    maximum max | minimum min
    longest | shortest
    oldest eldest | youngest
    earliest | latest
    fastest quickest | slowest
    cheapest | dearest priciest
    heaviest | lightest
    best | worst
    increase increases increased increasing | decrease decreases decreased decreasing
    when: depart departs departed departure leave leaves left | arrive arrives arrived arrival lands landed
    when: open? opens opening | close? closes closing
    when: begin begins began start starts started | end? ends ended finish? finishes finished
    checkin | checkout
    import imports imported | export exports exported
    upload uploads uploaded | download downloads downloaded
    inbound | outbound
    gross | net
    最高 | 最低
    最大 | 最小
    最早 | 最晚 最迟
    最多 | 最少
    最长 | 最短
    最快 | 最慢
    最贵 | 最便宜
    增加 增长 上升 提高 | 减少 下降 降低
    开始 起始 | 结束 终止
    出发 起飞 离开 启程 | 到达 抵达 降落
    入住 | 退房
    开门 开馆 | 关门 闭馆
    上班 | 下班
    上传 | 下载
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair, in words or, for Chinese, parts of words."""

    words: frozenset[str]
    telling: frozenset[str]  #: of these, what has no other sense that is common in texts ("at the end")

    @classmethod
    def of(cls, words: str) -> Side:
        """From a list in which a word with a question mark behind it is not telling."""
        return cls(
            frozenset(word.rstrip("?") for word in words.split()),
            frozenset(word for word in words.split() if not word.endswith("?")),
        )


def _pairs() -> Iterator[tuple[bool, Side, Side]]:
    """Each pair both ways, and whether it only counts in questions for a time."""
    for line in _PAIRS.strip().splitlines():
        timed = line.strip().startswith(_TIMED)
        one, other = map(Side.of, line.strip().removeprefix(_TIMED).split("|"))
        yield from ((timed, one, other), (timed, other, one))


#: A line of `_PAIRS` for questions that ask when.
_TIMED = "when:"
_WHEN = re.compile(r"\b(?:when|(?:what|which) (?:time|day|date|year|month))\b", re.IGNORECASE)
PAIRS = tuple(_pairs())
_UP = re.compile(r"\b(?:end|start|open|close)(?:s|ed|d|ing)? (?:up|off|out|down)\b")
_CHECK = re.compile(r"\bcheck(?:ing)?[- ](in|out)\b", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+")
_CJK = re.compile(r"[\u3400-\u9fff]")


def says_opposite(question: str, text: str) -> bool:
    """Whether the text has the opposite of a word of the question, and neither that word nor one like it.

    A question that names both sides, or asks whether, can be answered by either.
    """
    if wanted.polar(question):
        return False
    asked, said = _plain(question), _plain(text)
    asked_words, said_words = frozenset(_WORD.findall(asked)), frozenset(_WORD.findall(said))
    for timed, one, other in PAIRS:
        if (
            _has(one.words, asked, asked_words)
            and _has(other.telling, said, said_words)
            and not _has(one.words, said, said_words)
            and not _has(other.words, asked, asked_words)
            and (not timed or _WHEN.search(asked) is not None)
        ):
            return True
    return False


def _plain(text: str) -> str:
    return _UP.sub(" ", _CHECK.sub(r"check\1", text).lower())


def _has(side: frozenset[str], text: str, words: frozenset[str]) -> bool:
    return not side.isdisjoint(words) or any(_CJK.match(word) is not None and word in text for word in side)
