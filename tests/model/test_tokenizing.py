"""Tokenizers of one's own: every text comes back, four libraries agree, and what cannot be is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.__main__ import main
from model.errors import ModelError, TokenizerError
from model.tokenizer import Tokenizer
from model.tokenizing import compare, shelf
from model.tokenizing.train import CHARACTER, SPECIAL, train

TEXTS = [
    "She was happy and unhappy; happiness and unhappiness, sadness and kindness, undo and unsafe.\n" * 3,
    "He does the same unkind things 12 times in 2024, happily.\n\n\tBut it's naïve, isn't it?\n" * 3,
    "不知道的事情很多，知道的事情很少。機器學習與自然語言處理。\n" * 3,
    "Ünïcode 😀 and ελληνικά",
]
WORDS = ["She", "was", "happy", "and", "unhappy", "不", "知", "道"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for kind in ("bpe", "char", "wordpiece", "word"):
        shelf.save(train(TEXTS, kind, vocab_size=None if kind == "char" else 420), kind, home, {})
    shelf.save(train(TEXTS, "bpe", vocab_size=300, rule="qwen2"), "qwen", home, {})
    return home


# Any text, and text of the very words and signs that the merges know.
ANY = st.one_of(
    st.text(), st.lists(st.sampled_from([*WORDS, " ", "\n", "ness", "12", "😀", "<|im_end|>"])).map("".join)
)


@pytest.mark.parametrize("name", ["bpe", "char"])
@given(text=ANY)
@settings(max_examples=60, deadline=None)
def test_every_text_comes_back_and_the_library_agrees(home: Path, name: str, text: str) -> None:
    file = shelf.find(name, home)
    ours, library = Tokenizer.from_file(file), shelf.library(file)
    library.encode_special_tokens = True
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert library.encode(text, add_special_tokens=False).ids == ids
    assert library.decode(ids, skip_special_tokens=False) == text
    assert compare.tiktoken_of(file, ours).encode_ordinary(text) == ids


@given(text=st.text(alphabet=sorted(set("".join(TEXTS)))))
@settings(max_examples=30, deadline=None)
def test_a_char_vocabulary_makes_one_token_of_every_character_it_saw(home: Path, text: str) -> None:
    ours = Tokenizer.from_file(shelf.find("char", home))
    assert [ours.token_bytes(i).decode() for i in ours.encode(text)] == list(text)


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_word_kinds_give_back_the_words_that_they_know(home: Path, words: list[str]) -> None:
    for name in ("word", "wordpiece"):
        library = shelf.library(shelf.find(name, home))
        encoded = library.encode(" ".join(words))
        assert (
            encoded.tokens[0] == "[BOS]" and encoded.tokens[-1] == "[EOS]" and "[UNK]" not in encoded.tokens
        )
        assert library.decode(encoded.ids).split() == words
    assert library.encode("ж").tokens == ["[BOS]", "[UNK]", "[EOS]"], "a letter never seen"


def test_transformers_loads_all_of_them_and_gives_the_same_ids(home: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for name in ("bpe", "char", "wordpiece", "word", "qwen"):
        theirs = transformers.AutoTokenizer.from_pretrained(home / "tokenizers" / name)
        for text in (TEXTS[0], TEXTS[2]):
            assert theirs.encode(text) == shelf.library(shelf.find(name, home)).encode(text).ids
    assert theirs.eos_token == SPECIAL[0] and theirs.unk_token is None
    chat = theirs.apply_chat_template(
        [{"role": "user", "content": "q"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    words = transformers.AutoTokenizer.from_pretrained(home / "tokenizers" / "word")
    assert (words.unk_token, words.bos_token, words.eos_token) == ("[UNK]", "[BOS]", "[EOS]")


def test_compare_shows_how_each_cuts(home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("".join(TEXTS))
    names = ("bpe", "char", "wordpiece", "word")
    text = "unsadness 不知道"  # a word never seen, of parts that were
    assert (
        main(
            [
                "tokenizer",
                "compare",
                *names,
                "--text",
                text,
                "--file",
                str(file),
                "--rounds",
                "1",
                "--json",
                "--home",
                str(home),
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    cuts = {one["tokenizer"]: one for one in told["cuts"]}
    assert cuts["char"]["tokens"] == list(text)
    assert "".join(cuts["bpe"]["tokens"]) == text and 3 < len(cuts["bpe"]["tokens"]) < len(text)
    pieces = cuts["wordpiece"]["tokens"]
    assert "".join(p.removeprefix("##") for p in pieces) == text.replace(" ", "") and any(
        p[:2] == "##" for p in pieces
    )
    assert cuts["word"]["tokens"] == ["[UNK]", "不", "知", "道"] and cuts["word"]["unknown"] == 1
    libraries = {name: [one["library"] for one in rows] for name, rows in told["speeds"].items()}
    assert libraries["bpe"] == libraries["char"] == ["lorebase", "tiktoken", "tokenizers", "transformers"]
    assert libraries["word"] == ["tokenizers", "transformers"]
    assert main(["tokenizer", "inspect", "bpe", "--home", str(home)]) == 0
    assert "BPE, 399 tokens" in capsys.readouterr().out


def test_training_is_a_command_that_reads_what_is_there_and_says_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, texts = tmp_path / "home", tmp_path / "texts"
    texts.mkdir()
    (texts / "good.txt").write_text("".join(TEXTS))
    (texts / "rows.jsonl").write_text('{"text": "happy rows"}\n{"body": "no text"}\nno json\n')
    (texts / "binary.txt").write_bytes(b"\x00\x01\xff" * 50)
    (texts / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert (
        main(["tokenizer", "train", str(texts), "--name", "mine", "--vocab-size", "300", "--home", str(home)])
        == 0
    )
    out, err = capsys.readouterr()
    assert "300 tokens" in out and "| " in out
    for part in (
        "binary.txt is binary",
        "latin.txt is not UTF-8",
        "line 2: has no text in the column",
        "line 3: is not valid JSON",
    ):
        assert part in err
    assert (home / "tokenizers" / "mine" / "tokenizer_config.json").is_file()
    (texts / "empty.txt").write_text(" \n")
    for wanted, arguments in {
        "exists; choose another": [str(texts), "--name", "mine"],
        "there is no text to learn from": [str(texts / "empty.txt")],
        "binary, not text": [str(texts / "binary.txt")],
        "does not exist": [str(texts / "nowhere")],
        "259": [str(texts), "--vocab-size", "200"],
        "the characters of this text alone": [str(texts), "--kind", "wordpiece", "--vocab-size", "20"],
        "cannot be a tokenizer's name": [str(texts), "--name", "../x"],
    }.items():
        assert main(["tokenizer", "train", *arguments, "--home", str(home)]) == 1
        assert wanted in capsys.readouterr().err
    for taken in ("mine", "../x"):  # said before minutes of training
        monkeypatch.setattr("model.tokenizing.command.train", lambda *_, **__: pytest.fail("it trained"))
        assert main(["tokenizer", "train", str(texts), "--name", taken, "--home", str(home)]) == 1
    with pytest.raises(TokenizerError, match="there are mine"):
        shelf.find("other", home)
    with pytest.raises(ModelError, match="no rule"):
        train(TEXTS, "bpe", rule="gpt-9")


def test_a_char_vocabulary_that_is_cut_keeps_the_commonest_and_loses_nothing() -> None:
    made = train(["的" * 50 + "一" * 40 + "是" * 3], "char", vocab_size=259 + 5)
    assert made.get_vocab_size() <= 264
    assert len(made.encode("的一").ids) == 2 and len(made.encode("是").ids) > 1
    assert made.decode(made.encode("的一是龘").ids) == "的一是龘"
    assert CHARACTER in made.to_str().replace("\\\\", "\\")
