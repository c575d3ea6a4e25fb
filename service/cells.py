"""What the cells of a table say: a row and a column that the question names meet in one cell.

Small models read rows badly: they take the neighbour's number. Where the question names a row by the words of
one of its cells, and a column by those of its header, nothing needs to be read. In Markdown tables as the
parsers write them:

    cell      "What is the unit cost of SKU-7728?"    the cell where row and column meet
    beside    "What is the VIN?"                      what stands right of its label, in a form of such pairs
    named     "Who is 30 years old?" 谁30岁？          the first cell of the only row that has this value

An empty cell is known, too: the table has the row and the column, and does not tell.

Invariants: rows are spans of the hit's text, cells spans of a row; nothing is computed or put in other words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.errors import UnknownDocument
from ingest.types import Hit
from ingest.widening import Parsed
from service import evidence
from service.questions import tabular, years
from service.quoting import Similarity

Way = Literal["cell", "beside", "named"]
Span = tuple[int, int]

#: How likely such a cell is right: named by the header's own words; by their meaning.
BY_WORDS, BY_MEANING = 0.85, 0.4
#: Share of the question's content words that row, column and headings must cover.
COVERED = 0.6
#: How much closer the column's name must be to the question than any other's, as a cosine.
CLEARLY = 0.01
#: Text before a passage that may hold its table's header, in characters.
BEFORE = 20_000

_ROW = re.compile(r"^[ \t]{0,3}\|(?P<cells>.*)\|[ \t]*$", re.MULTILINE)
_DASHES = re.compile(r"[\s|:-]*-[\s|:-]*")
_CELL = re.compile(r"(?:\\.|[^|\\])*")
_MARKS = str.maketrans("", "", "`*")
_CJK = re.compile(r"[\u3400-\u9fff]")
_NUMBER = re.compile(r"\d")
#: Questions for a number, a day, a person or thing by its name.
#: How many things, and the column that tells.
_COUNTS = re.compile(
    r"\bhow many\b|多少[个個件台只张張把套箱本]|[几幾][个個件台只张張把套箱本]", re.IGNORECASE
)
_QUANTITY = re.compile(
    r"^(?:quantity|qty|count|units|pieces|ordered|数量|數量|件数|件數|个数|個數)$", re.IGNORECASE
)
_MANY = re.compile(
    r"\bhow (?:many|much|old|large|big|long|tall|far|high|heavy)\b|多少|多大|多高|多长|多重|几", re.I
)
_WHEN = re.compile(r"\bwhen\b|\bwhat (?:date|day|year)\b|什么时候|何时|哪天|哪年|几月|几号", re.I)
_WHICH = re.compile(r"^\W*(?:who|which|what|whose)\b|谁|哪[个一位种些]", re.I)
_OTHERS = re.compile(
    r"\b(?:except|besides|than|over|under|above|below|before|after|since|until)\b"
    r"|除了|超过|超過|大于|大於|小于|小於|高于|低于|以上|以下|以前|以后|以後|之前|之后|之後",
    re.I,
)
#: What Chinese questions for a cell say without meaning more by it.
_FILLERS = re.compile(
    r"现在|現在|目前|当前|當前|今年|具体|具體|大概|大约|大約|到底|究竟|号码|號碼|一共|查一?下|查询|查詢|岁|歲|[为為叫]"
)
_DATE = re.compile(r"\d{4}|\d{1,2}[./-]\d{1,2}|[年月日]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row below its table's header; spans of the hit's text."""

    start: int
    end: int
    cells: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table that a passage has, and the names of its columns."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    first: Row | None = None  #: the header's own line, where the passage has it


@dataclass(frozen=True, slots=True)
class Found:
    """What a table says; `value` is None where it has the place but nothing stands there."""

    hit: Hit
    rank: int
    way: Way
    rows: tuple[Span, ...]
    value: Span | None
    likely: float


