"""Source code: stored as it stands; its outermost definitions are sections.

Python's own parser finds classes, their methods and functions. For other languages a definition is a line
that is not indented (in Java, C# and PHP: by one step) and begins as definitions do. That is a guess from the
looks, and may be: a wrong section only moves a border between passages, no line is ever lost.
"""

from __future__ import annotations

import ast
import re
import warnings as python_warnings
from collections.abc import Iterator

from ingest.parse.plain import read_text
from ingest.parse.source import Source
from ingest.parse.tidy import one_line, sections_of
from ingest.types import Document, Section

LONGEST_LINE = 400  #: a longer one is data or minified code
_DEFINITION = re.compile(
    r"""^(?P<indent>[ ]{0,4}|\t?)
    (?:(?:export|default|declare|public|private|protected|internal|static|final|abstract|sealed|open|async|
       pub(?:\([a-z]+\))?|unsafe|extern|const|inline|virtual|override|partial|data|case|local|suspend|
       create(?:\s+or\s+replace)?)\s+)*
    (?P<kind>class|interface|struct|enum|trait|impl|fn|func|fun|function|def|sub|module|mod|namespace|object|
       protocol|extension|record|union|type|table|view|procedure|trigger)\b
    \s+(?:\([^()\n]{0,80}\)\s*)?(?:if\s+not\s+exists\s+)?(?P<name>[A-Za-z_$@"`\[][\w$.:\-"`\]]{0,100})""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
#: C and its kin have no word before a function: a type, a name, brackets, and no semicolon on the line.
_FUNCTION = re.compile(
    r"^(?P<indent>[ ]{0,4}|\t?)(?:[A-Za-z_][\w:<>,*&\[\]]*[ \t]+[*&]*)+(?P<name>[A-Za-z_~][\w:~]{0,100})"
    r"[ \t]*\([^;{}=]{0,300}\)[^;=\n]{0,80}(?:\{|\n\{|$)",
    re.MULTILINE,
)
_ASSIGNED = re.compile(  # JavaScript: const f = (a) => ..., R: f <- function(a)
    r"^(?P<indent>)(?:(?:export|const|let|var)\s+)*(?P<name>[A-Za-z_$.][\w$.]{0,100})\s*(?:=|<-)\s*"
    r"(?:async\s+)?(?:function\b|\([^()\n]{0,200}\)\s*(?::[^=\n]{0,80})?=>|[A-Za-z_$][\w$]*\s*=>)",
    re.MULTILINE,
)
_SHELL = re.compile(r"^(?P<indent>)(?P<name>[A-Za-z_][\w-]{0,100})\s*\(\)\s*(?:\{|$)", re.MULTILINE)
_CSS = re.compile(r"^(?P<indent>)(?P<name>[.#@:A-Za-z*\[][^{};\n]{0,100}?)\s*\{", re.MULTILINE)
_NOT_NAMES = frozenset(["if", "for", "while", "switch", "return", "else", "catch", "do", "new", "sizeof"])
_BRACES = (".c", ".cc", ".cpp", ".cs", ".h", ".hpp", ".java")
_NESTED = (".cs", ".java", ".php", ".kt", ".scala", ".rb", ".ts", ".tsx", ".js", ".jsx", ".swift")


def parse(source: Source) -> Document:
    """One file of source code.

    Raises:
        ParseError: it cannot be read.
        EmptyDocument: no text in it.
    """
    text, metadata, warnings = read_text(source)
    if source.suffix == ".py":
        try:
            headings = list(_python(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            headings = list(_looks(text, source.suffix))  # Python 2, a template, a piece
    else:
        headings = list(_looks(text, source.suffix))
    sections = tuple(
        Section(s.heading_path, s.char_start, s.char_end, "code") for s in sections_of(headings, len(text))
    )
    return Document(text, one_line(source.stem), sections, (), metadata, tuple(warnings))


def _python(text: str) -> Iterator[tuple[int, int, str]]:
    """Classes, their methods and functions with their decorators; what stands between hangs below none."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # about escapes in a stranger's strings
        tree = ast.parse(text)
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    found: list[tuple[int, int, str]] = []

    def visit(nodes: list[ast.stmt], level: int) -> None:
        for before, node in zip([None, *nodes], nodes, strict=False):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                found.append((starts[first - 1], level, node.name))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, level + 1)
            elif isinstance(before, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((starts[node.lineno - 1], level, ""))

    visit(tree.body, 1)
    yield from sorted(found)


def _looks(text: str, suffix: str) -> Iterator[tuple[int, int, str]]:
    """What looks like a definition: (char_start, level, name)."""
    patterns = [_CSS] if suffix == ".css" else [_DEFINITION]
    if suffix in _BRACES:
        patterns.append(_FUNCTION)
    if suffix in (".js", ".jsx", ".ts", ".tsx", ".r", ".lua"):
        patterns.append(_ASSIGNED)
    if suffix in (".sh", ".pl", ".php"):
        patterns.append(_SHELL)
    if max((len(line) for line in text.split("\n")), default=0) > 20 * LONGEST_LINE:
        return  # minified
    found: dict[int, tuple[int, str]] = {}
    for pattern in patterns:
        for match in pattern.finditer(text):
            name = match["name"].strip('"`[] ')
            indented = bool(match["indent"])
            if name.lower() in _NOT_NAMES or (indented and suffix not in _NESTED):
                continue
            found.setdefault(match.start(), (2 if indented else 1, name))
    for at in sorted(found):
        yield (at, *found[at])
