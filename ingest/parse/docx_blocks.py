"""From a Word document's body to blocks in reading order.

The walk goes over the XML that python-docx opened, because python-docx's own paragraphs leave out what stands
in content controls, text boxes, tracked insertions and formulas. What a reader of the final text does not see
stays out: deleted and hidden text, field codes, the table of contents (it repeats the headings), headers and
footers (other parts).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.parse.blocks import Block, markdown_table
from ingest.parse.docx_numbering import Numbering, W
from ingest.parse.tidy import raised

#: Holders of paragraphs and tables that are read through.
_HOLDERS = frozenset(["sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag", "body", "txbxContent"])
#: Inside a paragraph: subtrees that are not read. Text boxes in drawings are found apart.
_UNREAD = frozenset(
    ["pPr", "rPr", "del", "moveFrom", "instrText", "delText", "delInstrText", "Fallback", "sdtPr", "rt"]
)
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
#: Of Adobe's Symbol (unicode.org's mapping of it) and of Wingdings what stands in people's documents.
_GREEK = dict(zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True))
_CAPITALS = dict(zip(range(0x41, 0x5B), "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True))
_SIGNS = {
    code: sign
    for at, signs in {
        0xA0: "€", 0xA3: "≤", 0xA5: "∞", 0xAB: "↔←↑→↓°±", 0xB3: "≥×", 0xB6: "∂•÷≠≡≈…",
        0xC6: "∅∩∪", 0xCC: "⊂", 0xCE: "∈∉", 0xD1: "∇®©™∏√⋅¬", 0xDE: "⇒", 0xE5: "∑", 0xF2: "∫",
    }.items()
    for code, sign in enumerate(signs, at)
}  # fmt: skip
SYMBOL = {**{code: chr(code) for code in range(0x20, 0x40)}, **_GREEK, **_CAPITALS, **_SIGNS}
WINGDINGS = {
    code: sign
    for at, signs in {
        0x28: "☎", 0x2A: "✉", 0x4A: "☺", 0x4C: "☹", 0x6C: "●", 0x6E: "■□", 0xA7: "▪□", 0xD8: "➢",
        0xDF: "←→", 0xE8: "➔", 0xF0: "⇨", 0xFB: "✗✓☒☑",
    }.items()
    for code, sign in enumerate(signs, at)
}  # fmt: skip
UNKNOWN_SYMBOL = "□"
DEEPEST = 40  #: tables within tables


@dataclass(frozen=True, slots=True)
class Style:
    """What a paragraph style says, its ancestors included."""

    level: int = 0  #: 1 to 9 for a heading
    title: bool = False
    contents: bool = False  #: a line of the table of contents
    number_id: str = ""
    number_level: int = 0


def styles_of(root: Any) -> dict[str, Style]:
    """Styles by id; a heading has its built-in name, which Word keeps in English, or an outline level."""
    raw: dict[str, tuple[str, str, Any]] = {}
    for element in root.iterchildren(f"{W}style"):
        raw[element.get(f"{W}styleId", "")] = (
            _value(element, "name").lower(),
            _value(element, "basedOn"),
            element,
        )
    resolved: dict[str, Style] = {}
    for style_id in raw:
        chain: list[str] = []
        at = style_id
        while at in raw and at not in chain and len(chain) < 32:
            chain.append(at)
            at = raw[at][1]
        names = [raw[name][0] for name in chain]
        level, number_id, number_level = 0, "", -1
        for name in chain:
            properties = raw[name][2].find(f"{W}pPr")
            if not level:
                level = _heading_level(raw[name][0]) or _outline_level(properties)
            if properties is not None and (numbers := properties.find(f"{W}numPr")) is not None:
                number_id = number_id or _value(numbers, "numId")
                if number_level < 0 and (at := _value(numbers, "ilvl")).isdecimal():
                    number_level = int(at)
        contents = any(name.startswith("toc ") or name == "toc heading" for name in names)
        resolved[style_id] = Style(
            max(level, 0),
            "title" in names,
            contents,
            number_id,
            max(number_level, level - 1 if level > 0 else 0, 0),
        )
    return resolved


@dataclass(slots=True)
class Reader:
    """Everything that the blocks of one document depend on."""

    styles: Mapping[str, Style]
    default_style: str
    numbering: Numbering
    notes: Mapping[tuple[str, str], Any]  #: ("footnoteReference", id) -> the note's element
    title: str = ""
    pictures: int = 0

    def blocks(self, holder: Any, depth: int = 0) -> Iterator[Block]:
        """Blocks below a body, a content control, a text box or a note."""
        for element in holder.iterchildren():
            name = _local(element)
            if name == "p":
                yield from self._paragraph(element, depth)
            elif name == "tbl" and depth < DEEPEST:
                if text := markdown_table(self._rows(element, depth)):
                    yield Block(text, "table")
            elif name in _HOLDERS:
                yield from self.blocks(element, depth)

    def _paragraph(self, paragraph: Any, depth: int) -> Iterator[Block]:
        properties = paragraph.find(f"{W}pPr")
        named = _value(properties, "pStyle") or self.default_style
        style = self.styles.get(named, Style())
        if style.contents:
            return
        text, boxes, notes = self._text(paragraph)
        level = _outline_level(properties) or style.level
        marker, indent = self._marker(properties, style) if text.strip() else (None, 0)
        if style.title and not self.title:
            self.title = text.strip()
        if level > 0:
            yield Block(f"{marker} {text}" if marker and marker != "-" else text, "heading", level)
        elif marker:
            yield Block(f"{'  ' * min(indent, 8)}{marker} {text}", "item")
        else:
            yield Block(text)
        for box in boxes:
            if depth < DEEPEST:
                yield from self.blocks(box, depth + 1)
        for note in notes:
            if depth < DEEPEST and (
                said := " ".join(block.text.strip() for block in self.blocks(note, DEEPEST)).strip()
            ):
                yield Block(f"Note: {said}")

    def _marker(self, properties: Any, style: Style) -> tuple[str | None, int]:
        number_id, level = style.number_id, style.number_level
        if properties is not None and (numbers := properties.find(f"{W}numPr")) is not None:
            number_id = _value(numbers, "numId") or number_id
            at = _value(numbers, "ilvl")
            level = int(at) if at.isdecimal() else level
        return (
            (self.numbering.marker(number_id, min(level, 8)), level)
            if number_id not in ("", "0")
            else (None, 0)
        )

    def _text(self, paragraph: Any) -> tuple[str, list[Any], list[Any]]:
        """A paragraph's text, the text boxes anchored in it and the notes it refers to, iteratively."""
        parts: list[str] = []
        boxes: list[Any] = []
        notes: list[Any] = []
        stack = [paragraph.iterchildren()]
        while stack:
            element = next(stack[-1], None)
            if element is None:
                stack.pop()
                continue
            name = _local(element)
            if name == "t":
                text = element.text or ""
                parts.append(raised(text) if _is_raised(element.getparent()) else text)
            elif name == "sym":
                parts.append(_symbol(element))
            elif name in _BREAKS:
                parts.append(_BREAKS[name])
            elif name in ("drawing", "pict", "object"):
                boxes += (box for box in element.iter(f"{W}txbxContent") if not _is_inner(box, element))
                self.pictures += 1
            elif name in ("footnoteReference", "endnoteReference"):
                note = self.notes.get((name, element.get(f"{W}id", "")))
                notes += [note] if note is not None else []
            elif name == "r" and _hidden(element):
                continue
            elif name and name not in _UNREAD:
                parts += ["/"] if name == "den" else []  # a fraction's (ECMA-376 part 1, 22.1.2.27)
                stack.append(element.iterchildren())
        return "".join(parts), boxes, notes

    def _rows(self, table: Any, depth: int) -> list[list[str]]:
        """Cells of a table; one merged downwards repeats, one merged sideways is followed by empty ones."""
        rows: list[list[str]] = []
        above: dict[int, str] = {}
        for row in _children(table, "tr"):
            cells: list[str] = []
            for cell in _children(row, "tc"):
                properties = cell.find(f"{W}tcPr")
                span = _value(properties, "gridSpan")
                width = min(int(span), 100) if span.isdecimal() else 1
                merge = properties.find(f"{W}vMerge") if properties is not None else None
                column = len(cells)
                if merge is not None and merge.get(f"{W}val", "continue") == "continue":
                    text = above.get(column, "")
                else:
                    text = self._cell(cell, depth)
                above[column] = text
                cells += [text, *[""] * (max(width, 1) - 1)]
            rows.append(cells)
        return rows

    def _cell(self, cell: Any, depth: int) -> str:
        """A cell on one line; a table within it as "a, b; c, d"."""
        parts: list[str] = []
        for element in cell.iterchildren():
            if _local(element) == "tbl" and depth < DEEPEST:
                rows = self._rows(element, depth + 1)
                parts.append("; ".join(", ".join(text for text in row if text) for row in rows if any(row)))
            elif _local(element) == "p":
                parts += (block.text.strip() for block in self._paragraph(element, depth + 1))
            elif _local(element) in _HOLDERS:
                parts += (block.text.strip() for block in self.blocks(element, depth + 1))
        return " ".join(" ".join(part.split()) for part in parts if part)


