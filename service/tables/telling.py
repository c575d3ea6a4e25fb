"""What a whole table says to a question, where it accounts for every word of it; else nothing.

    extreme   the row, or the rows, with the most or the least of a column, or the second most; among those
              that are named
    total     the cell of a row of totals
    cell      where the named row and the named column meet
    count     how many rows have a named value
    rows      which rows have it
    polar     what it says in a column of yes and no: does the Basic plan have a pool?
    mean      the average of a column, of all rows or of those that have a named value
    sum       what they come to, where no row tells the total

Invariants: what is compared or added is all rows of the table but those of totals, as values of one unit;
ties are all told; words of the answer are cells as they are written, numbers of rows, sums and averages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from service.questions.tabular import Extreme, Form, column_terms
from service.tables import values
from service.tables.measures import PRICES, asks_otherwise, measured, places_of, priced
from service.tables.naming import Named, Span
from service.tables.whole import Grid

Way = Literal["extreme", "total", "cell", "count", "rows", "polar", "mean", "sum"]

#: Names of columns that say how many of something there are, and what one of them costs.
_QUANTITIES = column_terms("qty quantity pieces units count number 数量 數量 件数 件數 个数 個數")[0]
#: In front of a number or a day they say that not only this one is meant.
_RANGE = re.compile(r"(?:\b(?:from|to|by|through)|[从從到至])\s*$", re.IGNORECASE)
#: What a row lacks is asked for.
_LACKING = re.compile(
    r"\b(?:without|(?:do|does|did|is|are|has|have)(?: not|n['’]?t)|lacks?|lacking|no)\b|没有|沒有"
    r"|不(?=[支含提带])",
    re.IGNORECASE,
)
_OR = re.compile(r"\bor\b|或", re.IGNORECASE)
#: More rows than these are not listed; where they are counted, so many are cited.
MOST_TOLD, MOST_CITED = 20, 5


@dataclass(frozen=True, slots=True)
class Told:
    """What a table says."""

    grid: Grid
    way: Way
    values: tuple[str, ...]  #: cells, or how many
    names: tuple[str, ...]  #: of the rows
    at: int  #: the column whose values were compared or are told; 0 where rows are counted or listed
    rows: tuple[int, ...]  #: that show it; the first ones, where they are too many to be listed
    looked_at: int  #: rows that were compared or gone through
    empty: int = 0  #: of these, how many tell nothing in that column
    first: Literal["names", "values"] = "values"  #: what was asked for
    exact: bool = True  #: columns were named in full, or not at all

    @property
    def column(self) -> str:
        """That column's header as it is written; "" where rows are counted or listed."""
        return "" if self.way in ("count", "rows") else self.grid.headers[self.at]


def tell_all(form: Form, grids: Sequence[Grid]) -> Told | None:
    """What the tables say to the question; None where they do not, or differ.

    A table whose columns are called as the question says goes before those that are called so in part.
    """
    found = [one for grid in grids if (one := tell(form, grid)) is not None]
    found = [one for one in found if one.exact] or found
    same = {(one.way, one.values, one.names if one.way != "cell" else ()) for one in found}
    return found[0] if len(same) == 1 else None


def tell(form: Form, grid: Grid) -> Told | None:
    """What the table says to the question; None where it does not account for all of it."""
    named = Named(form, grid)
    covered = [span for spans in (*named.columns.values(), *named.rows.values()) for span in spans]
    extremes = [e for e in form.extremes if not any(a < e.end and e.start < b for a, b in covered)]
    if len(extremes) > 1 or named.doubtful:
        return None
    if form.asks == "polar":
        return None if extremes or form.totals or form.means else _polar(named)
    if extremes:
        return _extreme(named, extremes[0])
    means = [span for span in form.means if not any(a < span[1] and span[0] < b for a, b in covered)]
    if means:
        return _added(named, means, mean=True)
    totals = [span for span in form.totals if not any(a < span[1] and span[0] < b for a, b in covered)]
    return _total(named) or _cell(named) or _rows(named) or (_added(named, totals) if totals else None)


