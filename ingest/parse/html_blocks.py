"""From an HTML tree to blocks in reading order: what a reader sees, without menus and scripts.

The walk is iterative, so that a deeply nested page cannot exhaust the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from lxml import etree

from ingest.parse.blocks import Block, markdown_table
from ingest.parse.tidy import raised

NO_CONTENT = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "canvas",
        "iframe",
        "object",
        "embed",
        "video",
        "audio",
        "map",
        "head",
        "title",
        "button",
        "input",
        "select",
        "textarea",
        "datalist",
        "nav",
        "footer",
        "dialog",
        "menu",
        # The formula again, as TeX (MathML 3, 5.4).
        "annotation",
        "annotation-xml",
    ]
)
NO_CONTENT_ROLES = frozenset(
    ["navigation", "contentinfo", "search", "banner", "menu", "menubar", "toolbar", "dialog"]
)
NO_CONTENT_CLASSES = frozenset(
    [
        "mw-editsection",
        "headerlink",
        "noprint",
        "navbox",
        "skip-link",
        "sr-only",
        "visually-hidden",
        "breadcrumb",
    ]
)
BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hgroup",
        "hr",
        "legend",
        "li",
        "main",
        "ol",
        "optgroup",
        "option",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
        "caption",
        "html",
    ]
)
#: What has content within these elements only.
SPEAKING = {
    "button": ("h1", "h2", "h3", "h4", "h5", "h6", "summary"),
    "footer": ("blockquote",),
}
HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LINE_BREAK = "\x00"  # tidied markup contains none
_SPACES = re.compile(r"[ \t\r\n\f\u200b]+")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def text_of(element: etree._Element) -> str:
    """All text below an element, as it stands in the markup."""
    return "".join(str(piece) for piece in element.itertext())


def collapse(text: str) -> str:
    """White space as a browser shows it; line breaks of `br` stay."""
    lines = (_SPACES.sub(" ", line).strip() for line in text.split(_LINE_BREAK))
    return "\n".join(lines).strip()


@dataclass(slots=True)
class _State:
    """Where the walk is."""

    blocks: list[Block] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    link_characters: int = 0
    links: int = 0  #: depth of open elements of these kinds
    pre: int = 0
    heading: int = 0
    lists: list[int] = field(default_factory=list)  #: per open list: 0 for bullets, else the next number
    marker: str = ""  #: of the list item whose first line has not been written yet

    def flush(self, kind: Literal["paragraph", "heading", "code"] = "paragraph") -> None:
        """End the block that is being collected."""
        raw = "".join(self.inline)
        text = raw.replace(_LINE_BREAK, "\n").strip("\n") if kind == "code" else collapse(raw)
        links, self.inline, self.link_characters = min(self.link_characters, len(text)), [], 0
        if not text.strip():
            return
        if self.heading and kind != "code":
            self.blocks.append(Block(text.replace("\n", " "), "heading", self.heading, links))
        elif self.lists and kind != "code":
            indent = "  " * (min(len(self.lists), 8) - 1)
            first = indent + (self.marker or "  ")
            self.blocks.append(Block(first + text.replace("\n", "\n" + " " * len(first)), "item", 0, links))
            self.marker = ""
        else:
            self.blocks.append(Block(text, kind, 0, links))


def blocks_of(root: etree._Element) -> list[Block]:
    """The blocks below an element."""
    state = _State()
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if element is not root and (not tag or _is_left_out(element, tag)):
                walk.skip_subtree()
            elif tag == "table" and (rows := _data_rows(element)) is not None:
                _table(state, element, rows)
                walk.skip_subtree()
            else:
                _open(state, element, tag)
        else:
            _close(state, element, tag, element is root)
    state.flush()
    return state.blocks


def _open(state: _State, element: etree._Element, tag: str) -> None:
    if tag in BLOCKS:
        state.flush("code" if state.pre else "paragraph")
    if tag in HEADINGS:
        state.heading = HEADINGS[tag]
    elif tag == "pre":
        state.pre += 1
    elif tag == "br":
        state.inline.append(_LINE_BREAK)
    elif tag == "a":
        state.links += 1
    elif tag in ("ul", "ol"):
        start = element.get("start") or "1"
        state.lists.append(
            int(start) if tag == "ol" and start.isdecimal() and len(start) < 9 else int(tag == "ol")
        )
    elif tag == "li" and state.lists:
        number = state.lists[-1]
        state.marker = f"{number}. " if number else "- "
        state.lists[-1] += bool(number)
    _text(state, _own_text(element))


def _close(state: _State, element: etree._Element, tag: str, is_root: bool) -> None:
    if tag in BLOCKS:
        state.flush("code" if state.pre else "paragraph")
    if tag in HEADINGS:
        state.heading = 0
    elif tag == "pre":
        state.pre = max(0, state.pre - 1)
    elif tag == "a":
        state.links = max(0, state.links - 1)
    elif tag in ("ul", "ol") and state.lists:
        state.lists.pop()
    elif tag == "li":
        state.marker = ""
    if not is_root:
        _text(state, element.tail)


def _text(state: _State, text: str | None) -> None:
    if text:
        state.inline.append(text.replace("\n", _LINE_BREAK) if state.pre else text)
        if state.links:
            state.link_characters += len(text.strip())


def _is_left_out(element: etree._Element, tag: str) -> bool:
    if element.get("hidden") is not None:
        return True
    if tag in NO_CONTENT:
        # A heading that folds what is below it is a button; who said a quotation stands in its footer.
        return tag not in SPEAKING or next(element.iterancestors(*SPEAKING[tag]), None) is None
    attributes = element.attrib
    if not attributes:
        return False
    if (attributes.get("role") or "").lower() in NO_CONTENT_ROLES or attributes.get("aria-hidden") == "true":
        return tag not in ("body", "main", "article")
    if "style" in attributes and _HIDDEN.search(str(attributes["style"])):
        return True
    return not NO_CONTENT_CLASSES.isdisjoint((attributes.get("class") or "").split())


def _data_rows(table: etree._Element) -> list[list[str]] | None:
    """Cells of a table that holds data; None for one that only lays out the page."""
    # Tables that lay out a page have no header cells, which may hold anything but another table.
    has_header = next(table.iterdescendants("th"), None) is not None
    layout = ("table",) if has_header else ("table", "h1", "h2", "h3", "h4", "ul", "ol", "pre")
    if table.get("role") == "presentation" or next(table.iterdescendants(*layout), None) is not None:
        return None
    rows: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}  # column -> rows still covered by a cell from above, its text
    for row in table.iterdescendants("tr"):
        if _is_left_out(row, "tr"):
            continue
        cells: list[str] = []

        def carry(cells: list[str]) -> None:
            while len(cells) in hanging:
                left, text = hanging.pop(column := len(cells))
                if left > 1:
                    hanging[column] = (left - 1, text)
                cells.append(text)

        for cell in row.iterchildren("td", "th"):
            if _is_left_out(cell, "td"):
                continue
            carry(cells)
            text = _cell_text(cell)
            if (down := _span(cell, "rowspan")) > 1:
                for column in range(_span(cell, "colspan")):
                    hanging[len(cells) + column] = (down - 1, "" if column else text)
            cells += [text, *[""] * (_span(cell, "colspan") - 1)]
        carry(cells)
        rows.append(cells)
    return rows if max(map(len, rows), default=0) > 1 else None


def _span(cell: etree._Element, name: str) -> int:
    value = cell.get(name) or "1"
    return min(max(1, int(value)), 200) if value.isdecimal() and len(value) < 6 else 1


def _cell_text(cell: etree._Element) -> str:
    parts: list[str] = [cell.text or ""]
    walk = etree.iterwalk(cell, events=("start", "end"))
    for event, element in walk:
        tag = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            if element is not cell and (not tag or _is_left_out(element, tag)):
                walk.skip_subtree()
            elif element is not cell:
                parts.append((" " if tag in BLOCKS or tag == "br" else "") + _own_text(element))
        elif element is not cell:
            parts.append((" " if tag in BLOCKS else "") + (element.tail or ""))
    return "".join(parts)


def _own_text(element: etree._Element) -> str:
    """The text in front of an element's children."""
    text = element.text or ""
    return raised(text) if element.tag == "sup" else text


def _table(state: _State, table: etree._Element, rows: list[list[str]]) -> None:
    state.flush()
    for caption in table.iterchildren("caption"):
        state.blocks.append(Block(collapse(text_of(caption))))
    text = markdown_table(rows)
    links = sum(len(text_of(link).strip()) for link in table.iterdescendants("a"))
    if text:
        state.blocks.append(Block(text, "table", 0, min(links, len(text))))
