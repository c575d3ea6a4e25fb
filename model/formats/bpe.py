"""Byte-level BPE between GGUF's lists and a Hugging Face `tokenizer.json`, in both directions.

GGUF holds tokens, merges and token types, and only the *name* of the pre-tokenizer, the rule by which text is
cut before it is merged. A name that is not known here is refused: with another rule the ids would be slightly
wrong everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from model.errors import TokenizerError, UnsupportedModel
from model.tokenizer import BYTE_LEVEL, DIGITS_BYTE_LEVEL

#: GGUF's token types: text, tokens that steer the model and never stand for text, added words, ids left out.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
KINDS = range(1, 7)
#: The pattern of Qwen2; as published, it is the pre-tokenizer's definition.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Name in GGUF -> how `model.tokenizer` describes it: its pattern and its Unicode normal form. The first that
#: fits is what is written.
PRE_TOKENIZERS: dict[str, tuple[str, str | None]] = {
    "gpt-2": (BYTE_LEVEL, None),
    "smollm": (DIGITS_BYTE_LEVEL, None),
    "qwen2": (QWEN2, "NFC"),
    "deepseek-r1-qwen": (QWEN2, None),
    "default": (BYTE_LEVEL, None),  # files from before the name existed
}


def pre_tokenizer_name(pattern: str, normal_form: str | None, where: str) -> str:
    """What GGUF calls the pre-tokenizer with this pattern and normal form.

    Raises:
        UnsupportedModel: it has no name there that is known here.
    """
    for name, rule in PRE_TOKENIZERS.items():
        if rule == (pattern, normal_form):
            return name
    raise UnsupportedModel(
        f"{where}: GGUF's name for this pre-tokenizer is not known here; known are "
        f"{', '.join(PRE_TOKENIZERS)}. Export a Hugging Face folder and convert it with llama.cpp."
    )


def pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer of that name in GGUF files.

    Raises:
        UnsupportedModel: it is not known here.
    """
    if name not in PRE_TOKENIZERS:
        raise UnsupportedModel(
            f"pre-tokenizer {name!r} is not supported; supported are {', '.join(PRE_TOKENIZERS)}. "
            "Pull the model's Hugging Face folder instead: its tokenizer.json says the rule itself."
        )
    pattern = PRE_TOKENIZERS[name][0]
    bytes_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern == BYTE_LEVEL:
        return bytes_level
    if pattern == DIGITS_BYTE_LEVEL:  # every digit alone, then GPT-2's pattern
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_level])
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def tokenizer_json(
    *,
    model: str,
    pre: str,
    tokens: Sequence[str],
    merges: Sequence[str],
    kinds: Sequence[int],
    bos: int | None = None,
) -> bytes:
    """`tokenizer.json` from GGUF's lists.

    Tokens of type CONTROL become special added tokens, those of type USER_DEFINED added ones, those of type
    UNUSED (which fill a vocabulary up to the number of rows) are left out. `bos` is put before every text.

    Raises:
        UnsupportedModel: not a byte-level BPE, or another pre-tokenizer.
        TokenizerError: lists that do not fit together.
    """
    if model != "gpt2":
        raise UnsupportedModel(
            f"tokenizer model {model!r} is not supported; supported is gpt2 (byte-level BPE). "
            "Pull a model of the GPT-2, SmolLM or Qwen families."
        )
    if len(kinds) != len(tokens) or not all(kind in KINDS for kind in kinds):
        raise TokenizerError(f"{len(tokens)} tokens and {len(kinds)} token types do not fit together.")
    used = [(i, token) for i, token in enumerate(tokens) if kinds[i] != UNUSED]
    vocabulary = {token: i for i, token in used}
    if len(vocabulary) != len(used):
        raise TokenizerError(f"the vocabulary of {len(tokens)} tokens holds duplicates.")
    pairs: list[tuple[str, str]] = []
    for rank, merge in enumerate(merges):
        left, space, right = merge.partition(" ")
        if not space or not {left, right, left + right} <= vocabulary.keys():
            raise TokenizerError(f"merge {rank} ({merge!r}) joins pieces that are not in the vocabulary.")
        pairs.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    if PRE_TOKENIZERS[pre][1] == "NFC":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    added = [
        AddedToken(token, special=kinds[i] == CONTROL, normalized=False)
        for i, token in used
        if kinds[i] in (CONTROL, USER_DEFINED)
    ]
    tokenizer.add_tokens(added)
    if bos is not None:
        if bos not in range(len(tokens)) or kinds[bos] != CONTROL:
            raise TokenizerError(f"the token {bos}, put before every text, is no control token.")
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]}:0 $A:0",
            pair=f"{tokens[bos]}:0 $A:0 {tokens[bos]}:1 $B:1",
            special_tokens=[(tokens[bos], bos)],
        )
    return tokenizer.to_str().encode()


def lists(
    tokens: dict[int, str], added: dict[int, bool], merges: Sequence[Any], size: int
) -> tuple[list[str], list[int], list[str]]:
    """GGUF's tokens, token types and merges; `size` rows, those without a token being UNUSED."""
    kinds = [
        UNUSED if i not in tokens else NORMAL if i not in added else CONTROL if added[i] else USER_DEFINED
        for i in range(size)
    ]
    texts = [tokens.get(i, f"[PAD{i}]") for i in range(size)]
    return texts, kinds, [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
