"""The chunker's laws, under tokenizers as embedders have them and under one that counts perversely."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from ingest.chunk import LONGEST_IN_CHARACTERS, split
from ingest.table_headers import find
from ingest.types import Chunk, Document, Page, Section, heading_prefix

ROOT = Path(__file__).resolve().parents[2]
Count = Callable[[list[str]], list[int]]

CHINESE = (
    "在你的开发环境中，最重要的软件包是基本构建工具，它将拉取其他所需的工具链。"
    "对于某些类型的软件，以上的就是所需要的全部！然而还有一组工具虽不是必须，却可能对你有用；"
    "请详细阅读每个程序的文档，至少了解其一般用途。"
)
ENGLISH = (
    "The ferry leaves at nine in the morning. It returns, if the fog allows it, before noon; passengers wait "
    "at the north pier! Is there a second boat? Yes, but only in summer. "
)


class Counter:
    """Counts tokens and how it was asked to."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self.count = count
        self.calls = 0
        self.texts = 0

    def __call__(self, texts: list[str]) -> list[int]:
        self.calls += 1
        self.texts += len(texts)
        return [self.count(text) for text in texts]


def perverse(text: str) -> int:
    """Not subadditive: long texts cost more than their parts, so sums of parts are no upper bound."""
    words = len(re.findall(r"\w{1,5}|[^\w\s]", text))
    return 2 + words + words * words // 60


