"""Train a tokenizer of one of four kinds; the result is the `tokenizers` library's own, and so is its file.

    bpe        byte-level byte-pair encoding (arXiv 1508.07909, on bytes as in GPT-2)
    char       every character one token, spelled in bytes: no merge crosses a character
    wordpiece  pieces of words, a continuation marked by ## (BERT's, arXiv 1810.04805)
    word       whole words

`bpe` and `char` know all 256 bytes: every text becomes ids and comes back as it was, characters never seen
included. They have `<|endoftext|>`, which stands between texts, and ChatML's two control tokens, so that what
is pretrained on them can learn to chat. Both load through tiktoken in `model.tokenizer`.

The word kinds have [UNK], [BOS] and [EOS]: a word that they do not know is lost. They are here to be looked
at beside the others, not to pretrain on. Chinese characters count as words of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from model.chat import END, START
from model.errors import TokenizerError
from model.formats.bpe import PRE_TOKENIZERS, pre_tokenizer
from model.tokenizer import byte_alphabet

Kind = Literal["bpe", "char", "wordpiece", "word"]
END_OF_TEXT = "<|endoftext|>"
SPECIAL = [END_OF_TEXT, START, END]
UNKNOWN, FIRST, LAST = "[UNK]", "[BOS]", "[EOS]"
#: Size of a vocabulary, where none is given; a char vocabulary has every character that was seen.
DEFAULT_SIZE = 8192
#: Any one character; means the same to every library that reads it.
CHARACTER = r"[\s\S]"


def train(
    texts: Iterable[str],
    kind: Kind,
    *,
    vocab_size: int | None = None,
    rule: str = "gpt-2",
    min_frequency: int = 2,
) -> Tokenizer:
    """Train on texts.

    Args:
        texts: to learn from; blank ones are passed over.
        kind: see the module.
        vocab_size: most tokens, special ones included.
        rule: how bpe cuts a text before it merges: a name in `model.formats.bpe.PRE_TOKENIZERS`.
        min_frequency: how often a pair, or a word, must be seen to become a token.

    Raises:
        TokenizerError: no text, an unknown rule, or a vocabulary too small for what it must hold.
    """
    if rule not in PRE_TOKENIZERS:
        raise TokenizerError(f"there is no rule {rule!r}; there are {', '.join(PRE_TOKENIZERS)}")
    if min_frequency < 1:
        raise TokenizerError(f"min_frequency must be at least 1, got {min_frequency}")
    least = len(SPECIAL) + 256 if kind in ("bpe", "char") else len((UNKNOWN, FIRST, LAST)) + 1
    if vocab_size is not None and vocab_size < least:
        what = "all 256 bytes and the special tokens" if least > 256 else "the special tokens and one more"
        raise TokenizerError(f"vocab_size {vocab_size} is too small: {what} make {least}")
    seen = _Seen(texts)
    made = {
        "bpe": lambda: _bpe(seen, vocab_size or DEFAULT_SIZE, rule, min_frequency),
        "char": lambda: _char(seen, vocab_size),
        "wordpiece": lambda: _wordpiece(seen, vocab_size or DEFAULT_SIZE, min_frequency),
        "word": lambda: _word(seen, vocab_size or DEFAULT_SIZE, min_frequency),
    }[kind]()
    if not seen.count:
        raise TokenizerError("there is no text to learn from: it is empty, or white space only")
    if (size := made.get_vocab_size()) > (vocab_size or size):
        raise TokenizerError(
            f"vocab_size {vocab_size} is too small: the characters of this text alone make {size} tokens"
        )
    return made


class _Seen:
    """Texts that are not blank, counted as they go by."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts, self.count = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            if text.strip():
                self.count += 1
                yield text


def _bpe(texts: Iterable[str], size: int, rule: str, least: int) -> Tokenizer:
    made = Tokenizer(models.BPE())
    if PRE_TOKENIZERS[rule][1] == "NFC":
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizer(rule)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(byte_alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def _char(texts: Iterable[str], size: int | None) -> Tokenizer:
    """Merges that spell characters, the commonest first; pieces of characters share their beginnings."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    letters = {byte: sign for sign, byte in byte_alphabet().items()}
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *sorted(byte_alphabet())))}
    merges: list[tuple[str, str]] = []
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        signs = [letters[byte] for byte in character.encode("utf-8", "ignore")]
        steps = [("".join(signs[:i]), signs[i]) for i in range(1, len(signs))]
        new = [(left, right) for left, right in steps if left + right not in vocabulary]
        if size is not None and len(vocabulary) + len(new) > size:
            break
        for left, right in new:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CHARACTER), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


def _wordpiece(texts: Iterable[str], size: int, least: int) -> Tokenizer:
    made = _of_words(Tokenizer(models.WordPiece(unk_token=UNKNOWN)))
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=[UNKNOWN, FIRST, LAST],
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return _framed(made)


def _word(texts: Iterable[str], size: int, least: int) -> Tokenizer:
    made = _of_words(Tokenizer(models.WordLevel(unk_token=UNKNOWN)))
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=least, special_tokens=[UNKNOWN, FIRST, LAST], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return _framed(made)


def _of_words(made: Tokenizer) -> Tokenizer:
    """Words, marks and single Chinese characters, in the letters in which they were written."""
    made.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def _framed(made: Tokenizer) -> Tokenizer:
    """[BOS] before every text and [EOS] behind it."""
    made.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        pair=f"{FIRST} $A {LAST} {FIRST}:1 $B:1 {LAST}:1",
        special_tokens=[(name, made.token_to_id(name)) for name in (FIRST, LAST)],
    )
    return made
