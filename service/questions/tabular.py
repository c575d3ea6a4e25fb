r"""Questions over a table, by their words: the dearest, the first, how many, which, the total, a cell.

`form` says what a question may ask of a table; `service.tables` says whether a table accounts for its words.
A superlative brings the words that columns for it are called by (the dearest: price, cost, 价格), so
"Which lamp is the most expensive?" needs no column of that name. English and Chinese (both scripts).

Invariant: nothing here knows a table. Whatever is not listed here or said by the table (not, than 50,
除, 超过) is left over, and what leaves a word over is not answered from a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ingest import words
from service.questions import wanted

Asks = Literal["who", "value", "count", "plain", "polar"]

_PRICE = (
    "price cost fee fare charge tariff 价格 價格 售价 售價 单价 單價 定价 定價 价钱 价 價 费用 費用 票价 房价"
)
_WEIGHT = "weight mass 重量 体重 體重 净重"
_HEIGHT = "height elevation altitude 高度 身高 海拔"
_LENGTH = "length 长度 長度 全长 全長"
_TIME = "duration time 时长 時長 用时 用時 耗时 耗時 时间 時間"
_AREA = "area size 面积 面積 尺寸"
_PEOPLED = "population inhabitants 人口"
_BEGAN = (
    "opened founded built established launched released published born birthday year started date "
    "成立 建立 建成 建校 出生 年份 上市 发布 出版 开业 開業 日期 时间"
)
_DAY = (
    "date day year time start started begin began opened launched published released founded departure "
    "arrival 日期 时间 時間 年份 年 上市 发布 出版 成立 入职"
)
_SALARY = "salary pay wage earnings income compensation 工资 工資 薪资 薪資 薪水 月薪 年薪 收入"
_RATING = "rating score grade mark points 评分 評分 得分 分数 分數 成绩 成績"
#: A superlative or a comparative, whether it wants most or least, and the columns that it means by itself.
_FORMS: tuple[tuple[str, bool, str], ...] = (
    (r"(?:most|more) (?:expensive|costly)|dear(?:est|er)|pric(?:iest|ier)", True, _PRICE),
    (r"(?:least|less) (?:expensive|costly)|cheap(?:est|er)", False, _PRICE),
    (r"heav(?:iest|ier)", True, _WEIGHT),
    (r"light(?:est|er)", False, _WEIGHT),
    (r"tall(?:est|er)", True, _HEIGHT),
    (r"short(?:est|er)", False, f"{_LENGTH} {_HEIGHT} {_TIME} distance 距离 距離"),
    (r"long(?:est|er)", True, f"{_LENGTH} {_TIME} distance 距离 距離"),
    (r"(?:wid|broad)(?:est|er)", True, "width breadth 宽度 寬度"),
    (r"narrow(?:est|er)", False, "width breadth 宽度 寬度"),
    (r"deep(?:est|er)", True, "depth 深度"),
    (r"shallow(?:est|er)", False, "depth 深度"),
    (r"fast(?:est|er)|quick(?:est|er)", True, "speed velocity 速度 时速 時速"),
    (r"slow(?:est|er)", False, "speed velocity 速度 时速 時速"),
    (r"hott(?:est|er)|warm(?:est|er)", True, "temperature 气温 氣溫 温度 溫度"),
    (r"(?:cold|cool)(?:est|er)", False, "temperature 气温 氣溫 温度 溫度"),
    (r"(?:farth|furth)(?:est|er)", True, "distance 距离 距離"),
    (r"near(?:est|er)|clos(?:est|er)", False, "distance 距离 距離"),
    (r"(?:most|more) populous", True, _PEOPLED),
    (r"(?:least|less) populous", False, _PEOPLED),
    (r"best paid|highest paid", True, _SALARY),
    (r"best|better", True, _RATING),
    (r"worst|worse", False, _RATING),
    (r"(?:most|more) recent(?:ly)?|latest|newest|newer", True, _BEGAN),
    (r"young(?:est|er)", True, f"{_BEGAN} -age -年龄 -年齡"),
    (r"old(?:est|er)", False, f"{_BEGAN} -age -年龄 -年齡"),
    (r"earliest|earlier|first", False, _DAY),
    (r"last|later", True, _DAY),
    (r"larg(?:est|er)|bigg(?:est|er)", True, f"{_AREA} {_PEOPLED}"),
    (r"small(?:est|er)", False, f"{_AREA} {_PEOPLED}"),
    (r"high(?:est|er)", True, _HEIGHT),
    (r"low(?:est|er)", False, _HEIGHT),
    (r"greatest|greater|maximum|max", True, ""),
    (r"(?<!at )most|more(?! than)", True, ""),
    (r"(?<!at )least|less(?! than)|fewest|fewer|minimum|min", False, ""),
)
_FORMS_ZH: tuple[tuple[str, bool, str], ...] = (
    ("贵|貴", True, _PRICE),
    ("便宜", False, _PRICE),
    ("重", True, _WEIGHT),
    ("轻|輕", False, _WEIGHT),
    ("长|長", True, f"{_LENGTH} {_TIME} 距离 距離"),
    ("短", False, f"{_LENGTH} {_TIME} 距离 距離"),
    ("宽|寬", True, "宽度 寬度"),
    ("窄", False, "宽度 寬度"),
    ("深", True, "深度"),
    ("浅|淺", False, "深度"),
    ("快", True, "速度 时速 時速"),
    ("慢", False, "速度 时速 時速"),
    ("热|熱|暖", True, "气温 氣溫 温度 溫度"),
    ("冷", False, "气温 氣溫 温度 溫度"),
    ("远|遠", True, "距离 距離"),
    ("年轻|年輕", True, f"{_BEGAN} -年龄 -年齡"),
    ("老|年长|年長|古老", False, f"{_BEGAN} -年龄 -年齡"),
    ("早", False, _DAY),
    ("晚|新", True, _DAY),
    ("好", True, _RATING),
    ("差", False, _RATING),
    # Of people it is the age: 谁最大？
    ("大", True, f"{_AREA} {_PEOPLED} 年龄 年齡 -出生 -生日"),
    ("小", False, f"{_AREA} {_PEOPLED} 年龄 年齡 -出生 -生日"),
    ("高", True, _HEIGHT),
    ("低|矮", False, _HEIGHT),
    ("多", True, ""),
    ("少", False, ""),
)
#: Which one from the top or the bottom: the second largest, 第三高.
_RANKS = {
    word: rank
    for rank, some in enumerate(("second 2nd 二 2", "third 3rd 三 3", "fourth 4th 四 4", "fifth 5th 五 5"), 2)
    for word in some.split()
}
_ORDINAL = r"(?:second|third|fourth|fifth|2nd|3rd|4th|5th)[ -]"
_ORDINAL_ZH = r"第[二三四五2345]"
_RANKED = re.compile(rf"\b{_ORDINAL}$", re.IGNORECASE)
#: Two things, and at the end of a clause what one of them has more of: 甲和乙谁高？ 甲和乙的面积哪个大？
_OF_TWO = re.compile(r"(?:[和与與跟同、]|还是|還是).*[谁誰哪]|[谁誰哪].*(?:[和与與跟、]|还是|還是)")
_ENDS = r"(?:一?[些点點])?(?=[呢啊呀]?\s*(?:[，,：:。？?]|$))"
#: Words of a question that mean columns, beside the superlatives.
_VERBS: tuple[tuple[str, str], ...] = (
    (r"earn(?:s|ed|ing)?|(?:is|are|was|were|gets?|got) paid", _SALARY),
    (r"costs?", _PRICE),
    (r"weigh(?:s|ed)?|how heavy", _WEIGHT),
    (r"how (?:tall|high)", _HEIGHT),
    (r"how long", f"{_LENGTH} {_TIME}"),
    (r"how deep", "depth"),
    (r"how wide", "width"),
    (r"how far", "distance"),
    (r"how old", "age"),
    (r"how fast", "speed"),
    (r"how big|how large", _AREA),
    ("多少钱|多少錢|卖多少|賣多少", _PRICE),
    ("多重", _WEIGHT),
    ("多高", _HEIGHT),
    ("多长|多長", _LENGTH),
    ("多大|几岁|幾歲|多少岁", "年龄 年齡 age"),
)
#: Words that ask for a sum, which only a row of the table may tell.
_TOTAL = re.compile(
    r"\b(?:grand )?total\b|\b(?:in all|altogether)\b|总共|總共|一共|合计|合計|总计|總計|总和|總和"
    r"|[总總](?![经經监監裁部公统統理编編务務])",
    re.IGNORECASE,
)
#: Words that ask for an average.
_MEAN = re.compile(r"\b(?:on average|average|mean(?!\s*[?.!]*$))\b|平均(?:值|数|數)?", re.IGNORECASE)
_COUNT = re.compile(
    r"\bhow many\b|有?多少[个個名位家款种種本台座条條所]?|有?[几幾][个個名位家款种種本台座条條所]",
    re.IGNORECASE,
)
_VALUE = re.compile(
    rf"^\W*what(?:['’]s| is| was| are| were)? (?:the )?(?:{_ORDINAL})?"
    r"(?:highest|lowest|greatest|largest|smallest|biggest"
    r"|maximum|minimum|max|min|most|least|best|worst|earliest|latest)\b"
    r"(?! (?:expensive|costly|populous|recent))"
    r"|^\W*how (?:much|many|high|low|large|long|old)\b|多少|^\W*(?:最|第).{1,12}?是(?:几|幾)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(?:what|which|who|whose|when|where|how|list|name|show|give|tell)\b|[谁誰哪几幾多最]|什[么麼]|列出",
    re.IGNORECASE,
)
_SCORES = re.compile(r"\b(?:scores?|marks?|grades?|points?|ratings?)\b|[分绩績]", re.IGNORECASE)
#: What has no verb asks for a thing by its name, if it is as short as this: unit price of the whiteboard.
MOST_WORDS, MOST_CHARACTERS_ZH = 8, 20
#: Superlatives that go with every column that is named.
_ANY = re.compile(r"larg|bigg|small|high|low|[大小高低]", re.IGNORECASE)
_BEST = re.compile(r"best|worst|better|worse|[好差]", re.IGNORECASE)
#: What may stand between a superlative and its column: "the best score in physics", "the largest city by
#: population", 价格最高, 最高的价格; not "the price of the largest", which asks for something else of it.
_BEHIND = re.compile(
    r"\s*(?:(?:scores?|marks?|grades?|results?|levels?|amounts?|numbers?) )?(?:(?:by|in|for|of|on) )?"
    r"(?:the |its )?|[^,;]* by (?:the |its )?|的?",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"\s*(?:is |are |was |were )?(?:the |its )?|[的是上，,\s]*(?:方面|哪[一]?.|[谁誰])?[是\s]*", re.IGNORECASE
)
#: Superlatives of any adjective. What is first, last, latest or best is told in other ways, too.
_SUPERLATIVE = re.compile(
    rf"\bthe (?:{_ORDINAL})?(?:most|least)\b(?! recent)"
    rf"|\bthe (?:{_ORDINAL})?"
    r"(?!(?:best|latest|test|contest|protest|request|quest|guest|digest|harvest|manifest|rest|arrest|forest"
    r"|interest|nest|chest|west|northwest|southwest)\b)"
    r"[a-z]{2,}est\b|最(?![后後近新好终終初])[\u3400-\u9fff]"
    # Longer words begin like these: 第二大道, 第三小学.
    rf"|{_ORDINAL_ZH}[大小高低长長短多少贵貴早晚](?=[的是\W]|$)",
    re.IGNORECASE,
)
#: Grammar and words that say nothing of their own about a table; all others have to be found in it.
_SAYS_NOTHING = re.compile(
    r"\b(?:a|an|the|is|are|was|were|be|been|of|in|at|on|per|for|to|from|by|with|do|does|did|has|have|had|having"
    r"|gets?|got|what|what's|which|who|whom|whose|when|where|how|much|many|there|it|its|they|their|them|this"
    r"|these|that|those|and|or|me|i|us|please|can|could|you|tell|show|give|name|list|one|ones|all|works?"
    r"|working|worked|lives?|belongs?|won|wins?|includ(?:es?|ed|ing)|offers?|offered|comes?|located|based|situated|listed|called|named|table|s)\b"
    r"|请问|請問|告诉我|告訴我|[请請]|哪[一]?[个個款本座所家位名种種条條只部台辆輛间間项項者里裡儿兒天年些]?"
    r"|[谁誰]|什[么麼](?:时候|時候|时间|時間)?|何时|何時|多少|[几幾]|还是|還是|之中|当中|當中|其中|所有|全部|叫|列出"
    r"|支持|包含|包括|提供|[是的了有在呢吗嗎里裡和与與跟个個名位款本座所家种種条條]|台(?!中)|(?<!台)中(?!和)",
    re.IGNORECASE,
)
#: Written like this they are names: a department, a country, an organisation.
_NAMES_IN_CAPITALS = frozenset(("IT", "US", "WHO"))
#: Signs that say something of the number behind or in front of them.
_SAYING_SIGNS = frozenset("<>≤≥≠=+＜＞")
#: Nouns for whatever a named column has.
_MEASURES = re.compile(
    r"\b(?:scores?|marks?|grades?|results?|values?|amounts?|numbers?|figures?|levels?)\b|分数|分數|成绩|成績|数量|數量|数值|數值",
    re.IGNORECASE,
)
#: Nouns for who stands in a table of names.
_PEOPLE = re.compile(
    r"\b(?:persons?|people|employees?|workers?|members?|staff|colleagues?|students?|players?)\b|[人员員]|员工|員工|职员|成员|同事",
    re.IGNORECASE,
)
_ASKS_WHO = re.compile(rf"\bwho(?:se|m)?\b|[谁誰]|{_PEOPLE.pattern}", re.IGNORECASE)
_CJK = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Extreme:
    """A superlative or comparative of a question."""

    start: int
    end: int
    most: bool
    columns: frozenset[str]  #: terms of columns that it means by itself; empty: the question names one
    turned: frozenset[str]  #: terms of columns that it means the other way round: the oldest has most years
    compares: bool  #: of things that the question names (older), not of all (oldest)
    goes_with_any: bool  #: with every column that is named (the highest salary, the largest stock)
    rank: int = 1  #: 2 for the second largest


@dataclass(frozen=True, slots=True)
class Form:
    """What a question may ask of a table. Spans are of the question."""

    question: str
    asks: Asks
    extremes: tuple[Extreme, ...]
    totals: tuple[tuple[int, int], ...]
    means: tuple[tuple[int, int], ...]
    meant: tuple[tuple[int, int, frozenset[str]], ...]  #: words that mean a column, and its terms
    counts: tuple[int, int] | None  #: where it asks how many
    bare: bool = False  #: it only names things: price of the whiteboard

    @property
    def asks_how_many(self) -> bool:
        """Whether it asks for a number of things, in English; 多少 also asks for a value."""
        return self.counts is not None and self.question[slice(*self.counts)].isascii()


def form(question: str) -> Form | None:
    """What a question may ask of a table; None for what asks nothing of the kind."""
    if len(question) > 300:
        return None
    counted = _COUNT.search(question)
    extremes = tuple(_extremes(question))
    polar = wanted.polar(question)
    named = _ASKS.search(question) or extremes or _TOTAL.search(question) or _MEAN.search(question)
    long = len(question) > MOST_CHARACTERS_ZH if _CJK.search(question) else len(question.split()) > MOST_WORDS
    if long and not (named or polar):
        return None
    asks: Asks = "plain"
    if polar:
        asks = "polar"
    elif extremes:
        asks = "value" if _VALUE.search(question) else "who"
    elif counted:
        asks = "count"
    return Form(
        question,
        asks,
        extremes,
        tuple(found.span() for found in _TOTAL.finditer(question)),
        tuple(found.span() for found in _MEAN.finditer(question)),
        tuple(
            (*found.span(), column_terms(columns)[0])
            for pattern, columns in _VERBS
            for found in _pattern(pattern).finditer(question)
        ),
        counted.span() if counted else None,
        not (named or polar),
    )


def joined(extreme: Extreme, question: str, column: tuple[int, int]) -> bool:
    """Whether a superlative is said of the column that stands there."""
    start, end = column
    if extreme.end <= start:
        return _BEHIND.fullmatch(question, extreme.end, start) is not None
    return _BEFORE.fullmatch(question, end, extreme.start) is not None


def superlatives(question: str) -> list[str]:
    """The superlatives of a question, which only a look at all things can answer: tallest, the most, 最高."""
    return [found[0].lower().removeprefix("the ") for found in _SUPERLATIVE.finditer(question)]


def _extremes(question: str) -> Iterator[Extreme]:
    """The longest at each place, in the order of the question."""
    taken = [False] * len(question)
    found: list[Extreme] = []
    for pattern, most, columns in _FORMS:
        for match in _pattern(pattern).finditer(question):
            word = match[0].lower()
            than = word.startswith(("more", "less", "fewer", "worse")) or word.split()[0].endswith("er")
            which = None if than else _RANKED.search(question, 0, match.start())
            start, rank = (which.start(), _RANKS[which[0][:-1].lower()]) if which else (match.start(), 1)
            found += _free(
                taken, question, (start, match.end()), word, (most, columns), compares=than, rank=rank
            )
    for pattern, most, columns in _FORMS_ZH:
        for match in re.finditer(rf"(?P<how>最|更|比[较較]|{_ORDINAL_ZH})(?P<word>{pattern})", question):
            how = match["how"]
            than, rank = how[0] in "更比", _RANKS[how[1]] if how[0] == "第" else 1
            found += _free(
                taken, question, match.span(), match["word"], (most, columns), compares=than, rank=rank
            )
    if not found and _OF_TWO.search(question):
        found += _of_two(question)
    yield from sorted(found, key=lambda extreme: extreme.start)


def _of_two(question: str) -> Iterator[Extreme]:
    """Of two things that are named, a plain adjective says which one is meant: 谁高 is 谁更高."""
    bare = [
        (match.span(), match[0], (most, columns))
        for pattern, most, columns in _FORMS_ZH
        for match in re.finditer(rf"(?:{pattern}){_ENDS}", question)
    ]
    taken = [False] * len(question)
    for span, word, means in sorted(bare):  # 年长 before 长
        yield from _free(taken, question, span, word, means, compares=True)


def _free(
    taken: list[bool],
    question: str,
    span: tuple[int, int],
    word: str,
    means: tuple[bool, str],
    *,
    compares: bool,
    rank: int = 1,
) -> Iterator[Extreme]:
    """What stands there, unless a longer one does; `means` is whether most of it, and of which columns."""
    start, end = span
    if not any(taken[start:end]):
        taken[start:end] = [True] * (end - start)
        meant, turned = column_terms(means[1])
        best = _BEST.match(word) is not None and _SCORES.search(question) is not None
        any_column = not means[1] or best or _ANY.match(word) is not None
        yield Extreme(start, end, means[0], meant, turned, compares, any_column, rank)


@lru_cache(maxsize=512)
def column_terms(columns: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of columns as terms: those that are meant, and behind a minus those meant the other way."""
    meant = [name for name in columns.split() if not name.startswith("-")]
    turned = [name[1:] for name in columns.split() if name.startswith("-")]
    return frozenset(map(_term, meant)), frozenset(map(_term, turned))


def _term(name: str) -> str:
    return name if _CJK.search(name) else words.terms(name)[0]


@lru_cache(maxsize=128)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern if _CJK.search(pattern) else rf"\b(?:{pattern})\b", re.IGNORECASE)


def rest(text: str, *, measure: bool, people: bool) -> str:
    """What is left of a question's words without those that say nothing of their own.

    Args:
        text: the question, blank where a table accounts for it.
        measure: a column is named, so that nouns such as "score" or "amount" say nothing more.
        people: the table is one of people, so that "employee" says nothing more.
    """
    names = frozenset() if text.isupper() else _NAMES_IN_CAPITALS

    def blank(found: re.Match[str]) -> str:
        return found[0] if found[0] in names else " " * len(found[0])

    for pattern, applies in ((_MEASURES, measure), (_PEOPLE, people), (_SAYS_NOTHING, True)):
        if applies:
            text = pattern.sub(blank, text)
    return "".join(c for c in text if c.isalnum() or c in _SAYING_SIGNS)


def of_people(question: str) -> bool:
    """Whether a question asks for people."""
    return _ASKS_WHO.search(question) is not None
