"""A byte-level BPE described by lists, as GGUF does, written as a Hugging Face `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from model.errors import TokenizerError, UnsupportedModel

CONTROL = 3  #: GGUF's token type for tokens that steer the model and never stand for text
KINDS = range(1, 7)


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    bytes_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":  # every digit alone, then GPT-2's pattern
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_level])
    if name in ("gpt-2", "default"):
        return bytes_level
    raise UnsupportedModel(f"pre-tokenizer {name!r} is not supported; supported are smollm and gpt-2.")


def tokenizer_json(
    *, model: str, pre: str, tokens: Sequence[str], merges: Sequence[str], kinds: Sequence[int]
) -> bytes:
    """`tokenizer.json` from GGUF's lists; the tokens of kind CONTROL become special added tokens.

    Raises:
        UnsupportedModel: not a byte-level BPE, or another pre-tokenizer.
        TokenizerError: lists that do not fit together.
    """
    if model != "gpt2":
        raise UnsupportedModel(
            f"tokenizer model {model!r} is not supported; supported is gpt2 (byte-level BPE)."
        )
    if len(kinds) != len(tokens) or not all(kind in KINDS for kind in kinds):
        raise TokenizerError(f"{len(tokens)} tokens and {len(kinds)} token types do not fit together.")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise TokenizerError(f"the vocabulary of {len(tokens)} tokens holds duplicates.")
    pairs: list[tuple[str, str]] = []
    for rank, merge in enumerate(merges):
        left, space, right = merge.partition(" ")
        if not space or not {left, right, left + right} <= vocabulary.keys():
            raise TokenizerError(f"merge {rank} ({merge!r}) joins pieces that are not in the vocabulary.")
        pairs.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer.to_str().encode()
