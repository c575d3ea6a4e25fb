"""Questions that a passage nearly answers, made from those that it does answer.

    When did Norway join?  ->  When did Denmark join?      a name, year or number by another of the passage
    Who was the first ...  ->  Who was the last ...        a word by its opposite
    What did he accept     ->  What didn't he accept       a negation

That is how SQuAD 2's annotators wrote most of theirs. The same exchange in the passage alone asks the same of
a reader; made in both, the answer stands as before, so that an odd name as such says nothing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import rjieba

from ingest.scripts import script

#: Words that begin questions and sentences, which no name begins with.
_PLAIN = """
    a after all also although among an and another are as at because before both but by did do does
    during each for from had has have he her his how however i if in is it its many most name no of on
    one or other she since some such than that the their there these they this those though through to
    under until was were what when where which while who whom whose why will with would
"""
PLAIN = frozenset(_PLAIN.split())
NAME = re.compile(r"\b[A-Z][\w'’.-]*[\w](?: (?:of |the |de )?[A-Z][\w'’-]*\w)*")
YEAR, NUMBER = re.compile(r"\b1[0-9]{3}\b|\b20[0-9]{2}\b"), re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
_OPPOSITES = """
    first/last largest/smallest larger/smaller highest/lowest higher/lower most/least more/fewer
    before/after north/south east/west northern/southern eastern/western northeast/southwest
    northwest/southeast earliest/latest oldest/youngest longest/shortest best/worst major/minor
    increase/decrease increased/decreased won/lost win/lose above/below inside/outside always/never
    many/few early/late begin/end began/ended started/stopped allowed/forbidden public/private
    strong/weak positive/negative same/opposite support/oppose supported/opposed accept/reject
    accepted/rejected old/new beginning/end male/female men/women father/mother son/daughter buy/sell
    bought/sold enemy/ally common/rare popular/unpopular legal/illegal possible/impossible cause/prevent
    include/exclude rich/poor left/right upper/lower modern/ancient internal/external maximum/minimum
    top/bottom hot/cold fast/slow easy/difficult good/bad lack/presence agree/disagree build/destroy
    built/destroyed
"""
OPPOSITES = [pair.split("/") for pair in _OPPOSITES.split()]
OPPOSITE = {a: b for one, other in OPPOSITES for a, b in ((one, other), (other, one))}
#: What rjieba calls names of people, places, organisations and works.
NAMED = {"nr": "person", "nrt": "person", "nrfg": "person", "ns": "place", "nt": "body", "nz": "work"}
QUOTED = re.compile(r"《([^》]{2,20})》")
_OPPOSITES_ZH = """
    最大/最小 最高/最低 最早/最晚 最多/最少 最长/最短 最好/最差 最强/最弱 最快/最慢 第一个/最后一个 首次/末次
    之前/之后 以前/以后 增加/减少 上升/下降 提高/降低 成功/失败 国内/国外 父亲/母亲 儿子/女儿 丈夫/妻子 哥哥/弟弟
    姐姐/妹妹 北部/南部 东部/西部 东南/西北 东北/西南 开始/结束 出生/去世 开通/关闭 成立/解散 支持/反对 优点/缺点 内部/外部
    左侧/右侧 上游/下游 获胜/落败 击败/输给 同意/拒绝 进入/离开 主要/次要 买/卖 胜/负
