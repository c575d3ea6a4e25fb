"""Quoting in any script with the default model's own vocabulary: whole characters, whole words, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.engine.constrain import Quotation, Slices, Vocabulary, boundaries
from model.tokenizer import Tokenizer

pytestmark = pytest.mark.weights

END = 2
PARAGRAPH = (
    "广州塔高600米，2010年建成。Lorebase 是一个本地知识库，支持 PDF、Word 和 Markdown；"
    "臺灣的讀者用繁體字提問🗼👩‍🔬。Its naïve café costs ¥12.50 — “cheap”, says Zoë.\n𠮷野家の牛丼は安い。한국어도 됩니다."
)
TEXTS = st.lists(
    st.sampled_from(["广州塔", "600米", "，", "。", "Lorebase", " is", " a", "臺灣", "🗼", "👩‍🔬", "e\u0301", "\n", "𠮷", "한국", "12.5", "—", "　"])
    | st.text(max_size=3),
    max_size=14,
).map("".join)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(weights_of: Callable[[str], Path]) -> Tokenizer:
    return Tokenizer.from_file(weights_of("smollm2-135m-instruct") / "tokenizer.json")


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return Vocabulary(tokenizer)


def test_most_of_its_tokens_in_chinese_are_no_characters(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(PARAGRAPH[:20])
    pieces = [t for t in tokens if "\ufffd" in tokenizer.decode_bytes([t]).decode("utf-8", "replace")]
    assert len(pieces) > len(tokens) / 2, "else a constraint on ids would do"


@settings(max_examples=120, deadline=None)
@given(text=TEXTS, seed=st.integers(0, 10**6))
@example(text=PARAGRAPH, seed=1)
@example(text="塔塔塔", seed=2)
def test_any_walk_is_a_slice_between_boundaries(
    vocabulary: Vocabulary, tokenizer: Tokenizer, text: str, seed: int
) -> None:
    marks = boundaries(text)
    characters = {m.start() for m in regex.finditer(r"\X", text)} | {len(text)}
    quotation = Quotation(Slices.between(text, marks, vocabulary), end=(END,))
    draw, made = random.Random(seed), list[int]()
    while allowed := quotation.allowed():
        token = END if END in allowed and draw.random() < 0.1 else draw.choice(allowed)
        quotation.advance(token)
        made += [token] if token != END else []
    if not text:
        assert not made
        return
    assert quotation.ended or not quotation.allowed()
    written = tokenizer.decode_bytes(made)
    for start, end in quotation.complete:
        assert text[start:end].encode() == written != b""
        assert {start, end} <= set(marks) <= characters
    assert quotation.complete
