"""Which column a superlative compares: the dearest a price, the oldest a year, the highest the named one.

A word may fit a column that tells something else: who was hired last is not the youngest, the longest meeting
not the latest, and a rank of 1 is the highest and the lowest. Then there is no column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.questions.tabular import Extreme, column_terms, joined, of_people
from service.tables import values
from service.tables.naming import Named, Span

PRICES = column_terms("price cost fee rate 价 價 费 費")[0]
_PRICED = column_terms("price cost 价格 價格 价钱 單價 单价 售价 售價 票价 价 價")[0]
_PLACES = column_terms(
    "city country place location region state site store office 城市 国家 國家 地点 地點 地区 地區"
)[0]
#: Columns in which the first is the best, so that nobody knows what the highest is.
_RANKINGS = column_terms("rank ranking position place priority 排名 名次")[0]
_BORN = column_terms("born birth birthday birthdate 出生 生日")[0]
_HOW_MUCH = re.compile(
    r"^\W*how much (?:is|are|was|were)\b|\bhow much (?:does|do|did)\b.*\bcost", re.IGNORECASE
)
_WHEN = re.compile(r"^\W*when\b|什么时候|什麼時候|何时|何時", re.IGNORECASE)
_WHERE = re.compile(r"^\W*where\b", re.IGNORECASE)


def asks_otherwise(named: Named, subject: int, measure: int, compared: values.Column) -> bool:
    """Whether it asks what the row with the most costs, where or when it is, which another column tells."""
    question = named.form.question
    if _HOW_MUCH.search(question):
        return not (compared.is_money or named.meant(PRICES, [measure]))
    if _WHEN.search(question):
        return compared.unit != "day"
    return _WHERE.search(question) is not None and any(
        at not in (subject, measure) for at in named.meant(_PLACES)
    )


def measured(
    named: Named, extreme: Extreme, subject: int, rows: Sequence[int]
) -> tuple[int, values.Column, bool] | None:
    """The one column whose values are compared, these, and whether most of it is wanted."""
    compared = {
        at: column
        for at in range(len(named.grid.names))
        if at != subject and (column := values.column([named.grid.cell(row, at) for row in rows])) is not None
    }
    filtered = {at for at, _ in named.rows}
    for some in (named.columns, named.parts):
        told = [at for at in some if at in compared and at not in filtered]
        if len(told) > 1:
            return None
        if told and (named.meant(_RANKINGS, told) or not _in_order(extreme, compared[told[0]])):
            return None
        if told and _fits(named, extreme, told[0], compared[told[0]]):
            return told[0], compared[told[0]], extreme.most != bool(named.meant(extreme.turned, told))
        if told or [at for at in named.columns if at not in (subject, *filtered)]:
            return None  # a column is named that cannot be compared, or not so
    wanted = set(extreme.columns | extreme.turned)
    if extreme.turned and "born" in wanted and of_people(named.form.question):
        wanted = {*(extreme.columns & _BORN), *extreme.turned}  # not who was the last to be hired
    for *_, terms in named.form.meant:
        wanted |= terms if not extreme.columns else set()
    told = priced(named, named.meant(frozenset(wanted), compared))
    if len(told) != 1 or not _in_order(extreme, compared[told[0]]):
        return None
    return told[0], compared[told[0]], extreme.most != bool(named.meant(extreme.turned, told))


def priced(named: Named, columns: list[int]) -> list[int]:
    """Of several columns, that of the price itself, where one is: a joining fee is beside it."""
    plain = named.meant(_PRICED, columns) if len(columns) > 1 else []
    return plain if len(plain) == 1 and len(plain) < len(named.meant(PRICES, columns)) else columns


def _in_order(extreme: Extreme, column: values.Column) -> bool:
    """Whether a column of days is asked for by a superlative of time: the longest is not the latest."""
    return column.unit != "day" or extreme.goes_with_any or "date" in extreme.columns


def _fits(named: Named, extreme: Extreme, at: int, column: values.Column) -> bool:
    """Whether a column that is named is one that the superlative may mean: the dearest has a price."""
    if extreme.goes_with_any:
        return any(joined(extreme, named.form.question, span) for span in places_of(named, at))
    if named.meant(extreme.columns | extreme.turned, [at]):
        return True
    money, day = "price" in extreme.columns, "year" in extreme.columns
    return (money and column.is_money) or (day and column.unit == "day")


def places_of(named: Named, column: int) -> list[Span]:
    """Where a question names a column, in full or in part."""
    return [*named.columns.get(column, ()), *named.parts.get(column, ())]