def tables(hit: Hit, parsed: Parsed | None = None) -> list[Table]:
    """The tables of a passage; the header of one that began before it comes from the document.

    Args:
        hit: the passage.
        parsed: gives a document's text by id; without it, rows without a header are left out.
    """
    lines = [(m.start(), m.end(), _cells(hit.text, m)) for m in _ROW.finditer(hit.text)]
    groups: list[list[tuple[int, int, tuple[Span, ...]]]] = []
    for line in lines:
        joined = groups and not hit.text[groups[-1][-1][1] : line[0]].strip(" \t\r\n")
        near = groups and hit.text.count("\n", groups[-1][-1][1], line[0]) == 1
        if joined and near:
            groups[-1].append(line)
        else:
            groups.append([line])
    found: list[Table] = []
    for group in groups:
        if len(group) > 1 and _DASHES.fullmatch(hit.text[group[1][0] : group[1][1]]):
            names = tuple(plain(hit.text[a:b]) for a, b in group[0][2])
            found.append(Table(names, tuple(Row(*line) for line in group[2:]), Row(*group[0])))
        elif (before := _header_before(hit, group[0][0], parsed)) is not None:
            rows = [line for line in group if not _DASHES.fullmatch(hit.text[line[0] : line[1]])]
            found.append(Table(before, tuple(Row(*line) for line in rows)))
    return [table for table in found if table.rows]


def look_up(
    question: str,
    hits: Sequence[Hit],
    similarity: Similarity | None = None,
    parsed: Parsed | None = None,
) -> list[Found]:
    """What the tables among the passages say to a question, the likeliest first.

    Args:
        question: as asked.
        hits: the passages, best first.
        similarity: cosines of texts with the question, for columns that it names in other words.
        parsed: see `tables`.
    """
    if _OTHERS.search(question) or evidence.is_negative(question):
        return []  # a look at all rows is asked for, or at one of another time
    asked = _Asked.of(question)
    found: list[Found] = []
    seen: set[tuple[str, int]] = set()
    for rank, hit in enumerate(hits):
        for table in tables(hit, parsed):
            one = _cell(asked, hit, rank, table, similarity) or _named(asked, hit, rank, table)
            one = one or _beside(asked, hit, rank, table)
            place = None if one is None else (hit.document_id, hit.char_start + one.rows[0][0])
            if one is not None and place is not None and place not in seen:
                seen.add(place)  # neighbouring passages overlap
                found.append(one)
    return sorted(found, key=lambda one: (-one.likely, one.value is None, one.rank))


@dataclass(frozen=True, slots=True)
class _Asked:
    question: str
    plain: str  #: as cells are compared with it
    terms: frozenset[str]

    @classmethod
    def of(cls, question: str) -> _Asked:
        return cls(question, plain(question), frozenset(evidence.terms(question)))

    def names(self, cell: str) -> bool:
        """Whether the question has a cell's or a header's words: all of them, in any form or order."""
        if len(cell) < 2 or not any(c.isalpha() for c in cell):
            return False
        if _CJK.search(cell):
            return cell in self.plain
        if re.search(rf"(?<!\w){re.escape(cell)}(?!\w)", self.plain) and evidence.terms(cell):
            return True
        terms = set(evidence.terms(cell))
        return bool(terms) and len(terms) == len({*cell.split()}) and terms <= self.terms

    def covered(self, having: frozenset[str]) -> float:
        """The share of the question's content words that stand there; 1 in Chinese, uncut as they are."""
        if _CJK.search(self.plain):
            return 1.0
        words = [terms for word in self.question.split() if (terms := {*evidence.terms(word)})]
        return sum(terms <= having for terms in words) / len(words) if words else 0.0

    def of_another_year(self, hit: Hit, table: Table, row: Row) -> bool:
        """Whether a row with its table and headings names years, and none that is asked for."""
        told = (hit.title, *hit.heading_path, *table.header, hit.text[row.start : row.end])
        named, wanted = years.said(" ".join(told)), years.asked(self.question)
        return bool(named and wanted) and named.isdisjoint(wanted)

    def values(self, cell: str) -> bool:
        """Whether the question has a cell's number, whole."""
        if cell.endswith("%") and "%" not in self.question and "percent" not in self.plain:
            return False
        number = re.escape(cell.removesuffix("%"))
        return _NUMBER.search(cell) is not None and bool(
            re.search(rf"(?<![a-z0-9.,-]){number}(?![\d.,-]\d|\d)", self.plain)
        )


