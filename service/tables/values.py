"""Cells of a column as values that can be put in order: numbers of one unit, or days of one precision.

"$1,299.00", "45元", "12.3℃", "98.8%", "(310)", "1956年", "2021-03-04", "4 May 2020". What can be read in two
ways is not read: a decimal comma (3,5), points that may group thousands (1.200 beside 950), a day such as
3/4/2021, "3-5", "about 20".

Invariant: of a column, all values that are there are read or none; they compare as what is written does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext

CURRENCIES = r"(?:US|HK|NT|CA|AU|R)?\$|[€£¥₹₩₽฿]|(?:USD|EUR|GBP|CNY|RMB|JPY|CHF|HKD|TWD|INR)\b"
_NUMBER = re.compile(
    rf"(?P<open>\()?(?P<sign>[-+−])?\s*(?P<before>{CURRENCIES})?\s*(?P<sign2>[-+−])?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+|\d+)(?P<decimals>\.\d+)?\s*(?P<unit>[^\d\s()+,.<>~±/–-][^\d,.<>~±–]{0,15})?"
    r"(?P<close>\))?",
    re.IGNORECASE,
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAYS = (
    re.compile(r"(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})(?:[T ](?P<time>\d\d:\d\d(?::\d\d)?))?"),
    re.compile(r"(?P<y>\d{4})\s*年\s*(?P<m>\d{1,2})\s*月(?:\s*(?P<d>\d{1,2})\s*[日号])?"),
    re.compile(r"(?P<y>\d{4})[-/](?P<m>\d{1,2})"),
    re.compile(rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+{_MONTH},?\s+(?P<y>\d{{4}})", re.IGNORECASE),
    re.compile(rf"{_MONTH}\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}})", re.IGNORECASE),
    re.compile(rf"{_MONTH},?\s+(?P<y>\d{{4}})", re.IGNORECASE),
)
#: What stands in a cell that tells nothing.
_NOTHING = frozenset(("", "-", "–", "—", "--", "n/a", "na", "none", "null", "?", "无", "暂无", "未知", "/"))
#: Decimals of an average, where the cells have fewer.
PLACES = 2
_IS_CURRENCY = re.compile(rf"(?:{CURRENCIES}|[万亿]?元|元)", re.IGNORECASE)

#: Units in which the larger number is not the later or larger thing.
_UNORDERED = re.compile(r"a\.?m\.?|p\.?m\.?|b\.?c\.?(?:e\.?)?", re.IGNORECASE)
#: Letters from which on capitals make no other unit of a word.
LONG_UNIT = 4
#: Digits from which on a cell is a code, and no number to add up.
MOST_DIGITS = 50

Value = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a column, one a row, None where nothing is told."""

    values: tuple[Value | None, ...]
    unit: str  #: in small letters, "" for none; "day" for days, months and moments

    @property
    def is_money(self) -> bool:
        """Whether its unit is a currency."""
        return _IS_CURRENCY.fullmatch(self.unit) is not None


_YES = frozenset(
    ("yes", "y", "true", "✓", "✔", "√", "included", "是", "有", "支持", "含", "可", "可以", "包含")
)
_NO = frozenset(
    (
        "no",
        "n",
        "false",
        "✗",
        "✘",
        "×",
        "x",
        "not included",
        "否",
        "无",
        "無",
        "不支持",
        "不含",
        "不可",
        "不可以",
    )
)


def polar(cells: Sequence[str]) -> list[bool | None] | None:
    """The cells of a column as yes and no, None where one tells nothing; None for any other column."""
    told = [unicodedata.normalize("NFKC", cell).strip(" *`").casefold() for cell in cells]
    if not all(one in _YES or one in _NO or one in _NOTHING for one in told):
        return None
    answers = [True if one in _YES else False if one in _NO else None for one in told]
    return answers if any(one is not None for one in answers) else None


def empty(cell: str) -> bool:
    """Whether a cell tells nothing."""
    return unicodedata.normalize("NFKC", cell).strip(" *`").casefold() in _NOTHING