def _extreme(named: Named, extreme: Extreme) -> Told | None:
    grid, subject = named.grid, named.subject
    if subject is None or named.form.asks_how_many:
        return None
    chosen = _filtered(named, subject)
    if chosen is None:
        return None
    rows, keys, used = chosen
    if (extreme.compares and len(keys) < 2) or len(keys) == 1 or not rows:
        return None
    found = measured(named, extreme, subject, rows)
    if found is None:
        return None
    measure, compared, most = found
    if asks_otherwise(named, subject, measure, compared):
        return None
    asked = {at for at in (*named.columns, *named.part_columns()) if at not in (measure, subject)}
    if asked - {at for at, _ in named.rows}:
        return None  # it asks for something else of the row, or counts what the rows of a group have
    spans = [*used, (extreme.start, extreme.end), *places_of(named, measure), *places_of(named, subject)]
    spans += [(a, b) for a, b, wanted in named.form.meant if measure in named.meant(wanted)]
    spans += [span for at in asked for span in places_of(named, at)]
    if named.rest(spans):
        return None
    known = [(value, row) for value, row in zip(compared.values, rows, strict=True) if value is not None]
    if 2 * len(known) < len(rows) or (keys and len(known) < len(rows)):
        return None
    placed = _placed(known, extreme.rank, most)
    winners = [row for value, row in known if placed and value == placed[-1]]
    if any(named.sums_some(row) for value, row in known if value in placed):
        return None
    if not winners or len(winners) > MOST_TOLD or len(winners) == len(rows) > 1:
        return None
    shown = [row for value, row in known if value in placed]
    wants_value = named.form.asks == "value" and not named.about and not places_of(named, subject)
    return Told(
        grid,
        "extreme",
        tuple(dict.fromkeys(grid.cell(row, measure) for row in winners)),
        tuple(grid.cell(row, subject) for row in winners),
        measure,
        tuple(shown if not keys else rows),
        len(rows),
        len(rows) - len(known),
        "values" if wants_value else "names",
        not named.parts,
    )


def _placed(known: Sequence[tuple[values.Value, int]], rank: int, most: bool) -> list[values.Value]:
    """The values from the first place to this one; none where a place before it is shared, or nobody has it.

    Behind two who share the first place comes the second or the third: people count in both ways.
    """
    ordered = sorted((value for value, _ in known), reverse=most)
    placed = ordered[:rank]
    return placed if len({*placed}) == rank else []


def _filtered(named: Named, subject: int) -> tuple[list[int], list[str], list[Span]] | None:
    """The rows that have the named values, the names of rows among these, and where all of it stands.

    None where a value stands in two columns, so that nobody knows which of them is meant.
    """
    grid = named.grid
    by_span: dict[Span, list[tuple[int, str]]] = {}
    for one, spans in named.rows.items():
        for span in spans:
            by_span.setdefault(span, []).append(one)
    wanted: dict[int, set[str]] = {}
    for span, some in by_span.items():
        columns = {at for at, _ in some}
        if len(columns) > 1:
            columns &= set(named.columns)
        if len(columns) != 1:
            return None
        [at] = columns
        if not _is_meant(named, span, at, [cell for column, cell in some if column == at]):
            return None
        wanted.setdefault(at, set()).update(cell for column, cell in some if column == at)
    if len(wanted) > 1 and _OR.search(named.form.question):
        return None
    rows = [
        row
        for row in range(len(grid.rows))
        if not named.sums(row) and all(grid.cell(row, at) in cells for at, cells in wanted.items())
    ]
    return rows, sorted(wanted.get(subject, ())), list(by_span)


def _is_meant(named: Named, span: Span, at: int, cells: Sequence[str]) -> bool:
    """Whether a value that the question has is one of a column: a bare number only if that is named, too."""
    told = values.column(cells)
    if told is None or at == named.subject:
        return True
    if _RANGE.search(named.form.question, 0, span[0]):
        return False
    if told.unit not in ("", "day") or any(c.isalpha() for c in "".join(cells)):
        return True
    verbs = any(at in named.meant(wanted) for *_, wanted in named.form.meant)
    return verbs or at in named.columns or at in named.parts


def _total(named: Named) -> Told | None:
    if not named.form.totals or named.rows:
        return None
    rows = named.total()
    found = _one_column(named, 0)
    if len(rows) != 1 or found is None:
        return None
    column, spans = found
    if named.rest([*spans, *places_of(named, 0), *named.form.totals, *_counted(named)]):
        return None
    return _meeting(named, "total", rows[0], named.grid.cell(rows[0], 0), column)


def _added(named: Named, asking: Sequence[Span], *, mean: bool = False) -> Told | None:
    """The average of a column or its sum; the latter only of a column that is named in full.

    "The total cost" of a unit cost, or of a price beside a quantity, is another sum. So is that of a table
    in which some rows sum up others.
    """
    grid, subject = named.grid, named.subject
    if subject is None:
        return None
    chosen, found = _filtered(named, subject), _one_column(named, subject)
    if chosen is None or found is None:
        return None
    (rows, keys, used), (column, spans) = chosen, found
    if keys or len(rows) < 2 or (not mean and (column not in named.columns or _multiplied(named, column))):
        return None
    if any(named.sums_some(row) for row in rows) or named.rest(
        [*asking, *used, *spans, *places_of(named, subject), *_counted(named)]
    ):
        return None
    cells = [grid.cell(row, column) for row in rows]
    empty = sum(values.empty(cell) for cell in cells)
    result = values.added(cells, mean=mean) if 2 * empty < len(cells) and (mean or not empty) else None
    if result is None:
        return None
    return Told(
        grid,
        "mean" if mean else "sum",
        (result,),
        tuple(grid.cell(row, subject) for row in rows),
        column,
        tuple(rows if len(rows) <= MOST_TOLD else rows[:MOST_CITED]),
        len(rows),
        empty,
        exact=not named.parts,
    )