"""
OPPOSITES_ZH = [pair.split("/") for pair in _OPPOSITES_ZH.split()]
DENIED_ZH = re.compile(r"(属于|可以|可能|需要|包括|参加|采用|使用|支持|获得|出现|适合|具有|允许)")
DENIED = re.compile(r"\b(did|does|do|was|were|is|are|can|could|has|have|would|will)\b", re.IGNORECASE)


def things(text: str) -> dict[str, list[str]]:
    """Names, years and numbers of a text, each once."""
    if script(text) == "CJK":
        return _chinese(text)
    names = []
    for found in NAME.finditer(text):
        name = found[0]
        head, _, rest = name.partition(" ")
        if head.lower() in PLAIN:
            name = rest
        if len(name) > 2 and name[0].isupper():
            names.append(name)
    years = YEAR.findall(text)
    numbers = [n for n in NUMBER.findall(text) if not YEAR.fullmatch(n)]
    return {
        kind: list(dict.fromkeys(some))
        for kind, some in (("name", names), ("year", years), ("number", numbers))
    }


def _chinese(text: str) -> dict[str, list[str]]:
    """The same of a Chinese text, whose names stand by what they name."""
    found: dict[str, list[str]] = {kind: [] for kind in (*NAMED.values(), "year", "number")}
    for word, tag in rjieba.tag(text):
        if tag in NAMED and len(word) > 1:
            found[NAMED[tag]].append(word)
    found["work"] += QUOTED.findall(text)
    found["year"] = re.findall(r"(?<!\d)[12]\d{3}(?=年)", text)
    found["number"] = [
        n for n in re.findall(r"(?<![\d.])\d[\d,.]*\d|(?<![\d.])\d(?!\d)", text) if n not in found["year"]
    ]
    return {kind: list(dict.fromkeys(some)) for kind, some in found.items()}


def put(text: str, old: str, new: str) -> str:
    """The text with a thing exchanged wherever it stands."""
    # In Chinese nothing parts words, so that there only letters and digits hold a thing together.
    edge = r"[A-Za-z\d]" if "CJK" in (script(text), script(old)) else r"\w"
    return re.sub(rf"(?<!{edge}){re.escape(old)}(?!{edge})", lambda _: new, text)


def other(
    question: str, near: str, far: str, accepted: Sequence[str], draw: random.Random
) -> tuple[str, str] | None:
    """A thing of the question, and another of its kind from the passage, or else from the article."""
    asked = things(question)
    choices = [(kind, thing) for kind in asked for thing in asked[kind]]
    draw.shuffle(choices)
    for kind, thing in choices:
        for text in (near, far) if draw.random() < 0.7 else (far, near):
            fit = [
                one
                for one in things(text).get(kind, ())
                if one not in question
                and thing not in one
                and not any(one in a or a in one for a in accepted)
                and (kind != "name" or abs(one.count(" ") - thing.count(" ")) <= 1)
            ]
            if fit:
                return thing, draw.choice(fit)
    return None


def turned(question: str, draw: random.Random) -> str | None:
    """The question with a word of it turned round, or else denied; None where it has no such word."""
    return (opposite if draw.random() < 0.6 else denied)(question, draw)


def opposite(question: str, draw: random.Random) -> str | None:
    """The question with a word of it turned round; None where there is none."""
    if script(question) == "CJK":
        turns = [(a, b) for pair in OPPOSITES_ZH for a, b in (pair, pair[::-1]) if a in question]
        return question.replace(*draw.choice(turns), 1) if turns else None
    found = [m for m in re.finditer(r"\w+", question) if m[0].lower() in OPPOSITE]
    if not found:
        return None
    one = draw.choice(found)
    return question[: one.start()] + OPPOSITE[one[0].lower()] + question[one.end() :]


def denied(question: str, draw: random.Random) -> str | None:
    """The question with a "not" or "never" behind its first auxiliary; None where it has none."""
    if script(question) == "CJK":
        said = DENIED_ZH.search(question)
        if said is None or re.search(r"[不没未非无]", question):
            return None
        return question[: said.start()] + draw.choice(["不", "没有", "从未"]) + question[said.start() :]
    found = DENIED.search(question)
    if found is None or "?" not in question or re.search(r"n[o']t\b|\bnever\b", question):
        return None
    word = draw.choice([found[0] + " not", found[0] + " never", found[0] + "n't"])
    if word.endswith(("amn't", "cann't", "willn't")):
        word = found[0] + " not"
    return question[: found.start()] + word + question[found.end() :]
