"""Sentences that say the opposite of what is asked: the lowest for the highest, an arrival for a departure.

Small readers take them, and with much confidence, for all other words fit. Only pairs that do not stand for
each other in the same event are here: whoever buys from somebody is told by who sold, so buying and selling
are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
#: Where a clause ends.
_CUT = re.compile(r"[;,](?=\s)|[，；]|\b(?:and|but|while|whereas)\b|而")
_NUMBER = re.compile(r"[\d零一二三四五六七八九十百千万亿两]")


def says_opposite(question: str, text: str, answer: tuple[int, int] | None = None) -> bool:
    """Whether what is said is the opposite of a word of the question.

    Without a place, or where one clause says all: the text has that opposite, and neither the word nor one
    like it. A number belongs to the clause that it stands in: of "from Berlin at 11:20, arrival at 14:05" the
    first is no arrival, and of "departs at 10:40, arrives at 14:05" the second no departure. A question that
    names both sides, or asks whether, can be answered by either.

    Args:
        question: as asked.
        text: a sentence, or several.
        answer: where in it the answer stands, as far as known.
    """
    if wanted.polar(question):
        return False
    asked, said = _Said.of(question), _Said.of(text)
    pairs = [
        (one, other)
        for timed, one, other in PAIRS
        if asked.has(one.words)
        and not asked.has(other.words)
        and said.has(other.telling)
        and (not timed or _WHEN.search(question) is not None)
    ]
    if not pairs:
        return False
    cuts = [0, *(cut.end() for cut in _CUT.finditer(text)), len(text)]
    clauses = [(start, _Said.of(text[start:end])) for start, end in pairwise(cuts)]
    number = answer is not None and _NUMBER.search(text[slice(*answer)]) is not None
    own = max((start for start, _ in clauses if start <= answer[0]), default=0) if answer is not None else 0
    return any(_opposed(one, other, said, clauses, own if number else None) for one, other in pairs)


def _opposed(
    one: Side, other: Side, said: _Said, clauses: Sequence[tuple[int, _Said]], own: int | None
) -> bool:
    """Whether the answer is of the other side; `own` is where the clause of a number begins."""
    against = {
        start: clause for start, clause in clauses if clause.has(other.telling) and not clause.has(one.words)
    }
    if said.has(one.words):
        others = [clause for start, clause in clauses if start != own and clause.has(one.words)]
        return own in against and any(clause.number for clause in others)
    return own is None or own in against or not all(clause.number for clause in against.values())


@dataclass(frozen=True, slots=True)
class _Said:
    """A text as pairs are looked for in it."""

    text: str
    words: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Said:
        plain = _UP.sub(" ", _CHECK.sub(r"check\1", text).lower())
        return cls(plain, frozenset(_WORD.findall(plain)))

    @property
    def number(self) -> bool:
        return _NUMBER.search(self.text) is not None

    def has(self, side: frozenset[str]) -> bool:
        return not side.isdisjoint(self.words) or any(
            _CJK.match(word) is not None and word in self.text for word in side
        )