def trained(kind: str) -> Callable[[str], int]:
    """A real tokenizer of MiniLM's kind ("wordpiece") or E5's ("unigram"), with special tokens."""
    corpus = [
        CHINESE,
        ENGLISH,
        *(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md"))),
    ]
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: trainers.Trainer = trainers.WordPieceTrainer(
            vocab_size=1500, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False
        )
        tokenizer.train_from_iterator(corpus, trainer)
        pair = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pair)
        prefix = ""
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=1500, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(corpus, trainer)
        pair = [("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=pair)
        prefix = "passage: "
    return lambda text: len(tokenizer.encode(prefix + text).ids)


COUNTS: dict[str, Callable[[str], int]] = {
    "wordpiece": trained("wordpiece"),
    "unigram": trained("unigram"),
    "characters": lambda text: 1 + len(text),
    "perverse": perverse,
}


def document_of(
    text: str,
    cuts: Sequence[tuple[int, tuple[str, ...]]] = (),
    title: str = "Title",
    pages: int = 0,
    kind: Literal["text", "code"] = "text",
) -> Document:
    """A document whose sections begin at the given places (the first at 0), with equal pages."""
    starts = sorted({0: (), **dict(cuts)}.items())
    ends = [*(at for at, _ in starts[1:]), len(text)]
    sections = tuple(
        Section(path, at, end, kind) for (at, path), end in zip(starts, ends, strict=True) if end > at
    )
    size = -(-len(text) // pages) if pages else 1
    made = tuple(Page(n + 1, min(n * size, len(text)), min((n + 1) * size, len(text))) for n in range(pages))
    return Document(text, title, sections, made)


def check(document: Document, chunks: list[Chunk], count: Callable[[str], int], most: int) -> None:
    text = document.text
    rebuilt, at = "", 0
    for position, chunk in enumerate(chunks):
        assert chunk.position == position
        assert chunk.text == text[chunk.char_start : chunk.char_end] and chunk.text.strip()
        assert chunk.tokens == count(chunk.embedding_text(document.title)) <= most
        assert len(chunk.text) <= LONGEST_IN_CHARACTERS * most
        if position:
            assert chunks[position - 1].char_start < chunk.char_start
            assert chunks[position - 1].char_end < chunk.char_end
        between = text[at : max(at, chunk.char_start)]
        assert not between.strip()
        rebuilt += between + text[max(at, chunk.char_start) : chunk.char_end]
        at = chunk.char_end
    assert not text[at:].strip() and rebuilt + text[at:] == text
    for chunk in chunks:
        owners = {
            s.heading_path
            for s in document.sections
            if s.char_start < chunk.char_end and chunk.char_start < s.char_end
        }
        assert all(
            path == chunk.heading_path[: len(path)] for path in owners
        )  # its own section, or bare parents
        for page, at in ((chunk.page_first, chunk.char_start), (chunk.page_last, chunk.char_end - 1)):
            if document.pages:
                starts = [p.char_start for p in document.pages]
                assert page == document.pages[max(0, bisect_right(starts, at) - 1)].number
            else:
                assert page is None


PIECES = [
    ENGLISH,
    CHINESE,
    "word ",
    "\n\n",
    "\n",
    " ",
    "\t",
    "    code line\n",
    "。",
    "| a | b |\n",
    "🚢",
    "x" * 300,
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=60), max_size=25).map("".join)
PATHS = st.lists(
    st.sampled_from(["Harbour", "港口", "A very long heading " * 9, "x" * 200, "Title"]), max_size=4
).map(tuple)


@pytest.mark.parametrize("tokenizer", COUNTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_laws(tokenizer: str, data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    cuts = data.draw(st.lists(st.tuples(st.integers(0, max(0, len(text) - 1)), PATHS), max_size=5))
    most = data.draw(st.sampled_from([32, 64, 224]))
    overlap = data.draw(st.sampled_from([0, 8, 32, 1024]))
    title = data.draw(st.sampled_from(["Title", "", "标题" * 100, "w " * 100]))
    kind: Literal["text", "code"] = data.draw(st.sampled_from(["text", "code"]))
    document = document_of(text, cuts, title, data.draw(st.integers(0, 4)), kind)
    count = Counter(COUNTS[tokenizer])
    chunks = split(document, count_tokens=count, max_tokens=most, overlap_tokens=overlap)
    check(document, chunks, COUNTS[tokenizer], most)
    assert chunks == split(document, count_tokens=count, max_tokens=most, overlap_tokens=overlap)


@pytest.mark.parametrize("tokenizer", ["wordpiece", "unigram"])
@pytest.mark.parametrize(
    "text", [CHINESE * 100, ENGLISH * 180, (CHINESE + "\n" + ENGLISH) * 70], ids=["zh", "en", "mixed"]
)
def test_counting_does_not_grow_with_the_document(tokenizer: str, text: str) -> None:
    """30 kB cost a handful of calls and a few texts a chunk; chunks are well filled."""
    count = Counter(COUNTS[tokenizer])
    chunks = split(document_of(text), count_tokens=count, max_tokens=224, overlap_tokens=32)
    assert len(text.encode()) >= 30_000 and len(chunks) > 20
    assert count.calls <= 6
    assert count.texts <= 12 * len(chunks)
    assert sum(chunk.tokens for chunk in chunks) >= 0.7 * 224 * len(chunks)
    assert min(chunk.tokens for chunk in chunks[:-1]) >= 60  # no crumbs, but for the last one
    check(document_of(text), chunks, COUNTS[tokenizer], 224)


def test_chunks_end_at_sentences_and_overlap_begins_at_them() -> None:
    for text, ends in ((ENGLISH * 40, ".!?"), (CHINESE * 20, "。！；")):
        chunks = split(
            document_of(text), count_tokens=Counter(COUNTS["unigram"]), max_tokens=224, overlap_tokens=60
        )
        assert all(chunk.text[-1] in ends for chunk in chunks)
        for before, chunk in pairwise(chunks):
            assert chunk.char_start < before.char_end  # they do overlap
            assert text[: chunk.char_start].rstrip()[-1] in ends


def test_paragraphs_are_kept_whole_where_they_fit() -> None:
    text = "\n\n".join(ENGLISH.strip() for _ in range(30))
    chunks = split(
        document_of(text), count_tokens=Counter(COUNTS["wordpiece"]), max_tokens=224, overlap_tokens=0
    )
    assert all(chunk.text.startswith("The ferry") and chunk.text.endswith("summer.") for chunk in chunks)


def test_headings_are_never_crossed_but_bare_ones_join_what_follows() -> None:
    text = "# One\n\n## Two\n\nalpha\n\n## Three\n\nbeta\n\n# Four\n"
    places = {"One": (), "Two": ("One",), "Three": ("One",), "Four": ()}
    cuts = [(text.index(f"# {h}") - (h in ("Two", "Three")), (*path, h)) for h, path in places.items()]
    chunks = split(
        document_of(text, cuts), count_tokens=Counter(COUNTS["characters"]), max_tokens=200, overlap_tokens=50
    )
    assert [(chunk.heading_path, chunk.text) for chunk in chunks] == [
        (("One", "Two"), "# One\n\n## Two\n\nalpha"),
        (("One", "Three"), "## Three\n\nbeta"),
        (("Four",), "# Four"),
    ]


def test_a_heading_with_text_of_its_own_is_not_joined() -> None:
    text = "# One\n\nown text\n\n## Two\n\nalpha"
    document = document_of(text, [(0, ("One",)), (text.index("##"), ("One", "Two"))])
    chunks = split(document, count_tokens=Counter(COUNTS["characters"]), max_tokens=200, overlap_tokens=50)
    assert [chunk.text for chunk in chunks] == ["# One\n\nown text", "## Two\n\nalpha"]


def test_long_prefixes_are_shortened_and_short_ones_are_whole() -> None:
    paths = [
        ("Harbour", "Fees"),
        tuple(f"level {n} of a deep and wordy table of contents" for n in range(30)),
    ]
    text = ENGLISH * 8
    document = document_of(text, [(0, paths[0]), (len(text) // 2, paths[1])])
    chunks = split(document, count_tokens=Counter(COUNTS["unigram"]), max_tokens=96, overlap_tokens=0)
    check(document, chunks, COUNTS["unigram"], 96)
    assert {chunk.heading_path for chunk in chunks} == set(paths)  # the path itself is kept for display
    for chunk in chunks:
        first = chunk.embedding_text("Title").split("\n")[0]
        if chunk.heading_path == paths[0]:
            assert chunk.prefix is None and first == "Title > Harbour > Fees"
        else:
            assert chunk.prefix == first == f"Title > {paths[1][-1]}"
    assert heading_prefix("Title", ("Title", "x")) == "Title > x"


def test_no_room_is_an_error_and_no_text_is_no_chunk() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        split(
            document_of("text"),
            count_tokens=lambda texts: [100] * len(texts),
            max_tokens=64,
            overlap_tokens=0,
        )
    assert (
        split(document_of(" \n"), count_tokens=Counter(COUNTS["characters"]), max_tokens=64, overlap_tokens=0)
        == []
    )


def test_overlap_never_swallows_the_chunk_before() -> None:
    """Unbroken runs cost word pieces one token, so that any number of them would fit into the overlap."""
    document = document_of("🚢" + "x" * 600)
    chunks = split(document, count_tokens=Counter(COUNTS["wordpiece"]), max_tokens=32, overlap_tokens=8)
    assert len(chunks) > 2
    check(document, chunks, COUNTS["wordpiece"], 32)


def test_code_keeps_its_indentation() -> None:
    text = "intro\n\n" + "    if x:\n        return 1\n" * 60
    chunks = split(
        document_of(text), count_tokens=Counter(COUNTS["wordpiece"]), max_tokens=64, overlap_tokens=0
    )
    assert len(chunks) > 3 and all(chunk.text.startswith("    ") for chunk in chunks[1:])


def test_code_is_cut_between_its_blocks() -> None:
    """A long function ends its passages where a block of its body ends, not inside one."""
    block = "    for key in sorted({0}):\n        if key in {0}_seen:\n            continue\n        {0}.add(key)\n\n        log(key)\n"
    text = "def run(stock):\n" + "".join(block.format(f"shelf{n}") for n in range(30)) + "    return stock\n"
    count, room = Counter(COUNTS["wordpiece"]), {"max_tokens": 160, "overlap_tokens": 0}
    chunks = split(document_of(text, kind="code"), count_tokens=count, **room)
    check(document_of(text, kind="code"), chunks, COUNTS["wordpiece"], 160)
    assert len(chunks) > 5
    assert all(re.match(r"    (for|return)", chunk.text) for chunk in chunks[1:])
    as_text = split(document_of(text), count_tokens=count, **room)  # blank lines stand inside blocks here
    assert not all(re.match(r"    (for|return)", chunk.text) for chunk in as_text[1:])
    braces = "int run(void) {\n" + "    if (full(shelf)) {\n        empty(shelf);\n    }\n" * 60 + "}\n"
    cut = split(document_of(braces, kind="code"), count_tokens=count, **room)
    assert len(cut) > 3 and all(chunk.text.startswith("    if") for chunk in cut[1:]), (
        "no bracket is left alone"
    )


# Tables

ROWS = st.lists(
    st.sampled_from(["| 1 | brass tortoise | 4.50 |", "| 22 | gate | |", "| - | 花园 | 9 |"]),
    min_size=1,
    max_size=60,
)


def lacks_header(text: str, at: int) -> str:
    """Line by line: the header of the table that a passage which begins here stands in, behind its header."""
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]
    row = max(n for n in range(len(lines)) if starts[n] <= at)
    if not lines[row].startswith("|"):
        return ""
    first = row
    while first and lines[first - 1].startswith("|"):
        first -= 1
    return (
        lines[first].strip()
        if first + 2 <= len(lines) - 1 and row > first and lines[first + 2].startswith("|")
        else ""
    )


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "perverse", "characters"])
@settings(max_examples=25, deadline=None)
@given(
    tables=st.lists(ROWS, min_size=1, max_size=3),
    most=st.sampled_from([48, 90, 300]),
    overlap=st.sampled_from([0, 12]),
)
def test_a_passage_from_the_middle_of_a_table_is_told_its_header(
    kind: str, tables: list[list[str]], most: int, overlap: int
) -> None:
    text = "".join(
        f"Table {n}.\n\n| Number{n} | Name | Price |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n\n"
        for n, rows in enumerate(tables)
    )
    document = document_of(text, title="Stock")
    count = COUNTS[kind]
    chunks = split(document, count_tokens=Counter(count), max_tokens=most, overlap_tokens=overlap)
    check(document, chunks, count, most)
    for chunk in chunks:
        header = lacks_header(text, chunk.char_start)
        first = chunk.embedding_text("Stock").removesuffix(chunk.text)
        if kind in ("wordpiece", "unigram") and most == 300:  # room enough
            assert first == (f"Stock\n{header}\n" if header else "Stock\n")
        else:
            assert header in first or first in ("Stock\n", "")


def test_the_overlap_within_a_table_is_whole_rows() -> None:
    row = "| A-{n:04} | a brass tortoise of the longer kind, {n} | The Tortoise Works | 4.50 | 21 |"
    text = "| Article | Description | Supplier | Price | Stock |\n| --- | --- | --- | --- | --- |\n"
    text += "\n".join(row.format(n=n) for n in range(60))
    for overlap in (8, 30, 60):
        cut = split(
            document_of(text),
            count_tokens=Counter(COUNTS["wordpiece"]),
            max_tokens=200,
            overlap_tokens=overlap,
        )
        assert len(cut) > 5
        assert all(text[chunk.char_start : chunk.char_start + 4] == "| A-" for chunk in cut[1:])
    assert any(one.char_end > other.char_start for one, other in pairwise(cut))  # where a row fits


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n| --- | --- |",  # no rows
        "| a | b |\n| c | d |\n| e | f |",  # no line of dashes
        "a | b\n--- | ---\n1 | 2",  # another kind of table
        "|  |  |\n| --- | --- |\n| 1 | 2 |",  # columns without names
        f"| {'long ' * 100} |\n| --- |\n| 1 |",
    ],
)
def test_no_header_is_repeated_where_there_is_none(text: str) -> None:
    assert find(text) == []


def test_looking_for_tables_takes_time_in_proportion_to_the_text() -> None:
    for piece in ("| - ", "|", "| a |\n| --- ", "| a |\n|", " |\t-", "|-\n"):
        assert find(piece * 60_000) == [] or piece  # a quadratic search would not end before the time-out
