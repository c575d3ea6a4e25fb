"""Ids equal those of the `tokenizers` library on the same file, for any text; nothing panics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Reference

from model.errors import TokenizerError, UnsupportedModel
from model.tokenizer import LONGEST_RUN, Tokenizer, byte_alphabet
from tests.model import tiny

#: The bytes that SmolLM2's vocabulary lacks.
MISSING = bytes.fromhex("04 06 13 14 16 1d c0 c1 f1 f2 f5 f6 f7 f8 f9 fa fb fc fd fe ff")
CONTROLS = [chr(byte) for byte in MISSING if byte < 0x80]
CORPUS = [
    "The quick brown fox doesn't jump over the lazy dogs; they're 1,234 of them, we'll say.",
    "知识库根据文档回答问题，并给出可以核对的引用。知识库的答案来自文档。",
    "def add(a: int, b: int):\n    return a + b\n\n\nif __name__:\n\tprint(add(1, 22))\n",
    "naïve café 🙂👍🏽 😀  ½ ٣ Ⅷ … — “quoted”   \n\n   ",
] * 3
TEXTS = st.one_of(
    st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs", "Cn"]), max_size=40),
    st.lists(
        st.sampled_from(
            ["the", "Dogs", " don't", "'ll", "'S", "知识库", "，", "🙂", "👍🏽", "é", "e\u0301",
             "0", "42", "½", "٣", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u0085", "!", "==", "_",
             "<|im_end|>", "<|endoftext|>", *CONTROLS]
        ),
        max_size=20,
    ).map("".join),
)  # fmt: skip
DIGITS = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
SPLIT = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(
            Regex(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
            behavior="isolated",
        ),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)  # fmt: skip
KINDS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "digits": DIGITS,
    "split": SPLIT,
    "nfc": SPLIT,
}


def trained(kind: str, folder: Path) -> Path:
    """A small BPE whose vocabulary lacks the same bytes as SmolLM2's."""
    made = Reference(models.BPE())
    made.pre_tokenizer = KINDS[kind]
    made.decoder = decoders.ByteLevel()
    if kind == "nfc":
        made.normalizer = normalizers.NFC()
    letters = [letter for letter, byte in byte_alphabet().items() if byte not in MISSING]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=letters, show_progress=False
        ),
    )
    made.save(str(folder / f"{kind}.json"))
    return folder / f"{kind}.json"


def reference(path: Path) -> Reference:
    made = Reference.from_file(str(path))
    made.encode_special_tokens = True  # text is text
    return made


