r"""LaTeX source: the stored text is the file's own from `\begin{document}` on; commands give the sections.

pylatexenc reads the structure, so that `\section` in a comment or in verbatim text is no heading. The source
is kept as it is written: formulas are exact only there, and a quote is found in the file. The preamble, which
is programming, is left out but for title and author.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexGroupNode, LatexMacroNode, LatexWalker

from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of, tidy
from ingest.types import Document

_LEVELS = {
    "part": 1, "chapter": 2, "section": 3, "subsection": 4, "subsubsection": 5, "paragraph": 6,
    "subparagraph": 7,
}  # fmt: skip
_ABOUT = {"title": "title", "author": "author", "date": "created"}
_BEGIN = r"\begin{document}"
_END = r"\end{document}"
LONGEST_PARSED = 2_000_000  #: characters; pylatexenc reads some hundred thousand a second
DEEPEST = 50

logging.getLogger("pylatexenc").setLevel(logging.CRITICAL)  # it logs what it repairs


def parse(source: Source) -> Document:
    """One LaTeX file, or a piece of one that has no preamble.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source)
    headings: list[tuple[int, int, str]] = []
    start, end = 0, len(text)
    if len(text) > LONGEST_PARSED:
        warnings.append("its headings were not looked for: the file is too long for that")
    else:
        try:
            nodes = LatexWalker(text, tolerant_parsing=True).get_latex_nodes()[0]
            for node in _nodes(nodes, 0):
                if isinstance(node, LatexEnvironmentNode) and node.environmentname == "document":
                    start = node.pos + len(_BEGIN)
                elif isinstance(node, LatexMacroNode) and node.macroname in _LEVELS:
                    headings.append((node.pos, _LEVELS[node.macroname], _argument(text, node)))
                elif (
                    isinstance(node, LatexMacroNode)
                    and node.macroname in _ABOUT
                    and (said := _argument(text, node))
                ):
                    metadata.setdefault(_ABOUT[node.macroname], said)
        except Exception as error:  # it raises many types on broken input, tolerant or not
            warnings.append(f"its headings are lost: pylatexenc cannot read it ({type(error).__name__})")
            headings = []
    if start and (at := text.find(_END, start)) > 0:
        end = at
    start += len(text[start:end]) - len(text[start:end].lstrip("\n"))
    body = text[start:end].rstrip()
    if not body.strip():  # \begin{document} alone: then the preamble is what there is
        start, body = 0, text
    placed = [(at - start, level, title) for at, level, title in sorted(headings) if at >= start and title]
    placed = [heading for heading in placed if heading[0] < len(body)]
    top = next((title for _, _, title in placed), "")
    return Document(
        body,
        metadata.get("title") or top or one_line(source.stem),
        sections_of(placed, len(body)),
        (),
        metadata,
        tuple(warnings),
    )


def _nodes(nodes: Any, depth: int) -> Iterator[Any]:
    """Macros and environments in order, inside groups and environments too."""
    for node in nodes or ():
        if node is None:
            continue
        yield node
        if isinstance(node, (LatexEnvironmentNode, LatexGroupNode)) and depth < DEEPEST:
            yield from _nodes(node.nodelist, depth + 1)


def _argument(text: str, node: Any) -> str:
    """The last argument of a macro as plain text; where pylatexenc knows none, the group that follows."""
    arguments = [a for a in (node.nodeargd.argnlist if node.nodeargd else None) or () if a is not None]
    if arguments and isinstance(arguments[-1], LatexGroupNode):
        source = arguments[-1].latex_verbatim()
    else:
        at = node.pos + node.len
        source = LatexWalker(text[at : at + 2000], tolerant_parsing=True).get_latex_expression(0)[0]
        source = source.latex_verbatim() if isinstance(source, LatexGroupNode) else ""
    return one_line(tidy(LatexNodes2Text(keep_comments=False).latex_to_text(source))[0].strip("{} \n"))
