"""Citations: byte-exact whatever the script, evidence instead of what a model claims, sentences that tile their text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.types import Hit
from service.citations import SUPPORTED, Citer, without_forged_markers
from service.quoting import best_sentences, focus
from service.sentences import split

ALPHABET = st.sampled_from(["a", "Zebra ", "7", "3.5 ", "。", "！", "汉字", "🗼", "👩‍👩‍👧", "é", "\n", "\n\n", "- ", "# ", "| ", "```\n",
                            ". ", "? ", "e.g. ", "\u2028", "\x0c", "\r\n", " ", "，", "”", "tower ", "مرحبا ", "\U00020000"])  # fmt: skip
TEXTS = st.lists(ALPHABET, max_size=40).map("".join)


def hit(text: str, start: int = 0, end: int | None = None, *, score: float = 0.9, number: int = 1) -> Hit:
    end = len(text) if end is None else end
    return Hit(number, "doc", "a.md", "A", 0, text[start:end], start, end, 2, 3, (), score, 0.8, 1.0)


def test_no_sentence_goes_over_a_line_of_json() -> None:
    record = {
        "file": "a.pdf",
        "pages": 2,
        "note": 'It ends. The "old" one.',
        "read": True,
        "at": {"x": None, "y": 1.5},
    }
    text = json.dumps([record, record], indent=1)
    spans = split(f"Two records. Look:\n{text}\n")
    found = [(span.kind, f"Two records. Look:\n{text}"[span.start : span.end]) for span in spans]
    assert found[:2] == [("sentence", "Two records."), ("sentence", "Look:")]
    told = [("heading", '"note":'), ("sentence", "It ends."), ("sentence", r"The \"old\" one.")]
    lines = [("row", line.strip()) for line in text.splitlines()]
    at = [line for _, line in lines].index(r'"note": "It ends. The \"old\" one.",')
    assert found[2 : 2 + at + 3] == lines[:at] + told
    assert len(found) == 2 + len(lines) + 2 * 2
    prose = '"Old": so it was called. "New" [2] it was not.'
    assert [span.kind for span in split(prose)] == ["sentence", "sentence"]


@given(TEXTS)
def test_sentences_are_ordered_trimmed_and_lose_no_word(text: str) -> None:
    spans = split(text)
    at = 0
    for span in spans:
        assert at <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        at = span.end
    outside = "".join(
        text[a:b]
        for a, b in zip([0, *[s.end for s in spans]], [*[s.start for s in spans], len(text)], strict=True)
    )
    assert not any(c.isalpha() for c in outside)


@pytest.mark.parametrize(
    "sentences",
    [
        ["Der Vertrag beginnt am 1. März 2024.", "Die Miete beträgt 850 Euro, z.B. für 2 Zimmer."],
        ["Es steht auf Seite 12.", "Der Vertrag endet 2025.", "Mai und Juni sind frei."],
        ["Im 19. Jahrhundert war das, vgl. Nr. 7.", "Danach nicht."],
        ["J. Smith wrote it, e.g. in Fig. 3.", "It costs 3.5 euros.", "“Really?”", "Yes."],
        ["第一句。", "第二句！", "“第三句？”"],
    ],
)
def test_sentences_end_where_a_reader_would_end_them(sentences: list[str]) -> None:
    text = " ".join(sentences)
    assert [text[span.start : span.end] for span in split(text)] == sentences


def test_a_line_that_is_only_a_picture_is_no_sentence() -> None:
    text = "它省内存。\n  ![图片](./img/a.png)\n- ![b](c.svg)\nIt is shown in ![d](e.png) here.\n"
    assert [text[s.start : s.end] for s in split(text)] == ["它省内存。", "It is shown in ![d](e.png) here."]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("**How long is it?**\nIt takes 3 days.", ["**How long is it?**", "It takes 3 days."]),
        ("**Note.** Do this.", ["**Note.**", "Do this."]),
        ("Present: Ann, Bo\nAbsent: Cy\n", ["Present: Ann, Bo", "Absent: Cy"]),
        ("时间：三月五日\n主持人：刘芳", ["时间：三月五日", "主持人：刘芳"]),
        ("He said: come\nback to the house.", ["He said: come\nback to the house."]),
        ("See https://a.b/c\nOpen: 10:30", ["See https://a.b/c\nOpen: 10:30"]),
    ],
)
def test_bold_sentences_and_lines_of_a_form_are_sentences(text: str, sentences: list[str]) -> None:
    assert [text[s.start : s.end] for s in split(text)] == sentences


@given(TEXTS, st.data())
def test_a_citation_cuts_the_document_byte_for_byte(document: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(start, len(document)))
    passage = hit(document, start, end)
    citer = Citer("zebra", [passage])
    for span in split(passage.text):
        citer.check(passage.text[span.start : span.end])
    quotes = best_sentences("tower 汉字 7", [passage], None, limit=3)
    for stretch in focus(quotes):
        assert document[stretch.char_start : stretch.char_end] == stretch.text != ""
    for quote in quotes:
        citer.add(quote.hit, quote.start, quote.end, 1.0)
    for number, citation in enumerate(citer.citations, 1):
        assert citation.marker == number
        assert document[citation.char_start : citation.char_end].encode() == citation.text.encode() != b""


PASSAGE = hit(
    "The Eiffel Tower was finished in 1889. It is 330 metres tall and does not sway in the wind. "
    "Gustave Eiffel's company built it.\n\n```\nmake run\n```\n默认模型大约占用 200 MB 的下载量。"
)


@pytest.mark.parametrize(
    ("sentence", "evidence"),
    [
        ("The Eiffel Tower was finished in 1889.", "The Eiffel Tower was finished in 1889."),
        ("It was built by the company of Gustave Eiffel.", "Gustave Eiffel's company built it."),
        ("1889", "The Eiffel Tower was finished in 1889."),
        ("下载量约为200 MB", "默认模型大约占用 200 MB 的下载量。"),
        ("The Eiffel Tower was finished in 1890.", None),  # another number
        ("It is 331 metres tall and does not sway in the wind.", None),
        ("It sways in the wind and is 330 metres tall.", None),  # says the contrary
        ("The Eiffel Tower was never finished.", None),
        ("It was painted by Napoleon.", None),
        ("What is the Eiffel Tower?", None),
        ("The Eiffel Tower is the Eiffel Tower.", None),
        ("Is that so?", None),  # nothing to support
    ],
)
def test_evidence(sentence: str, evidence: str | None) -> None:
    citer = Citer("What is the Eiffel Tower?", [hit("Nothing of the kind.", number=2), PASSAGE])
    statement, support = citer.check(sentence)
    if evidence is None:
        assert not statement.supported and citer.citations == []
    else:
        assert [c.text for c in citer.citations] == [evidence] and support >= SUPPORTED
        assert citer.citations[0].page_first == 2 and citer.citations[0].page_last == 3


def test_the_same_stretch_is_cited_under_one_number() -> None:
    citer = Citer("q", [PASSAGE])
    first = citer.check("The Eiffel Tower was finished in 1889.")[0]
    other = citer.check("Gustave Eiffel's company built it.")[0]
    again = citer.check("In 1889 the Eiffel Tower was finished.")[0]
    assert (first.markers, other.markers, again.markers) == ((1,), (2,), (1,))


def test_markers_of_the_model_are_removed_and_nothing_else() -> None:
    assert (
        without_forged_markers("So it is [1]. And [2, 3] this【4】 too [Source 5].")
        == "So it is. And this too."
    )
    assert (
        without_forged_markers("See [the list](#x) of [x] and f(1).") == "See [the list](#x) of [x] and f(1)."
    )


@pytest.mark.parametrize(
    "text",
    [
        "Use `sys.argv[1]` for the path.",
        "Use sys.argv[1]; a[1] = b[2].",
        "It lies in [0, 1].",
        "The range [1, 5] is meant.",
        "```\nx[1]\n```",
    ],
)
def test_brackets_of_code_and_mathematics_stay(text: str) -> None:
    assert without_forged_markers(text) == text


@pytest.mark.parametrize(
    "marker",
    [
        "［1］",
        "[1、2]",
        "[1，2]",
        "[1–3]",
        "【1†source】",
        "[文档1]",
        "【来源1】",
        "[Source: 2]",
        "[^1]",
        "[12]",
        "【1、2】",
    ],
)
def test_markers_of_every_form_are_removed(marker: str) -> None:
    assert without_forged_markers(f"押一付三{marker}。") == "押一付三。"
    assert without_forged_markers(f"It is vitamin C{marker}.") == "It is vitamin C."


@pytest.mark.parametrize(
    ("passage", "said", "evidence"),
    [
        ("Plan A costs 100 euros a month. Plan B costs 200 euros a month.", "Plan B costs 100 euros a month.", None),
        ("Plan A costs 100 euros a month. Plan B costs 200 euros a month.", "Plan A costs 100 euros a month.", "Plan A costs 100 euros a month."),
        ("An orange has 90 mg of vitamin C.", "An orange has 90 mg of vitamin D.", None),
        ("甲产品价格为100元。乙产品价格为200元。", "乙产品价格为100元。", None),
        ("甲产品价格为100元。乙产品价格为200元。", "甲产品价格为100元。", "甲产品价格为100元。"),
    ],
)  # fmt: skip
def test_one_of_several_is_not_another(passage: str, said: str, evidence: str | None) -> None:
    citer = Citer("q", [hit(passage)])
    citer.check(said)
    assert [c.text for c in citer.citations] == ([] if evidence is None else [evidence])


def test_an_announced_command_is_quoted_with_its_announcement() -> None:
    text = "# Ingest\n\nOther words. To ingest a folder of documents, run this:\n\n```\npython -m ingest ./docs\n```\n\nThen ask."
    (quote,) = best_sentences("How do I ingest a folder of documents?", [hit(text)], None)
    assert quote.text == "To ingest a folder of documents, run this:\n\n```\npython -m ingest ./docs\n```"
