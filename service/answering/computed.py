"""What a whole table says, where it accounts for every word of the question: computed, and not read.

The dearest of all rows, how many rows there are, an average, where row and column meet (`service.tables`). A
passage may hold a few rows of the table only; all of them are taken from the stored document. The answer's
words are cells as they are written, numbers of rows, sums and averages; the citations are the rows, and a
remark of our own says how many rows were compared or added. So `llm_generated` is false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from service import evidence
from service.answering.turn import Turn
from service.citations import Citer, Statement
from service.events import Checked, Event, Token
from service.questions import tabular
from service.reading.steering import asks_about, silent
from service.tables.telling import MOST_CITED, MOST_TOLD, Told, tell_all
from service.tables.whole import grids

#: The share of such answers that were right while this was made; see docs/confidence.md.
RIGHT = 0.9
#: What was done with the rows, in English and Chinese; else they were looked at.
#: A unit that only the header has: 收入（万元）.
_UNIT = re.compile(r"[(（][^()（）]{1,12}[)）]\s*$")
_DID = {"extreme": ("Compared", "比较"), "mean": ("Averaged", "平均"), "sum": ("Added up", "相加")}
#: Who says so.
CALIBRATOR = "tables"


def answer(turn: Turn) -> Iterator[Event]:
    """The answer of a table; ends without `Final` where none answers for certain: others have to read.

    Raises:
        Cancelled: the question was withdrawn.
    """
    told = _told(turn)
    turn.check_cancel()
    if told is None:
        return
    citer = Citer(turn.ask.question, ())
    markers = tuple(
        citer.add(*told.grid.cited(first, last, told.at), 1.0) for first, last in _stretches(told.rows)
    )
    statements = [Statement(_words(told, turn.ask.question), tuple(dict.fromkeys(markers)))]
    yield Token(statements[0].text)
    yield Checked(statements[0], tuple(citer.citations))
    if remark := _remark(told, turn.ask.question):
        statements.append(Statement(f"\n\n{remark}", ours=True))
        yield Checked(statements[1], ())
    yield turn.final(
        tuple(statements),
        answered=True,
        llm_generated=False,
        quoted_by="table",
        confidence=RIGHT,
        calibrator=CALIBRATOR,
        citations=tuple(citer.citations),
    )


def _told(turn: Turn) -> Told | None:
    ask, parsed = turn.ask, turn.source.parsed
    form = tabular.form(ask.question)
    strict = ask.acceptable_error is not None and ask.acceptable_error < 1.0 - RIGHT
    if form is None or parsed is None or strict:
        return None
    heard = turn.heard
    told = tell_all(form, grids([hit for hit in heard.hits if not heard.steers(hit)], parsed))
    if told is None or asks_about(ask.question):
        return told
    rows = [told.grid.rows[at] for at in told.rows]
    spans = [span for row in rows for span in ((row.start, row.end), *row.cells)]
    quoted = (told.grid.hit.text[start:end] for start, end in spans)
    return None if any(silent(text) for text in quoted) else told  # what speaks to a model is not quoted


def _stretches(rows: tuple[int, ...]) -> list[tuple[int, int]]:
    """The rows as first and last of those that stand one below the other."""
    found: list[tuple[int, int]] = []
    for row in sorted(rows):
        if found and row == found[-1][1] + 1:
            found[-1] = found[-1][0], row
        else:
            found.append((row, row))
    return found


def _words(told: Told, question: str) -> str:
    chinese = evidence.in_chinese(question)
    between = "、" if chinese else ", "
    names, values = between.join(told.names), between.join(told.values)
    if told.way == "polar":
        return f"{told.column}{'：' if chinese else ': '}{values}"
    if told.way in ("cell", "total", "mean", "sum"):
        unit = _UNIT.search(told.column) if told.way in ("mean", "sum", "total") else None
        return (
            f"{values} {unit[0]}"
            if unit and not unit[0].startswith("（")
            else values + (unit[0] if unit else "")
        )
    if told.way == "rows":
        return names
    if told.way == "count":
        listed = len(told.names) <= MOST_TOLD
        return (f"{values}（{names}）" if chinese else f"{values} ({names})") if listed else values
    if told.first == "values":
        return f"{values}（{names}）" if chinese else f"{values} ({names})"
    return f"{names}（{told.column}：{values}）" if chinese else f"{names} ({told.column}: {values})"


def _remark(told: Told, question: str) -> str:
    """How many rows were compared or gone through, and whether all that count are cited; "" for one cell."""
    if told.way in ("cell", "total", "polar"):
        return ""
    some = len(told.names) > len(told.rows)
    did, did_zh = _DID.get(told.way, ("Looked at", "查看"))
    if evidence.in_chinese(question):
        said = [f"{did_zh}了表中的 {told.looked_at} 行"]
        said += [f"其中 {told.empty} 行没有值"] if told.empty else []
        said += [f"引用了最前面的 {MOST_CITED} 行"] if some else []
        return "，".join(said) + "。"
    rows = "1 row" if told.looked_at == 1 else f"{told.looked_at} rows"
    said = [f"{did}: {rows} of the table"]
    said += [f"{told.empty} without a value there"] if told.empty else []
    said += [f"the first {MOST_CITED} that count are cited"] if some else []
    return "; ".join(said) + "."
