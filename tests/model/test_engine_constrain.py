"""Constrained decoding against brute force: nothing but allowed slices comes out, and every one of them can."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import regex
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.config import Sampling
from model.engine import Engine
from model.engine.cache import Cache
from model.engine.constrain import Quotation, Slices, Vocabulary, boundaries
from model.errors import AdapterError, ModelError
from model.gpt import GPT
from model.tokenizer import Tokenizer, byte_alphabet
from tests.model import chatml, tiny

END = 1
PIECES = ["the", " The", " tower", " is", "330", ".", "。", "塔", "高", "知识库", "🗼", "👩‍🔬", "é", "e\u0301", "\n",
          " ", ">", "> ", "一", "\u0001"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join)


def vocabulary() -> Tokenizer:
    """Bytes, halves of Chinese characters joined with their neighbours, words; and no token for byte 1."""
    alphabet = {byte: sign for sign, byte in byte_alphabet().items()}
    tokens = {alphabet[byte]: byte for byte in range(256) if byte != 1}
    merges = []
    for word in ("the", " The", " tower", "330", "> ", ". ", "塔高", "知识", "🗼"):
        signs = [alphabet[byte] for byte in word.encode()]
        while len(signs) > 1:
            left, right = signs[:2]
            if left + right not in tokens:
                tokens[left + right] = 300 + len(tokens)
                merges.append((left, right))
            signs[:2] = [left + right]
    return Tokenizer(tokens, merges, pattern=r"(?s:.+)", special={"<|end|>": END})


TOKENIZER = vocabulary()
VOCABULARY = Vocabulary(TOKENIZER)


def written(slices: Slices, lead: bytes, most: int = 4000) -> set[tuple[bytes, int, int]]:
    """Everything that a quotation can write, by trying every allowed token; and the span that it says it was."""
    found, open_ = set(), [()]
    while open_ and most:
        most -= 1
        path = open_.pop()
        quotation = Quotation(slices, lead=lead, end=(END,))
        for token in path:
            quotation.advance(token)
        assert bool(quotation.allowed()) == bool(slices.ends), "it must never stand where it cannot go on"
        for token in quotation.allowed():
            if token == END:
                start, end = quotation.complete[0]
                found.add((TOKENIZER.decode_bytes(path), start, end))
            else:
                open_.append((*path, token))
    assert most, "too much to try"
    return found


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([b"", b"> "]), st.data())
@example("塔高塔高", b"> ", None)
@example("a\u0001b", b"", None)
def test_what_can_be_written_is_what_may_be(text: str, lead: bytes, data: st.DataObject | None) -> None:
    text = text[:9]
    free = data is None or data.draw(st.booleans())
    places = list(range(len(text) + 1))
    if free:
        marks = places if data is None else data.draw(st.lists(st.sampled_from(places), max_size=5))
        spans = {(a, b) for a in marks for b in marks if a < b}
        slices = Slices.between(text, marks, VOCABULARY)
    else:
        pairs = st.tuples(st.sampled_from(places), st.sampled_from(places))
        spans = {(a, b) for a, b in data.draw(st.lists(pairs, max_size=6)) if a <= b}
        slices = Slices.only(text, spans, VOCABULARY)
        spans = {(a, b) for a, b in spans if a < b}
    can = written(slices, lead)
    assert {made for made, _, _ in can} == {
        lead + text[a:b].encode() for a, b in spans if "\u0001" not in text[a:b]
    }
    for made, start, end in can:
        assert (start, end) in spans and lead + text[start:end].encode() == made


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.text(max_size=60), st.sampled_from([b"", b"> "]))
def test_a_random_walk_ends_in_a_slice(seed: int, text: str, lead: bytes) -> None:
    slices = Slices.between(text, boundaries(text), VOCABULARY)
    quotation, draw, made = Quotation(slices, lead=lead, end=(END,)), random.Random(seed), []
    while allowed := quotation.allowed():
        token = draw.choice(allowed)
        quotation.advance(token)
        if token != END:
            made.append(token)
    if quotation.ended:
        start, end = quotation.complete[0]
        assert lead + text[start:end].encode() == TOKENIZER.decode_bytes(made)
        assert {start, end} <= set(boundaries(text))
    else:
        assert not made and all("\u0001" in piece for piece in text.split()), "it may only fail to begin"


def test_a_token_of_another_text_is_refused_and_places_narrow_down() -> None:
    text = "the tower. The tower is 330."
    slices = Slices.only(text, [(0, 10), (11, 28)], VOCABULARY)
    quotation = Quotation(slices, lead=b"> ", end=(END,))
    assert len(quotation.outcomes) == 2 and not quotation.complete
    with pytest.raises(ModelError):
        quotation.advance(END)
    for data in (b">", b" The"):
        token = VOCABULARY.id(data)
        assert token is not None
        quotation.advance(token)
    assert quotation.outcomes == {text[11:].encode()} and quotation.rest() == " tower is 330."
    with pytest.raises(ModelError):
        quotation.advance(VOCABULARY.id(b"the") or 0)
    assert Quotation(slices, starts=[11]).outcomes == {text[11:].encode()}
    assert Quotation(slices, starts=[5]).allowed() == []


@given(TEXTS | st.text(max_size=20))
def test_boundaries_cut_neither_words_nor_characters(text: str) -> None:
    found = boundaries(text)
    whole = [m.start() for m in regex.finditer(r"\X", text)] + [len(text)]
    assert set(found) <= set(whole) and found == sorted(set(found))
    if text:
        assert found[0] == 0 and found[-1] == len(text)
    for word in regex.finditer(r"[a-z0-9]+", text):
        assert not {*range(word.start() + 1, word.end())} & set(found)


def engine(folder: Path) -> Engine:
    tokenizer, _ = chatml.pair(folder)
    model = GPT(tiny.config(vocab_size=tokenizer.vocab_size, eos_ids=(2,), context_length=256))
    model.initialise(torch.Generator().manual_seed(3))
    from model.engine.kernels import install

    install(model, dict(model.state_dict()), packed=False, tiled=False)
    return Engine(model, tokenizer)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_generation_held_to_a_text_quotes_it(temperature: float, tmp_path: Path) -> None:
    ours = engine(tmp_path)
    text = "The capital of France is Paris. 你是谁？我是 Lore。 🗼 stands there."
    slices = Slices.between(text, boundaries(text), Vocabulary(ours.tokenizer))
    for seed in range(4):
        quotation = Quotation(slices, end=ours.config.eos_ids)
        sampling = Sampling(max_tokens=200, temperature=temperature, seed=seed)
        reply = ours.generate(ours.tokenizer.encode("What? " * (seed + 1)), sampling, constraint=quotation)
        said = "".join(token.text for token in reply)
        start, end = quotation.complete[0]
        assert reply.finish_reason == "stop" and said == text[start:end] != ""


def test_rows_that_were_taken_join_into_the_batch_that_they_were_in(tmp_path: Path) -> None:
    ours = engine(tmp_path)
    prompts = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [15, 16, 17, 18, 19]]
    kept = [ours.prefill([prompt])[1].take(0) for prompt in prompts]
    assert [row.tokens for row in kept] == [7, 3, 5]
    assert kept[1].nbytes * 7 == kept[0].nbytes * 3, "a row takes what its tokens need"
    longer = [[*prompts[0][:4], 40, 41], [*prompts[1], 42], [*prompts[2][:1], 43, 44, 45]]
    joined = Cache.join(ours.config, kept, [4, 3, 1], room=3)
    assert joined.lengths == [4, 3, 1]
    logits, cache = ours.prefill(longer, cache=joined)
    for row, prompt in enumerate(longer):
        torch.testing.assert_close(logits[row], ours.prefill([prompt])[0][0], rtol=1e-4, atol=1e-4)
    assert cache.take(2, 2).tokens == 2
    torch.testing.assert_close(cache.take(0).store[:, :, :4], kept[0].store[:, :, :4])
    other = type(kept[0])(kept[0].store, "law")
    with pytest.raises(AdapterError):
        Cache.join(ours.config, [kept[1], other], [3, 7])
