"""Which words of a question name something of a table: its columns, a value of a row, what it is about.

Words are compared by stem, Chinese by character, numbers by value; a name counts where all its words stand
side by side. What a question says beside such names is left over (`Named.rest`), and then the table does not
answer: a question about a column or a row that does not exist always leaves its word over.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath

from ingest import words
from service import evidence
from service.cells import plain
from service.questions import tabular
from service.tables import values
from service.tables.whole import Grid

Span = tuple[int, int]

_CJK = "\u3400-\u9fff"
_PIECE = re.compile(
    rf"[{_CJK}]|\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?(?!\w)|[^\W_{_CJK}]+(?:[-.:/@&'’_][^\W_{_CJK}]+)*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
#: A name that the question has only in part must be there by half.
PART = 0.5
#: Rows that say what all rows together have.
_SUMS = re.compile(
    r"(?:grand |sub[- ]?)?totals?|sum|average|avg\.?|mean|median|overall|world|all(?: \w+)?"
    r"|合计|合計|总计|總計|小计|小計|总和|總和|平均值?|共计|总数|总|均值|全部|全国|全國",
    re.IGNORECASE,
)
_TOTALS = re.compile(
    r"(?:grand )?totals?|sum|overall|合计|合計|总计|總計|总和|總和|共计|总数|总", re.IGNORECASE
)
_SUMMING = re.compile(r"\b(?:sub-?)?totals?\b|\bsum\b|[合总總小共][计計]|总和|總和", re.IGNORECASE)
_NAMES = re.compile(r"names?|full name|person|employee|staff|姓名|名字|员工|員工|人员", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Word:
    """A word or a Chinese character of a text."""

    term: str
    start: int
    end: int

    @property
    def is_cjk(self) -> bool:
        """Whether it is a Chinese character."""
        return re.match(f"[{_CJK}]", self.term) is not None


def split(text: str) -> list[Word]:
    """The words of a text."""
    return [Word(_term(found[0]), *found.span()) for found in _PIECE.finditer(text)]


@lru_cache(maxsize=16384)
def terms(text: str) -> tuple[str, ...]:
    """The words of a name as they are compared."""
    return tuple(word.term for word in split(unicodedata.normalize("NFKC", text)))


@lru_cache(maxsize=16384)
def _term(piece: str) -> str:
    piece = unicodedata.normalize("NFKC", piece)
    if _NUMBER.fullmatch(piece):
        whole, _, decimals = piece.replace(",", "").partition(".")
        return f"{whole}.{decimals.rstrip('0')}".rstrip(".")
    found = words.terms(piece)
    return found[0] if found else piece.casefold()


@dataclass(slots=True)
class Named:
    """What the words of one question name in one table."""

    form: tabular.Form
    grid: Grid
    columns: dict[int, list[Span]] = field(default_factory=dict)  #: named in full
    parts: dict[int, list[Span]] = field(default_factory=dict)  #: named in part
    rows: dict[tuple[int, str], list[Span]] = field(default_factory=dict)  #: a column and a value of it
    about: list[Span] = field(default_factory=list)  #: what the table is about, as title and headings say
    words: list[Word] = field(default_factory=list)
    doubtful: bool = False  #: a column is named by another form of a word that a further column has, too
    #: What the rows are about: the first column that counts nothing; None where a cell of it is empty.
    subject: int | None = None

    def __post_init__(self) -> None:
        """Find the names; of two in the same place, the longer one."""
        self.words = split(self.form.question)
        self.subject = _subject(self.grid)
        found: dict[Span, list[int | tuple[int, str]]] = {}
        for at, names in enumerate(self.grid.names):
            for name in names:
                for span in self._places(terms(name)):
                    found.setdefault(span, []).append(at)
        for at in range(len(self.grid.names)):
            for cell in dict.fromkeys(self.grid.column(at)):
                telling, is_sum = _tells(cell), _SUMS.fullmatch(_bare(cell)) is not None
                for span in self._places(terms(cell)) if telling and not is_sum else ():
                    if not _same_number(self.form.question, span, cell):
                        continue
                    found.setdefault(span, []).append((at, cell))
        self._numbered(found)
        whole = _outermost(found)
        for span in whole:
            columns = [one for one in found[span] if isinstance(one, int)]
            for one in found[span] if len(columns) == 1 else ():
                if not isinstance(one, int) and one[0] == columns[0]:  # week 4
                    self.rows.setdefault(one, []).append(span)
            self.doubtful = self.doubtful or (bool(columns) and self._also_others(span, columns))
            for at in columns:
                self.columns.setdefault(at, []).append(span)
            for one in found[span] if not columns else ():
                if not isinstance(one, int):
                    self.rows.setdefault(one, []).append(span)
        taken = [*whole, *((e.start, e.end) for e in self.form.extremes)]
        left = [w for w in self.words if not any(a <= w.start < b for a, b in taken)]
        for at, names in enumerate(self.grid.names):
            for name in names if at not in self.columns else ():
                if spans := _part(left, terms(name)):
                    self.parts[at] = spans
                    break
        self._rows_in_part(left)
        around = {
            term
            for text in (
                self.grid.hit.title,
                *self.grid.hit.heading_path,
                PurePosixPath(self.grid.hit.path).stem,
            )
            for term in _phrases(terms(text.replace("_", " ")))
        }
        around |= self._of_every_row()
        self.about = list(_found(left, around))

    @property
    def of_people(self) -> bool:
        """Whether the rows are people."""
        at = self.subject
        return at is not None and any(_NAMES.fullmatch(name) for name in self.grid.names[at])

    def sums(self, row: int) -> bool:
        """Whether a row says what all rows together have."""
        return any(
            _SUMS.fullmatch(_bare(self.grid.cell(row, at))) for at in range(min(2, len(self.grid.names)))
        )

    def sums_some(self, row: int) -> bool:
        """Whether a row may say what some of the others have: Subtotal of the north."""
        return any(_SUMMING.search(self.grid.cell(row, at)) for at in range(min(2, len(self.grid.names))))

    def total(self) -> list[int]:
        """The rows that tell the sum of all others."""
        return [row for row in range(len(self.grid.rows)) if _TOTALS.fullmatch(_bare(self.grid.cell(row, 0)))]

    def rest(self, spans: Iterable[Span]) -> str:
        """What the question says beside these, beside grammar, and beside what the table is about."""
        text = list(self.form.question)
        for start, end in (*spans, *self.about):
            text[start:end] = " " * (end - start)
        return tabular.rest("".join(text), measure=bool(self.columns or self.parts), people=self.of_people)

    def meant(self, wanted: frozenset[str], among: Iterable[int] | None = None) -> list[int]:
        """The columns that are called by one of these terms."""
        return [
            at
            for at in (range(len(self.grid.names)) if among is None else among)
            if any(_called(name, wanted) for name in self.grid.names[at])
        ]

    def part_columns(self) -> list[int]:
        """The columns that are named in part, by more than a noun for whatever another named column has."""
        measure = bool(self.columns)
        said = {at: "".join(self.form.question[a:b] for a, b in spans) for at, spans in self.parts.items()}
        return [at for at, words in said.items() if tabular.rest(words, measure=measure, people=False)]

    def _places(self, name: Sequence[str]) -> Iterator[Span]:
        count = len(name)
        for at in range(len(self.words) - count + 1) if count else ():
            if all(self.words[at + i].term == name[i] for i in range(count)):
                yield self.words[at].start, self.words[at + count - 1].end

    def _numbered(self, found: dict[Span, list[int | tuple[int, str]]]) -> None:
        """Rows by their number in a column that stands beside it: week 4, room 12, 第4周."""
        for span, some in list(found.items()):
            for at in [one for one in some if isinstance(one, int)]:
                numbers = {
                    terms(cell): cell for cell in self.grid.column(at) if re.fullmatch(r"\d{1,4}", cell)
                }
                for i, word in enumerate(self.words):
                    behind = i and self.words[i - 1].end == span[1] and word.start - span[1] <= len(" #")
                    before = word.end == span[0] and self.form.question[: word.start].endswith("第")
                    cell = numbers.get((word.term,)) if behind or before else None
                    if cell is not None:
                        whole = (span[0], word.end) if behind else (word.start - 1, span[1])
                        found.setdefault(whole, []).extend([at, (at, cell)])

    def _also_others(self, span: Span, columns: Sequence[int]) -> bool:
        """Whether a name is written otherwise and is another's, too: "rate" of Rating and Rate per day."""
        said = plain(self.form.question[slice(*span)])
        if any(said == name for at in columns for name in self.grid.names[at]):
            return False
        some = {*terms(said)}
        others = (names for at, names in enumerate(self.grid.names) if at not in columns)
        return any(some <= {*terms(name)} for names in others for name in names)

    def _rows_in_part(self, left: Sequence[Word]) -> None:
        """Names of rows that the question has in part (the Comet), where no other row has these words."""
        at = self.subject
        if at is None:
            return
        cells = [cell for cell in dict.fromkeys(self.grid.column(at)) if not _SUMS.fullmatch(_bare(cell))]
        having: dict[str, list[str]] = {}
        for cell in cells:
            for term in {*_phrases(terms(cell))}:
                having.setdefault(term, []).append(cell)
        alone = {term: some[0] for term, some in having.items() if len(some) == 1 and _is_content(term)}
        for start, end in _found(left, alone):
            said = "".join(
                w.term if w.is_cjk else f" {w.term}" for w in left if start <= w.start < end
            ).strip()
            if said in alone:
                self.rows.setdefault((at, alone[said]), []).append(_widened(left, (start, end), alone[said]))

    def _of_every_row(self) -> set[str]:
        """Words that the name of every row has (lamp)."""
        at = self.subject
        if at is None or len(self.grid.rows) < 2:
            return set()
        rows = [row for row in range(len(self.grid.rows)) if not self.sums(row)]
        common = [{*_phrases(terms(self.grid.cell(row, at)))} for row in rows]
        return set.intersection(*common) if common else set()