@pytest.fixture(scope="module", params=KINDS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Reference]:
    path = trained(request.param, tmp_path_factory.mktemp("bpe"))
    return Tokenizer.from_file(path), reference(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_file(trained("digits", tmp_path_factory.mktemp("bpe")))


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
@example(text="".join(map(chr, range(0x180))) * 2)
@example(text="!\x04!\x16 \x1d\x04 a\x04b")
@example(text="  12 345   6\n 7")
@example(text="cafe\u0301")
def test_ids_are_the_reference_ids(both: tuple[Tokenizer, Reference], text: str) -> None:
    ours, theirs = both
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.count(text) == len(ours.encode(text))


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_text_comes_back_whole_and_in_streamed_pieces(digits: Tokenizer, text: str) -> None:
    kept = "".join(character for character in text if character not in CONTROLS)
    ids = digits.encode(text)
    assert digits.decode(ids) == kept
    stream = digits.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == kept
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in kept


@pytest.mark.weights
@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
@example(text="".join(map(chr, range(0x180))) * 2)
@example(text="!\x04!\x16 \x1d\x04 a\x04b")
def test_ids_of_the_real_vocabulary(weights_of: Callable[[str], Path], text: str) -> None:
    ours, theirs = real(weights_of("smollm2-135m-instruct"))
    assert ours.encode(text) == theirs.encode(text).ids


@pytest.mark.weights
def test_the_real_vocabulary_lacks_21_bytes_and_says_which_token_is_what(
    weights_of: Callable[[str], Path],
) -> None:
    ours, theirs = real(weights_of("smollm2-135m-instruct"))
    known = {ours.token_bytes(i) for i in range(ours.vocab_size)}
    assert bytes(byte for byte in range(256) if bytes([byte]) not in known) == MISSING
    alphabet = byte_alphabet()
    for token, i in theirs.get_vocab().items():
        expected = token.encode() if i in ours.special.values() else bytes(alphabet[c] for c in token)
        assert ours.token_bytes(i) == expected
    assert ours.special["<|im_end|>"] not in ours.encode("a<|im_end|>b")


_REAL: dict[Path, tuple[Tokenizer, Reference]] = {}


def real(folder: Path) -> tuple[Tokenizer, Reference]:
    if folder not in _REAL:
        _REAL[folder] = (Tokenizer.from_file(folder / "tokenizer.json"), reference(folder / "tokenizer.json"))
    return _REAL[folder]


@pytest.mark.parametrize(
    "text", [bytes([b]).decode("latin-1") for b in range(256)] + ["\U00040000", "\U000bffff", "\ud800"]
)
def test_no_character_panics(digits: Tokenizer, text: str) -> None:
    for candidate in (text, f"a{text}b", text * 3):
        ids = digits.encode(candidate)
        if text in CONTROLS or text[0] in "\U00040000\U000bffff":  # dropped whole: no orphaned bytes
            assert digits.decode(ids) == candidate.replace(text, "")


@pytest.mark.parametrize("character", [" ", "\n", "\u3000"])
def test_white_space_too_long_for_the_regular_expressions_is_cut(digits: Tokenizer, character: str) -> None:
    text = "a" + character * (10 * LONGEST_RUN + 3) + "b"
    assert digits.decode(digits.encode(text)) == text


def test_words_that_were_added_are_shown_and_never_read(digits: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    spec = json.loads(tiny.tokenizer())
    spec["added_tokens"].append({"id": 900, "content": "<tool>", "special": False})
    file.write_text(json.dumps(spec), encoding="utf-8")
    made = Tokenizer.from_file(file)
    assert made.decode([900, *made.encode("fox")]) == "<tool>fox" == made.stream().push(900) + "fox"
    assert 900 not in made.encode("<tool>fox")


def test_control_tokens_leave_no_text(digits: Tokenizer) -> None:
    end = digits.special["<|im_end|>"]
    ids = [*digits.encode("fox"), end]
    assert digits.decode(ids) == "fox"
    assert digits.decode(ids, special=True) == "fox<|im_end|>"
    assert digits.stream().push(end) == ""
    assert digits.decode([*ids, 99999, -1], special=True) == "fox<|im_end|>", (
        "as tokenizers reads padding rows"
    )
    with pytest.raises(TokenizerError, match="99999"):
        digits.token_bytes(99999)


def test_ids_that_disagree_with_merge_order_are_mapped(tmp_path: Path) -> None:
    path = trained("digits", tmp_path)
    spec = json.loads(path.read_text())
    last = max(spec["model"]["vocab"].values())
    special = {token["id"] for token in spec["added_tokens"]}
    for token, i in spec["model"]["vocab"].items():
        if i not in special:
            spec["model"]["vocab"][token] = last - (i - len(special))
    path.write_text(json.dumps(spec))
    ours, theirs = Tokenizer.from_file(path), reference(path)
    for text in CORPUS:
        assert ours.encode(text) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


def change(spec: dict[str, Any], kind: str) -> None:
    if kind == "wordpiece":
        spec["model"]["type"] = "WordPiece"
    elif kind == "metaspace":
        spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁"}
    elif kind == "lowercase":
        spec["normalizer"] = {"type": "Lowercase"}
    elif kind == "merge":
        spec["model"]["merges"].append(["q", "qqq"])
    else:
        del spec["model"]["merges"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("wordpiece", UnsupportedModel),
        ("metaspace", UnsupportedModel),
        ("lowercase", UnsupportedModel),
        ("merge", TokenizerError),
        ("no merges", TokenizerError),
    ],
)
def test_other_tokenizers_are_refused(tmp_path: Path, kind: str, error: type[Exception]) -> None:
    path = trained("digits", tmp_path)
    spec = json.loads(path.read_text())
    change(spec, kind)
    path.write_text(json.dumps(spec))
    with pytest.raises(error):
        Tokenizer.from_file(path)


@pytest.mark.parametrize(
    "part",
    [
        {"added_tokens": None}, {"added_tokens": [5]}, {"added_tokens": [{"content": 5, "id": "x"}]},
        {"normalizer": 5}, {"pre_tokenizer": 5}, {"pre_tokenizer": {"type": "Sequence"}}, {"model": {"vocab": 5}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False},
        ]}},
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused_too(tmp_path: Path, part: dict[str, Any]) -> None:
    spec = json.loads(tiny.tokenizer())
    part = {key: spec[key] | value if key == "model" else value for key, value in part.items()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec | part))
    with pytest.raises(TokenizerError, match="not a byte-level BPE"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(("steps", "expected"), [([], None), ([{"type": "NFC"}], "NFC")])
def test_a_sequence_of_at_most_one_normalizer_is_that_one(
    tmp_path: Path, steps: list[dict[str, str]], expected: str | None
) -> None:
    spec = json.loads(tiny.tokenizer()) | {"normalizer": {"type": "Sequence", "normalizers": steps}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert Tokenizer.from_file(tmp_path / "tokenizer.json").normal_form == expected