def _children(parent: Any, name: str) -> Iterator[Any]:
    """Children of one name, also those inside content controls and tracked insertions."""
    for element in parent.iterchildren():
        local = _local(element)
        if local == name:
            yield element
        elif local in _HOLDERS:
            yield from _children(element, name)


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _value(parent: Any, child: str) -> str:
    found = parent.find(f"{W}{child}") if parent is not None else None
    return str(found.get(f"{W}val") or "") if found is not None else ""


def _heading_level(name: str) -> int:
    number = name.removeprefix("heading ")
    return int(number) if name.startswith("heading ") and len(number) == 1 and number in "123456789" else 0


def _outline_level(properties: Any) -> int:
    """1 to 9, -1 where a paragraph says that it is body text after all, 0 where nothing is said."""
    level = _value(properties, "outlineLvl")
    if not level.isdecimal():
        return 0
    return int(level) + 1 if int(level) < 9 else -1


def _hidden(run: Any) -> bool:
    properties = run.find(f"{W}rPr")
    mark = properties.find(f"{W}vanish") if properties is not None else None
    return mark is not None and mark.get(f"{W}val", "1") not in ("0", "false", "off")


def _is_raised(run: Any) -> bool:
    properties = run.find(f"{W}rPr") if run is not None else None
    return _value(properties, "vertAlign") == "superscript"


def _symbol(element: Any) -> str:
    """A character of a font of symbols, whose codes are the font's own (ECMA-376 part 1, 17.3.3.30)."""
    written = element.get(f"{W}char", "")
    try:
        code = int(written, 16) & 0xFF
    except ValueError:
        return UNKNOWN_SYMBOL
    font = element.get(f"{W}font", "").lower()
    known = SYMBOL if font == "symbol" else WINGDINGS if font.startswith("wingdings") else {}
    return known.get(code, UNKNOWN_SYMBOL)


def _is_inner(box: Any, within: Any) -> bool:
    """Whether a text box is read with another one, or is the copy that Word writes for older programs."""
    at = box.getparent()
    while at is not None and at is not within:
        if _local(at) in ("Fallback", "txbxContent"):
            return True
        at = at.getparent()
    return False