def _subject(grid: Grid) -> int | None:
    for at in range(len(grid.names)):
        cells = grid.column(at)
        if any(values.empty(cell) for cell in cells):
            return None
        if values.column(cells) is None or any(c.isalpha() for c in "".join(cells)):
            return at
    return None


def _bare(cell: str) -> str:
    """A name without marks, a unit behind it, and the gap that Word's users put into 合 计."""
    flat = unicodedata.normalize("NFKC", cell).strip(" *`:：_").casefold()
    return re.sub(rf"(?<=[{_CJK}])\s+(?=[{_CJK}])|\s*\([^()]*\)$", "", flat)


def _tells(cell: str) -> bool:
    """Whether a cell is something that a question may name: no single letter or digit, no grammar."""
    some = terms(cell)
    return (
        bool(some)
        and len("".join(some)) > 1
        and len(some) <= 12
        and (any(_is_content(term) for term in some) or len(some) > 1)
    )


def _same_number(question: str, span: Span, cell: str) -> bool:
    """Whether sign and currency in front of a number of the question are those of the cell."""
    told = values.column([cell])
    if told is None or told.unit == "day":
        return True
    before = question[: span[0]].rstrip()[-2:]
    currency = re.search(r"[$€£¥₹₩₽฿]$", before)
    is_negative = re.search(r"(?<!\w)[-−]$", before) is not None
    below = told.values[0] is not None and told.values[0][0] < 0
    return is_negative == below and (currency is None or currency[0] in unicodedata.normalize("NFKC", cell))