def _cell(asked: _Asked, hit: Hit, rank: int, table: Table, similarity: Similarity | None) -> Found | None:
    """Where the row and the column meet that the question names."""
    rows = [(row, at) for row in table.rows if (at := _key(asked, hit, row)) is not None]
    names = [plain(hit.text[slice(*row.cells[at])]) for row, at in rows]
    rows = [  # GET /keys is not asked for where GET /keys/NAME is
        found
        for found, name in zip(rows, names, strict=True)
        if not any(name != other and name in other for other in names)
    ]
    if len(rows) != 1:
        return None  # none, or a list
    row, at = rows[0]
    key = plain(hit.text[slice(*row.cells[at])])
    # A row's name stands left of what it tells.
    columns = [c for c in range(at + 1, min(len(table.header), len(row.cells))) if table.header[c]]
    named = [c for c in columns if asked.names(table.header[c]) and table.header[c] not in key]
    if named:
        column = max(named, key=lambda c: len(table.header[c]))
        if any(table.header[c] not in table.header[column] for c in named):
            return None  # of two columns, as in "Ann's manager's salary", nobody knows
        told = (hit.title, *hit.heading_path, hit.text[slice(*row.cells[at])], table.header[column])
        having = frozenset(evidence.terms(" ".join(told)))
        if asked.covered(having) < COVERED or asked.of_another_year(hit, table, row):
            return None
        likely = BY_WORDS
    else:
        fitting = [c for c in columns if _kind_fits(asked.question, hit.text[slice(*row.cells[c])])]
        meant = _meant(asked.question, [table.header[c] for c in fitting], similarity)
        if meant is None:
            return None
        column, likely = fitting[meant], BY_MEANING
    if _CJK.search(asked.plain) and _left_over(asked, hit, table, hit.text[slice(*row.cells[at])]):
        return None
    value = _part(asked, hit.text, row.cells[at], row.cells[column])
    return Found(hit, rank, "cell", ((row.start, row.end),), value, likely)


def named_row(question: str, hit: Hit, table: Table) -> Row | None:
    """The only row whose name, in its first cell, the question has in full; None of several and of none."""
    asked = _Asked.of(question)
    rows = [row for row in table.rows if row.cells and asked.names(plain(hit.text[slice(*row.cells[0])]))]
    return rows[0] if len(rows) == 1 else None


def _left_over(asked: _Asked, hit: Hit, table: Table, key: str) -> str:
    """What a Chinese question says beside row, column and headings: neither is 张三's wife, nor 张三丰."""
    names = [key, *re.split("[,，、]", key), *table.header, hit.title, *hit.heading_path]
    text = asked.plain
    for name in sorted({plain(name) for name in names}, key=len, reverse=True):
        if len(name) > 1 or name in table.header:
            text = text.replace(name, " ")
    for pattern in (_WHEN, _MANY, _FILLERS):
        text = pattern.sub(" ", text)
    return tabular.rest(text, measure=True, people=True)


def _beside(asked: _Asked, hit: Hit, rank: int, table: Table) -> Found | None:
    """What stands right of its label, in a form: an even number of columns, label and entry in turn."""
    entries = any(_NUMBER.search(name) for name in table.header[1::2])  # no names of columns
    lines = [*([table.first] if table.first and entries else []), *table.rows]
    if len(table.header) % 2 or any(asked.names(name) for name in table.header[1::2]):
        return None
    # Under a header, an entry beside a label is the next column's, whatever is asked for.
    least = COVERED if entries or len(table.header) == 2 else 1.0
    around = frozenset(evidence.terms(" ".join((hit.title, *hit.heading_path))))
    for line in lines:
        for at in range(0, len(line.cells) - 1, 2):
            label = plain(hit.text[slice(*line.cells[at])]).rstrip(" #:：")
            if not asked.names(label):
                continue
            covered = asked.covered(around | frozenset(evidence.terms(label)))
            start, end = line.cells[at + 1]
            if _CJK.search(asked.plain) and _left_over(asked, hit, table, label):
                continue
            if covered >= least and hit.text[start:end].strip():
                return Found(hit, rank, "beside", ((line.start, line.end),), (start, end), BY_MEANING)
    return None


