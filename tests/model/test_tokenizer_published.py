"""The published tokenizers of GPT-2 and Qwen2.5: ids, control tokens and chat template as their own libraries have them."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path

import pytest
import tiktoken_ext.openai_public as openai_public
from hypothesis import given, settings
from tokenizers import Tokenizer as Reference
from transformers import PreTrainedTokenizerFast

from model.chat import ChatTemplate
from model.tokenizer import Tokenizer
from tests.model.test_tokenizer import TEXTS

FIXTURES = Path(__file__).parent / "fixtures"
QWEN = "qwen2.5-0.5b-instruct"
#: SHA-256 of Qwen/Qwen2.5-0.5B-Instruct's files, as the hub lists them.
PUBLISHED = {
    "tokenizer.json": "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
    "tokenizer_config.json": "5b5d4f65d0acd3b2d56a35b56d374a36cbc1c8fa5cf3b3febbbfabf22f359583",
}
PROSE = [
    "Lorebase answers from your own documents; it doesn't guess: 1,234 of them, we'll say.",
    "知识库根据文档回答问题，并给出可以核对的引用。检索拡張生成とは何ですか。",
    "def add(a: int, b: int):\n    return a + b\n\n\nif __name__:\n\tprint(add(1, 22222))\r\n",
    "naïve café 🙂👍🏽 e\u0301  ½ ٣ Ⅷ … — “quoted”   \n\n   <|im_end|><|endoftext|>",
]


@pytest.fixture(scope="module", params=["gpt2", QWEN])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Reference]:
    """Ours and the `tokenizers` library's, of one published file."""
    content = lzma.decompress((FIXTURES / f"{request.param}.tokenizer.json.xz").read_bytes())
    file = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    file.write_bytes(content)
    # Control tokens that stand in text are plain text to us; the library has no such switch, so it gets none.
    spec = json.loads(content)
    spec["added_tokens"] = []
    return Tokenizer.from_file(file), Reference.from_str(json.dumps(spec))


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_any_text_has_the_published_ids(both: tuple[Tokenizer, Reference], text: str) -> None:
    ours, theirs = both
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_prose_has_the_published_ids_and_comes_back(both: tuple[Tokenizer, Reference]) -> None:
    import unicodedata

    ours, theirs = both
    for text in PROSE:
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == (
            unicodedata.normalize(ours.normal_form, text) if ours.normal_form else text
        )


def test_the_fixtures_are_what_was_published() -> None:
    qwen = {
        "tokenizer.json": lzma.decompress((FIXTURES / f"{QWEN}.tokenizer.json.xz").read_bytes()),
        "tokenizer_config.json": (FIXTURES / f"{QWEN}.tokenizer_config.json").read_bytes(),
    }
    assert {name: hashlib.sha256(content).hexdigest() for name, content in qwen.items()} == PUBLISHED
    spec = json.loads(lzma.decompress((FIXTURES / "gpt2.tokenizer.json.xz").read_bytes()))
    merges = "\n".join(["#version: 0.2", *spec["model"]["merges"], ""]).encode()
    assert hashlib.sha256(merges).hexdigest() in Path(openai_public.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_published_chat_template_gives_the_same_ids(system: str | None, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(lzma.decompress((FIXTURES / f"{QWEN}.tokenizer.json.xz").read_bytes()))
    config = json.loads((FIXTURES / f"{QWEN}.tokenizer_config.json").read_text(encoding="utf-8"))
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(file), chat_template=config["chat_template"], eos_token=config["eos_token"]
    )
    ours = ChatTemplate.recognise(config["chat_template"], source=QWEN)
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": "user", "content": "你是谁？ Who are you?"},
        {"role": "assistant", "content": "A model."},
        {"role": "user", "content": "Thanks\n\nbye "},
    ]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ours.encode(messages, Tokenizer.from_file(file)).ids == ids