def _is_content(term: str) -> bool:
    return (
        bool(evidence.terms(term)) or term[:1].isdigit() or re.fullmatch(f"[{_CJK}]{{2,}}", term) is not None
    )


def _phrases(name: Sequence[str]) -> Iterator[str]:
    """The content words of a name, and the runs of two and more of its Chinese characters."""
    run = ""
    for term in (*name, ""):
        if re.fullmatch(f"[{_CJK}]", term):
            run += term
            continue
        yield from (run[a:b] for a in range(len(run)) for b in range(a + 2, min(len(run), a + 12) + 1))
        run = ""
        if term and evidence.terms(term):
            yield term


def _found(left: Sequence[Word], wanted: Iterable[str]) -> Iterator[Span]:
    """Where words, or the longest runs of Chinese characters, stand that are wanted."""
    known = frozenset(wanted)
    at = 0
    while at < len(left):
        end = at + 1
        while (
            end < len(left) and left[end].is_cjk and left[at].is_cjk and left[end].start == left[end - 1].end
        ):
            end += 1
        if not left[at].is_cjk:
            if left[at].term in known:
                yield left[at].start, left[at].end
            at += 1
            continue
        said = "".join(word.term for word in left[at:end])
        long = next((n for n in range(min(12, len(said)), 1, -1) if said[:n] in known), 0)
        if long:
            yield left[at].start, left[at + long - 1].end
        at += long or 1


def _widened(left: Sequence[Word], span: Span, cell: str) -> Span:
    """The span with the words on its left that the cell has, too: the 300 Pro."""
    start, some = span[0], terms(cell)
    for word in reversed([w for w in left if w.end <= span[0]]):
        if word.term not in some or start - word.end > 1:
            break
        start = word.start
    return start, span[1]


def _part(left: Sequence[Word], name: Sequence[str]) -> list[Span]:
    """Where half of a column's name stands: its words in any order, or a run of its Chinese characters."""
    content = [term for term in name if evidence.terms(term) and not re.match(f"[{_CJK}]", term)]
    if content:
        spans = [(word.start, word.end) for word in left if word.term in content]
        said = {word.term for word in left if word.term in content}
        return spans if len(said) >= PART * len(content) else []
    spans = list(_found(left, _phrases(name)))
    longest = max(spans, key=lambda span: span[1] - span[0], default=None)
    return [longest] if longest and longest[1] - longest[0] >= PART * len(name) else []


def _called(name: str, wanted: frozenset[str]) -> bool:
    """Whether a column's name has one of these terms."""
    some = terms(name)
    joined = "".join(some)
    return any(term in some if term.isascii() else term in joined for term in wanted)


def _outermost(spans: Iterable[Span]) -> list[Span]:
    """The spans that overlap no longer one; of two as long, the first."""
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        if all(end <= a or b <= start for a, b in kept):
            kept.append((start, end))
    return sorted(kept)