def _named(asked: _Asked, hit: Hit, rank: int, table: Table) -> Found | None:
    """The first cell of the only row that has the value which the question tells."""
    if not _WHICH.search(asked.question):
        return None
    rows = [
        row
        for row in table.rows
        if len(row.cells) > 1 and any(asked.values(plain(hit.text[a:b])) for a, b in row.cells[1:])
    ]
    if len(rows) != 1:
        return None
    start, end = rows[0].cells[0]
    told = (hit.title, *hit.heading_path, *table.header, hit.text[rows[0].start : rows[0].end])
    if not hit.text[start:end].strip() or asked.names(plain(hit.text[start:end])):
        return None
    if asked.covered(frozenset(evidence.terms(" ".join(told)))) < COVERED:
        return None
    return Found(hit, rank, "named", ((rows[0].start, rows[0].end),), (start, end), BY_MEANING)


def _key(asked: _Asked, hit: Hit, row: Row) -> int | None:
    """The first cell of a row that the question names, or one item of which it does."""
    named = (
        c
        for c, cell in enumerate(row.cells)
        if any(asked.names(plain(hit.text[a:b])) for a, b in (cell, *_items(hit.text, cell)))
    )
    return next(named, None)


def _part(asked: _Asked, text: str, key: Span, value: Span) -> Span | None:
    """The value, or that item of it which stands where the item that the question names stands in the key."""
    keys, values = _items(text, key), _items(text, value)
    if len(keys) > 1 and len(keys) == len(values) and not asked.names(plain(text[slice(*key)])):
        value = next(v for k, v in zip(keys, values, strict=True) if asked.names(plain(text[slice(*k)])))
    return value if text[slice(*value)].strip() else None


def _items(text: str, cell: Span) -> list[Span]:
    """What stands between the commas of a cell."""
    found = re.finditer(r"[^,，、\s](?:[^,，、]*[^,，、\s])?", text[slice(*cell)])
    return [(cell[0] + item.start(), cell[0] + item.end()) for item in found]


def _kind_fits(question: str, cell: str) -> bool:
    if _WHEN.search(question):
        return _DATE.search(cell) is not None
    if _MANY.search(question):
        return _NUMBER.search(cell) is not None
    return bool(cell.strip())


def _meant(question: str, headers: Sequence[str], similarity: Similarity | None) -> int | None:
    """Which column a question means: the only one, or the one whose name is clearly closest to it."""
    if not headers or not (_MANY.search(question) or _WHEN.search(question)):
        return None
    if len(headers) == 1:
        return 0
    counts = [at for at, header in enumerate(headers) if _QUANTITY.search(header)]
    if _COUNTS.search(question) and len(counts) == 1:
        return counts[0]
    if similarity is None:
        return None
    cosines = list(similarity(question, list(headers)))
    best = max(range(len(cosines)), key=cosines.__getitem__)
    others = [c for i, c in enumerate(cosines) if i != best]
    return best if cosines[best] - max(others) >= CLEARLY else None


def _cells(text: str, line: re.Match[str]) -> tuple[Span, ...]:
    """The cells of a line without white space around them."""
    found: list[Span] = []
    at = line.start("cells")
    while at <= line.end("cells"):
        match = _CELL.match(text, at, line.end("cells"))
        assert match is not None
        piece = match[0]
        start = match.start() + len(piece) - len(piece.lstrip())
        found.append((start, start + len(piece.strip())))
        at = match.end() + 1
    return tuple(found)


def plain(text: str) -> str:
    """As cells are compared: without marks, letters alike, white space single."""
    flat = " ".join(unicodedata.normalize("NFKC", text).translate(_MARKS).casefold().split())
    return flat.strip(" .,:;!?()[]。，：；！？（）") or flat


def _header_before(hit: Hit, at: int, parsed: Parsed | None) -> tuple[str, ...] | None:
    """The names of the columns of a table that began before the passage; None where it did not."""
    if parsed is None or hit.text[:at].strip():
        return None
    try:
        text = parsed(hit.document_id).text
    except UnknownDocument:
        return None
    if text[hit.char_start : hit.char_end] != hit.text:
        return None
    before = list(_ROW.finditer(text, max(0, hit.char_start - BEFORE), hit.char_start + at))
    end = hit.char_start + at
    for index in range(len(before) - 1, 0, -1):
        if text[before[index].end() : end].strip() or text.count("\n", before[index].end(), end) > 1:
            return None
        if _DASHES.fullmatch(before[index][0]):
            return tuple(plain(text[a:b]) for a, b in _cells(text, before[index - 1]))
        end = before[index].start()
    return None