def _multiplied(named: Named, column: int) -> bool:
    """Whether a column of money may be the price of one of several, or a column tells shares."""
    told = values.column([cell for cell in named.grid.column(column) if not values.empty(cell)])
    if re.search("%|percent|百分", named.grid.headers[column], re.IGNORECASE):
        return True  # shares have no sum
    quantities = [at for at in named.meant(_QUANTITIES) if at != column]
    return bool(quantities) and told is not None and (told.is_money or bool(named.meant(PRICES, [column])))


def _cell(named: Named) -> Told | None:
    subject = named.subject
    if subject is None:
        keys = [0] if any(at == 0 for at, _ in named.rows) else []
        if not keys:
            return None
        subject = 0
    chosen = _filtered(named, subject)
    if chosen is None:
        return None
    rows, names, used = chosen
    if len(rows) != 1 or len(names) != 1:
        return None
    found = _one_column(named, subject)
    if found is None:
        return None
    column, spans = found
    if named.rest([*used, *spans, *places_of(named, subject), *_counted(named)]):
        return None
    return _meeting(named, "cell", rows[0], names[0], column)


def _meeting(named: Named, way: Way, row: int, name: str, column: int) -> Told | None:
    """The cell of one row in one column; None where it is empty."""
    cell = named.grid.cell(row, column)
    if values.empty(cell):
        return None
    return Told(named.grid, way, (cell,), (name,), column, (row,), 1, exact=not named.parts)


def _one_column(named: Named, subject: int) -> tuple[int, list[Span]] | None:
    """The one column that is asked for, and the words that say so: its name, part of it, or a verb."""
    filtered = {at for at, _ in named.rows}
    for some in (named.columns, named.parts):
        told = [at for at in some if at != subject and at not in filtered]
        if told:
            return (told[0], places_of(named, told[0])) if len(told) == 1 else None
    for start, end, wanted in named.form.meant:
        told = priced(named, [at for at in named.meant(wanted) if at != subject and at not in filtered])
        if len(told) == 1:
            return told[0], [(start, end)]
    return None


def _rows(named: Named) -> Told | None:
    """How many rows, or which, have the values that are named."""
    grid, subject = named.grid, named.subject
    if subject is None or named.form.totals or (named.form.bare and not places_of(named, subject)):
        return None
    chosen = _having(named, subject) or _filtered(named, subject)
    if chosen is None:
        return None
    rows, names, used = chosen
    if names or not used or not rows:
        return None
    filtered = {at for at, _ in named.rows} or {at for at in (*named.columns, *named.parts) if at != subject}
    others = [at for at in (*named.columns, *named.parts) if at not in (subject, *filtered)]
    if others:
        return None  # another column is asked for, or counted
    counts = named.form.asks == "count"
    if len(rows) > MOST_TOLD and not counts:
        return None
    subjects = [grid.cell(row, subject) for row in rows]
    if counts and len({*subjects}) < len(subjects):
        return None  # orders, and not the customers that are asked for
    spans = [*used, *places_of(named, subject), *(span for at in filtered for span in places_of(named, at))]
    spans += [(start, end) for start, end, wanted in named.form.meant if set(named.meant(wanted)) & filtered]
    if named.rest([*spans, *_counted(named)]):
        return None
    looked_at = sum(not named.sums(row) for row in range(len(grid.rows)))
    return Told(
        grid,
        "count" if counts else "rows",
        (str(len(rows)),),
        tuple(dict.fromkeys(subjects)),
        min(filtered),
        tuple(rows if len(rows) <= MOST_TOLD else rows[:MOST_CITED]),
        looked_at,
        first="values" if counts else "names",
        exact=not named.parts,
    )


def _having(named: Named, subject: int) -> tuple[list[int], list[str], list[Span]] | None:
    """The rows that have what a column of yes and no tells, or that lack it (which plans have a pool)."""
    asked = [at for at in (*named.columns, *named.parts) if at != subject]
    told = values.polar(named.grid.column(asked[0])) if len(asked) == 1 and not named.rows else None
    if told is None or not places_of(named, subject):
        return None
    lacking = [found.span() for found in _LACKING.finditer(named.form.question)]
    rows = [row for row, has in enumerate(told) if has is (not lacking) and not named.sums(row)]
    return rows, [], [*lacking, *places_of(named, asked[0])]


def _polar(named: Named) -> Told | None:
    """What one row says in a column of yes and no, or of how many."""
    told = _cell(named)
    if told is None or _LACKING.search(named.form.question):
        return None
    cells = [cell for cell in told.grid.column(told.at) if not values.empty(cell)]
    counted = values.column(cells)
    if values.polar(cells) is None and (counted is None or counted.unit):
        return None
    return replace(told, way="polar")


def _counted(named: Named) -> list[Span]:
    return [named.form.counts] if named.form.counts else []
