"""An answer as HTML: Markdown rendered, markers turned into links, and sanitised last.

Neither raw HTML nor links nor images of the answer come through: `[text](address)` stays as it was written,
so the reader sees where it would lead and the page never loads or opens anything that a document smuggled in.
The only links are our own, `#citation-1`; the only classes are our own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import nh3
from markdown_it import MarkdownIt

from service.citations import Statement

#: Private-use characters carry the markers through the Markdown renderer; they are removed from the answer's
#: own text.
_OPEN, _CLOSE, _UNSUPPORTED = "\ue000", "\ue001", "\ue002"
_MARKER = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_PLAIN_MARKER = re.compile(r" ?\[(\d{1,4})\]")
_OWN = str.maketrans("", "", _OPEN + _CLOSE + _UNSUPPORTED)
_MARKDOWN = (
    MarkdownIt("commonmark", {"html": False})
    .enable(["table", "strikethrough"])
    .disable(["link", "image", "autolink", "html_block", "html_inline", "reference"])
)
_TAGS = {
    "p",
    "br",
    "strong",
    "em",
    "s",
    "code",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "a",
    "span",
}
_HREF = re.compile(r"#citation-\d{1,4}")
_CLASSES = {"citation", "unsupported"}


def _keep(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if tag == "a" and _HREF.fullmatch(value) else None
    if name == "class":
        return value if value in _CLASSES else None
    return value


_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes={"a": {"href", "class"}, "span": {"class", "title"}, "ol": {"start"}},
    attribute_filter=_keep,
    url_schemes=set(),
    link_rel=None,
    strip_comments=True,
)


def plain(statements: Sequence[Statement]) -> str:
    """The answer as text: each sentence followed by its markers, as in `… the Seine. [1]`."""
    return "".join(_marked(s, "".join(f" [{m}]" for m in s.markers)) for s in statements).strip()


def html(statements: Sequence[Statement], *, flag_unsupported: bool = True) -> str:
    """The answer as safe HTML; a sentence without support is followed by `<span class="unsupported">`."""
    flag = _UNSUPPORTED if flag_unsupported else ""
    source = "".join(
        _marked(
            Statement(s.text.translate(_OWN), s.markers),
            "".join(f"{_OPEN}{m}{_CLOSE}" for m in s.markers) if s.supported else flag,
        )
        for s in statements
    )
    rendered = _MARKDOWN.render(source.strip())
    rendered = _MARKER.sub(r'<a class="citation" href="#citation-\1">\1</a>', rendered)
    rendered = rendered.replace(
        _UNSUPPORTED, '<span class="unsupported" title="No passage supports this sentence.">?</span>'
    )
    return _CLEANER.clean(rendered)


def recalled(answer: str, markers: Collection[int]) -> str:
    """`plain` text of an earlier answer as safe HTML; of `[n]`, those of `markers` are links again."""

    def linked(found: re.Match[str]) -> str:
        return f"{_OPEN}{found[1]}{_CLOSE}" if int(found[1]) in markers else found[0]

    rendered = _MARKDOWN.render(_PLAIN_MARKER.sub(linked, answer.translate(_OWN)))
    return _CLEANER.clean(_MARKER.sub(r'<a class="citation" href="#citation-\1">\1</a>', rendered))


def _marked(statement: Statement, mark: str) -> str:
    """The statement with its mark behind its last letter, before white space."""
    text = statement.text
    kept = text.rstrip()
    if not kept:
        return text
    if kept.endswith(("```", "~~~")):  # inside a fence the mark would be code
        mark = "\n\n" + mark.strip() if mark else mark
    elif mark and kept.endswith("|") and kept.lstrip().startswith("|"):  # into the last cell of a table's row
        return f"{kept[:-1].rstrip()}{mark} |{text[len(kept) :]}"
    return kept + mark + text[len(kept) :]
