"""reStructuredText: the stored text is the file's own, with its marks; docutils says where sections begin.

Directives that include files, fetch addresses or pass markup through are off. Roles and directives that
docutils does not know (Sphinx has many) cost nothing: the text is not taken from docutils' tree, only the
headings are.
"""

from __future__ import annotations

import docutils.core
import docutils.utils
from docutils import nodes

from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of
from ingest.types import Document

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 6,
    "doctitle_xform": False,
    "sectsubtitle_xform": False,
    "docinfo_xform": True,
    "syntax_highlight": "none",
    "warning_stream": False,
    "line_length_limit": 100_000,
    "input_encoding": "unicode",
}


def parse(source: Source) -> Document:
    """One reStructuredText file.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source)
    headings: list[tuple[int, int, str]] = []
    try:
        tree = docutils.core.publish_doctree(text, settings_overrides=_SETTINGS)
    except Exception as error:  # docutils fails in many ways on broken tables and endless nesting
        warnings.append(f"read as plain text: docutils cannot read it ({type(error).__name__})")
    else:
        headings = _headings(tree, text)
        if (info := next(tree.findall(nodes.docinfo), None)) is not None:
            for entry in info:
                if entry.tagname in ("author", "date", "version", "copyright"):
                    metadata[entry.tagname] = one_line(entry.astext())
    tops = [title for _, level, title in headings if level == 1]
    title = tops[0] if tops else one_line(source.stem)
    return Document(text, title, sections_of(headings, len(text)), (), metadata, tuple(warnings))


def _headings(tree: nodes.document, text: str) -> list[tuple[int, int, str]]:
    """(char_start, level, title) of every section, at its title or at the line over it.

    docutils gives a section the line where it was when it had read the title: its underline or the line after
    it. The title is the nearest line before that which reads so.
    """
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    found: list[tuple[int, int, str]] = []
    last = -1
    for section in tree.findall(nodes.section):
        title = section.next_node(nodes.title)
        if title is None:
            continue
        level = 1
        parent = section.parent
        while isinstance(parent, nodes.section):
            level, parent = level + 1, parent.parent
        written = title.rawsource.strip()
        near = section.line or title.line or 0
        at = next(
            (
                line
                for line in range(min(near, len(lines) - 1), max(last, near - 5), -1)
                if lines[line].strip() == written
            ),
            None,
        )
        if at is None:
            continue
        over = at - 1
        if over > last and _is_rule(lines[over]) and at + 1 < len(lines) and lines[over] == lines[at + 1]:
            at = over
        last = at + 1
        found.append((starts[at], level, one_line(title.astext())))
    return sorted(found)


def _is_rule(line: str) -> bool:
    line = line.rstrip()
    return len(line) > 1 and not line[0].isalnum() and set(line) == {line[0]}