def column(cells: Sequence[str]) -> Column | None:
    """The cells as values of one unit; None where one cannot be read so, or none tells anything."""
    known = [unicodedata.normalize("NFKC", cell).strip(" *`") for cell in cells if not empty(cell)]
    if not known:
        return None
    days = [_day(cell) for cell in known]
    if all(days):
        found = [day for day in days if day is not None]
        if len({len(day) for day in found}) > 1:
            return None  # a month is neither before nor after a day of it
        return _spread(cells, found, "day")
    numbers = [_number(cell) for cell in known]
    if not all(numbers):
        return None
    parsed = [number for number in numbers if number is not None]
    units = {unit for _, unit, _ in parsed}
    if len({unit.casefold() for unit in units}) > 1 or any(map(_UNORDERED.fullmatch, units)):
        return None
    if len(units) > 1 and any(len(unit) < LONG_UNIT for unit in units) and not _is_money(units):
        return None  # mW and MW
    grouped = [places == 3 for _, _, places in parsed]
    if any(grouped) and not all(grouped):
        return None  # 1.200 beside 950: a thousand, or one and a fifth
    return _spread(cells, [(value,) for value, _, _ in parsed], parsed[0][1].casefold())


def added(cells: Sequence[str], *, mean: bool) -> str | None:
    """The sum of these cells or their average, written as they are; None unless all are numbers of one unit.

    An average has the decimals of the cells, or two where that is more, without zeros that no cell has.
    Shares have no sum, and negative numbers in brackets are not added.
    """
    told = column(cells)
    if told is None or told.unit == "day" or (told.unit == "%" and not mean):
        return None
    known = [unicodedata.normalize("NFKC", cell).strip(" *`") for cell in cells if not empty(cell)]
    found = [number for cell in known if (number := _NUMBER.fullmatch(cell)) is not None]
    if any(number["open"] for number in found):
        return None
    numbers = [Decimal(number["digits"].replace(",", "") + (number["decimals"] or "")) for number in found]
    signed = [
        -n if (m["sign"] or m["sign2"]) in ("-", "−") else n for n, m in zip(numbers, found, strict=True)
    ]
    written = max(len(number["decimals"] or ".") - 1 for number in found)
    places = max(written, PLACES) if mean else written
    if any(len(number.as_tuple().digits) > MOST_DIGITS for number in numbers):
        return None
    with localcontext() as context:
        context.prec = 4 * MOST_DIGITS
        total = sum(signed, Decimal(0)) / (len(signed) if mean else 1)
        total = total.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        text = f"{abs(total):,f}" if any("," in number["digits"] for number in found) else f"{abs(total):f}"
    while places > written and text[-1] in "0.":
        text, places = text[:-1], places - 1
        if text[-1] == ".":
            text = text[:-1]
            break
    first = found[0]
    before = first.string[: first.start("digits")].lstrip("+-− ").replace("−", "").replace("-", "")
    after = first.string[first.end("decimals") if first["decimals"] else first.end("digits") :]
    return f"{'-' if total < 0 else ''}{before}{text}{after}"


def _is_money(units: Iterable[str]) -> bool:
    return all(_IS_CURRENCY.fullmatch(unit) for unit in units)


def _spread(cells: Sequence[str], known: Sequence[Value], unit: str) -> Column:
    rest = iter(known)
    return Column(tuple(None if empty(cell) else next(rest) for cell in cells), unit)


def _day(cell: str) -> Value | None:
    """Year, month and, where they are told, day and time of day."""
    for form in _DAYS:
        if (found := form.fullmatch(cell)) is not None:
            told = found.groupdict()
            month = _MONTHS.index(told["name"][:3].lower()) + 1 if told.get("name") else int(told["m"])
            rest = [int(told["d"])] if told.get("d") else []
            if not 1 <= month <= 12 or not all(1 <= day <= 31 for day in rest):
                return None
            clock = [float(part) for part in told["time"].split(":")] if told.get("time") else []
            return (float(told["y"]), month, *rest, *(clock + [0.0] * (3 - len(clock)) if clock else []))
    return None


def _number(cell: str) -> tuple[float, str, int] | None:
    """Value, unit as it is written and how many decimals are written."""
    found = _NUMBER.fullmatch(cell)
    if found is None or (found["open"] is None) != (found["close"] is None):
        return None
    if found["sign"] and (found["sign2"] or found["open"]):
        return None
    value = float(found["digits"].replace(",", "") + (found["decimals"] or ""))
    negative = found["open"] or (found["sign"] or found["sign2"]) in ("-", "−")
    unit = " ".join(part.strip() for part in (found["before"], found["unit"]) if part)
    return -value if negative else value, unit, len(found["decimals"] or ".") - 1
